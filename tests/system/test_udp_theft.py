"""Nobody else on the host can take a connected UDP socket's datagrams.

The kernel does not keep UDP tuples unique: with SO_REUSEADDR on both sides any user may bind and connect the tuple of
another one's socket, which goes deaf. So sockets share a port by SO_REUSEPORT, which the kernel grants to sockets of
the same user only.
"""

import os
import time

import harness
import pytest

TO = "127.0.0.1"
UDP = "tcp,udp"
THIEF = 54321
backends = pytest.mark.parametrize("backend", ["auto", "explicit"])

# Says where it is, and what it hears when it is told to send.
VICTIM = """
import socket, sys
s = socket.socket(FAMILY, socket.SOCK_DGRAM)
BEFORE
s.connect((TO, 8001))
s.settimeout(5)
print(*s.getsockname()[:2], flush=True)
for line in sys.stdin:
    s.send(b"query")
    try:
        print(s.recv(100).decode(), flush=True)
    except TimeoutError:
        print("nothing", flush=True)
"""

# A server's sockets, which share a port, and how many datagrams they hear.
GROUP = """
import select, socket, sys
group = []
for i in range(4):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 40001))
    group.append(s)

def heard(count=0):
    while select.select(group, [], [], 0.2)[0]:
        for s in select.select(group, [], [], 0)[0]:
            s.recv(100)
            count += 1
    return count
"""

# 200 datagrams to them, from as many ports, so that all of the group are met.
SENDERS = """
import socket
for i in range(200):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.%d" % (2 + i % 200), 20000 + i))
    s.sendto(b"x", ("127.0.0.1", 40001))
"""

# Tries every way onto a tuple: options, and a narrow range instead of a port.
ATTACK = """
import errno, itertools, socket, struct, sys
laddr, lport, to, port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
family = socket.AF_INET6 if ":" in laddr else socket.AF_INET
keep = []
for at in (laddr, "::" if ":" in laddr else "0.0.0.0", None):
    for reuseaddr, reuseport, narrow in itertools.product((0, 1), repeat=3):
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuseaddr)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuseport)
        try:
            if narrow:
                s.setsockopt(socket.SOL_IP, 51, struct.pack("I", lport | lport << 16))
                s.setsockopt(socket.SOL_IP, 24, 1)
            if at is not None:
                s.bind((at, 0 if narrow else lport))
            elif not narrow:
                continue
            s.connect((to, port))
            if s.getsockname()[1] == lport:
                print("in:", at, reuseaddr, reuseport, narrow)
                keep.append(s)
        except OSError as e:
            assert e.errno in (errno.EADDRINUSE, errno.EAGAIN), e
print("tried", flush=True)
sys.stdin.read()
"""


def victim(host, to=TO, before="", preload="run", **settings):
    text = VICTIM.replace("FAMILY", "socket.AF_INET6" if ":" in to else "socket.AF_INET") \
                 .replace("TO", repr(to)).replace("BEFORE", before)
    running = host.start(harness.PYTHON, "-c", text, preload=preload, protocols=UDP, **settings)
    name = running.line()
    assert name, running.errors()
    return running, name.split()


def as_user(uid, *argv):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv]


def attack(host, name, to, uid=THIEF):
    thief = host.start(*as_user(uid, harness.PYTHON, "-c", ATTACK, *name, to, 8001))
    lines = []
    while (line := thief.line()) not in ("tried", None):
        lines.append(line)
    assert line == "tried", thief.errors()
    return lines


ANSWERER = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 8001))
print("ready", flush=True)
while True:
    asked, whom = s.recvfrom(100)
    s.sendto(b"answer to " + asked, whom)
