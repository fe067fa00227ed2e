"""flows ORDER...: UDP sockets for the system tests; a program like any other, without tuplebind's help.

    server ADDRESS PORT...     echoes what comes to each port, with its own port in front
    open TO COUNT PORT...      connects COUNT sockets to each port; prints how many came about and why
                               no more, has each echo something of its own, waits for a line
    strays TO PORT FIRST LAST  sends to all ports FIRST to LAST of TO until it is ended
"""

import selectors
import socket
import sys


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def tell(*words):
    print(*words, flush=True)


def server(address, *ports):
    selector = selectors.DefaultSelector()
    for port in ports:
        made = socket.socket(family_of(address), socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        made.bind((address, int(port)))
        selector.register(made, selectors.EVENT_READ)
    tell("ready")
    while True:
        for key, _ in selector.select():
            got, peer = key.fileobj.recvfrom(2048)
            key.fileobj.sendto(f"{key.fileobj.getsockname()[1]} ".encode() + got, peer)


def connect_all(to, count, port):
    opened, why = [], "none"
    for _ in range(count):
        made = socket.socket(family_of(to), socket.SOCK_DGRAM)
        try:
            made.connect((to, port))
        except OSError as error:
            why = error.errno
            break
        opened.append(made)
    return opened, why


def echo(opened, port):
    """Each socket hears what it said, from the server it spoke to, and nothing else. How many did."""
    heard = 0
    for begin in range(0, len(opened), 50):  # few enough for the server's buffer
        part = opened[begin:begin + 50]
        for s in part:
            s.send(repr(s.getsockname()).encode())
        for s in part:
            s.settimeout(20)
            heard += s.recv(2048) == f"{port} {s.getsockname()!r}".encode()
    for s in opened:
        s.setblocking(False)
        try:
            tell("crossed", s.recv(2048))
        except BlockingIOError:
            pass
    return heard


def open_flows(to, count, *ports):
    flows = {}
    for port in map(int, ports):
        flows[port], why = connect_all(to, int(count), port)
        tell(port, len(flows[port]), why)
    for port, opened in flows.items():
        tell("heard", port, echo(opened, port))
    input()


def strays(to, port, first, last):
    sender = socket.socket(family_of(to), socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sender.bind((to, int(port)))
    tell("ready")
    while True:
        for to_port in range(int(first), int(last) + 1):
            try:
                sender.sendto(b"stray", (to, to_port))
            except OSError:
                pass


{"server": server, "open": open_flows, "strays": strays}[sys.argv[1]](*sys.argv[2:])