"""


def answer(host, to):
    server = host.start(harness.PYTHON, "-c", ANSWERER, to)
    assert server.line() == "ready", server.errors()


@backends
@pytest.mark.parametrize("to", ["127.0.0.1", "::1"], ids=["v4", "v6"])
@pytest.mark.parametrize("settings", [{}, {"addrs": "127.0.0.8,fd00::8"}], ids=["auto", "pool"])
def test_another_user_is_refused(host, to, settings, backend):
    if os.getuid() != 0:
        pytest.skip("there is only one user here")
    host.add_addresses("fd00::8")
    to = "fd00::8" if ":" in to and settings else to
    answer(host, to)
    running, name = victim(host, to, backend=backend, **settings)
    assert attack(host, name, to) == []
    running.say("go")
    assert running.line() == "answer to query"


@backends
def test_another_user_is_refused_where_the_port_is_shared(host, backend):
    """Three destinations through the whole range: each port is shared, and still nobody's but this user's."""
    if os.getuid() != 0:
        pytest.skip("there is only one user here")
    host.set_ports(40000, 40019)
    steps = host.steps(protocols=UDP, backend=backend)
    for port in (8001, 8002, 8003):
        steps.open(TO, port, 20, "udp")
    tuples = host.tuples(8001, protocol="udp")
    assert len(tuples) == 20
    for t in tuples[:3]:
        assert attack(host, (t.laddr, t.lport), TO) == []


def test_who_has_set_reuseaddr_himself_keeps_it(host):
    """The program's own choice, as without tuplebind."""
    _, name = victim(host, before="s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)")
    plain, there = victim(host, before="s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)", preload=None)
    if os.getuid() == 0:
        assert bool(attack(host, name, TO)) == bool(attack(host, there, TO)) == True
    plain.signal()


@backends
def test_group_of_a_server_of_the_same_user(host, backend):
    """A QUIC server's sockets share a port by SO_REUSEPORT. It loses no datagram to clients of the same user."""
    host.set_ports(40000, 40003)
    server = host.start(harness.PYTHON, "-c", GROUP + """
print("ready", flush=True)
for line in sys.stdin:
    print(heard(), flush=True)
""")
    assert server.line() == "ready", server.errors()
    steps = host.steps(protocols=UDP, backend=backend)
    for port in (8001, 8002):
        fds = [steps.socket("udp") for _ in range(4)]
        answers = [steps.connect(fd, TO, port) for fd in fds]
        assert answers.count("0") == 3, answers
        assert {t.lport for t in host.tuples(port, protocol="udp")} == {40000, 40002, 40003}
    host.must(harness.PYTHON, "-c", SENDERS)
    server.say("how many")
    assert server.line() == "200"


@backends
def test_server_that_starts_later(host, backend):
    """Its group forms beside our connected sockets on the port, and hears all that is not theirs."""
    host.set_ports(40000, 40003)
    steps = host.steps(protocols=UDP, backend=backend)
    steps.open(TO, 8001, 4, "udp")
    assert host.must(harness.PYTHON, "-c", GROUP + SENDERS + "print(heard())") == "200\n"


def test_strangers_are_forgotten_in_time(host):
    """A port that a stranger once had is taken again when he is gone, and alone."""
    # The ports that are forgotten next: 1,024 each second.
    first = 1024 * ((int(time.clock_gettime(time.CLOCK_MONOTONIC)) + 5) % 64 or 1) + 100
    host.set_ports(first, first + 1)
    stranger = host.steps(preload=None)
    for port in host.ports:
        fd = stranger.socket("udp")
        assert stranger(f"bind {fd} {TO} {port}") == "0"
    steps = host.steps(protocols=UDP)
    fd = steps.socket("udp")
    assert steps.connect(fd, TO, 8001) == "EAGAIN"

    def strangers():
        [table] = host.tables()
        return {int(port) for port in host.must(harness.program("claims"), table, "strangers").split()}

    assert strangers() == host.ports
    assert stranger.program.end() == 0
    harness.eventually(lambda: steps.connect(fd, TO, 8001) == "0")
    ports = iter(range(9001, 65535))

    def forgotten():
        steps.connect(steps.socket("udp"), TO, next(ports))
        return strangers() == set()

    harness.eventually(forgotten, limit=3 * harness.LIMIT)
