"""UDP (TUPLEBIND_PROTOCOLS=tcp,udp): as many connected sockets to each destination as there are ports.

The kernel does not keep UDP tuples unique: with two sockets of one tuple, one goes deaf. So what is
looked at here is whether datagrams arrive where they belong: at the socket that spoke, at strangers.
"""

import collections
import errno
import pathlib

import harness
import pytest

TO = "127.0.0.1"
POOL = "127.0.0.8-127.0.0.9"
POOL_ADDRESSES = {"127.0.0.8", "127.0.0.9"}
UDP = "tcp,udp"
FLOWS = pathlib.Path(harness.REPOSITORY) / "tests" / "helpers" / "flows.py"

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


def flows(host, *words, preload="run", **settings):
    return host.start(harness.PYTHON, FLOWS, *words, preload=preload, protocols=UDP, **settings)


def serve(host, address, *ports):
    server = flows(host, "server", address, *ports, preload=None)
    assert server.line() == "ready", server.errors()
    return server


def script(host, text, *words, preload="run", **settings):
    """Runs a Python script that imports what sockets need; what it printed."""
    head = "import errno, os, socket, struct, sys\ndef udp(family=socket.AF_INET):\n" \
           "    return socket.socket(family, socket.SOCK_DGRAM)\n"
    settings.setdefault("protocols", UDP)
    result = host.run(harness.PYTHON, "-c", head + text, *words, preload=preload, **settings)
    assert (result.code, result.err) == (0, ""), result
    return result.out


def udp_claims(host, port=None):
    return host.claims(port, protocol="udp")


def expect_exact(host, *ports):
    assert udp_claims(host) == sorted(t for port in ports for t in host.tuples(port, protocol="udp"))


# As many as there are

@backends
@pytest.mark.parametrize("to", [TO, "::1"])
def test_three_destinations(host, to, backend):
    """The whole range to each of three; every echo arrives where it belongs, none crosses."""
    host.set_ports(40000, 40999)
    serve(host, to, 8001, 8002, 8003)
    running = flows(host, "open", to, 1001, 8001, 8002, 8003, backend=backend)
    for port in (8001, 8002, 8003):
        assert running.line() == f"{port} 1000 {errno.EAGAIN}"
    for port in (8001, 8002, 8003):
        assert running.line(60) == f"heard {port} 1000"
        assert {t.lport for t in host.tuples(port, protocol="udp")} == host.ports
    expect_exact(host, 8001, 8002, 8003)
    running.say("")
    assert running.wait() == 0
    assert udp_claims(host) == []


def test_plain_has_them_once(host):
    """What the test above is worth: without, the range is for all destinations together."""
    host.set_ports(40000, 40099)
    serve(host, TO, 8001, 8002)
    running = flows(host, "open", TO, 101, 8001, 8002, preload=None)
    assert running.line() == f"8001 100 {errno.EAGAIN}"
    assert running.line() == f"8002 0 {errno.EAGAIN}"


@backends
def test_two_processes(host, backend):
    """Together exactly the range to each destination, and no echo goes to the wrong process."""
    host.set_ports(40000, 40399)
    serve(host, TO, 8001, 8002)
    both = [flows(host, "open", TO, 300, *ports, backend=backend)
            for ports in ((8001, 8002), (8002, 8001))]
    opened = collections.Counter()
    for running in both:
        for _ in range(2):
            port, count, _ = running.line(60).split()
            opened[port] += int(count)
    assert opened == {"8001": 400, "8002": 400}
    heard = collections.Counter()
    for running in both:
        for _ in range(2):
            _, port, count = running.line(60).split()
            heard[port] += int(count)
    assert heard == {"8001": 400, "8002": 400}
    expect_exact(host, 8001, 8002)


@backends
def test_pool(host, backend):
    """N addresses and P ports: N x P."""
    host.set_ports(40000, 40049)
    serve(host, "0.0.0.0", 8001)
    running = flows(host, "open", TO, 101, 8001, addrs=POOL, backend=backend)
    assert running.line() == f"8001 100 {errno.EAGAIN}"
    assert running.line() == "heard 8001 100"
    assert {(t.laddr, t.lport) for t in udp_claims(host)} == \
        {(a, p) for a in POOL_ADDRESSES for p in host.ports}


def test_status_tells_the_protocol(host):
    serve(host, TO, 8001)
    running = flows(host, "open", TO, 3, 8001)
    assert running.line() == "8001 3 none"
    [line] = [line.split() for line in host.status_text() if line.endswith(f" {TO} -> {TO}:8001 (udp)")]
    assert line[0] == "3"


def test_v4_mapped(host):
    """An AF_INET6 socket to a v4-mapped destination is in the same lane as an AF_INET one."""
    host.set_ports(40000, 40009)
    said = script(host, f"""
made = []
for family, to in ((socket.AF_INET6, "::ffff:{TO}"), (socket.AF_INET, "{TO}")) * 5:
    s = udp(family)
    s.connect((to, 8001))
    made.append(s)
print(sorted(s.getsockname()[1] for s in made) == list(range(40000, 40010)))
try:
    udp().connect(("{TO}", 8001))
except OSError as e:
    print(e.errno == errno.EAGAIN)
""", log="off")
    assert said == "True\nTrue\n"


@pytest.mark.parametrize("first, second", [("::1", f"::ffff:{TO}"), (f"::ffff:{TO}", "::1")])
@pytest.mark.parametrize("only", [0, 1])
def test_to_the_other_family_next(host, first, second, only):
    """A socket for both stays one, a socket for IPv6 only as well: what connects without us does so with us."""
    text = f"""
s = udp(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, {only})
for to in ("{first}", "{second}", "{first}"):
    print(s.connect_ex((to, 8001)), s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
"""
    plain = script(host, text, preload=None)
    assert script(host, text) == plain != ""
    if not only and first == "::1":
        assert plain == "0 0\n" * 3
    # A connect() that the kernel refused may have bound the socket: then it is left alone.
    assert host.status()["counters"]["bound"] > 0 or (only and first != "::1")


def test_full_left_to_the_kernel(host):
    host.set_ports(40000, 40003)
    said = script(host, f"""
made = [udp() for _ in range(5)]
for s in made[:4]:
    s.connect(("{TO}", 8001))
try:
    made[4].connect(("{TO}", 8001))
except OSError as e:
    print(e.errno == errno.EAGAIN)
print(made[4].getsockname(), made[4].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
made[0].close()
made[4].connect(("{TO}", 8001))
print(made[4].getsockname()[1] in range(40000, 40004))
""", full="kernel", log="off")
    assert said == "True\n('0.0.0.0', 0) 0\nTrue\n"


# Strangers

STRANGERS = {
    "connected elsewhere": 's.connect(("127.0.0.1", 9009))',
    "unconnected": "pass",
    "unconnected, sharing": 's.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)',
    "unconnected on any address, sharing":
        's.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); at = "0.0.0.0"',
}


@backends
@pytest.mark.parametrize("how", STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers_keep_their_ports(host, how, backend):
    """Half of the range is theirs: no tuple is taken that would have their datagrams."""
    host.set_ports(40000, 40039)
    stranger = host.start(harness.PYTHON, "-c", f"""
import socket
made = []
for port in range(40000, 40040, 2):
    s, at = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "127.0.0.1"
    if "connect" not in {how!r}:
        {how}
    s.bind((at, port))
    if "connect" in {how!r}:
        {how}
    made.append(s)
print("ready", flush=True)
input()
for s in made:
    s.setblocking(False)
    got = []
    try:
        while True:
            got.append(s.recv(100))
    except BlockingIOError:
        pass
    print(got)
""")
    assert stranger.line() == "ready", stranger.errors()
    serve(host, TO, 8001)
    running = flows(host, "open", TO, 41, 8001, backend=backend)
    assert running.line() == f"8001 20 {errno.EAGAIN}"
    assert running.line() == "heard 8001 20"
    # What is sent to the strangers' ports from elsewhere is theirs.
    script(host, """
s = udp()
s.bind(("127.0.0.1", 30000))
for port in range(40000, 40040, 2):
    s.sendto(b"yours", ("127.0.0.1", port))
""", preload=None)
    stranger.say("")
    expected = "[]" if "connect(" in how else "[b'yours']"
    assert [stranger.line() for _ in range(20)] == [expected] * 20


@backends
def test_a_stranger_s_tuple(host, backend):
    """A stranger that shares its port and is connected to the same destination hears what it did."""
    host.set_ports(40000, 40009)
    serve(host, TO, 8001)
    stranger = host.start(harness.PYTHON, "-c", f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("{TO}", 40004))
s.connect(("{TO}", 8001))
print("ready", flush=True)
input()
s.settimeout(20)
s.send(b"still here")
print(s.recv(100), flush=True)
""")
    assert stranger.line() == "ready", stranger.errors()
    running = flows(host, "open", TO, 11, 8001, backend=backend)
    assert running.line() == f"8001 9 {errno.EAGAIN}"
    assert running.line() == "heard 8001 9"
    stranger.say("")
    assert stranger.line() == "b'8001 still here'"


def test_strays_are_not_heard(host):
    """While somebody sends to all ports of the range, sockets are connected to another: none has
    anything to read that its peer did not send."""
    host.set_ports(40000, 40099)
    sender = flows(host, "strays", TO, 7777, 40000, 40099, preload=None)
    assert sender.line() == "ready"
    said = script(host, f"""
strays = 0
for i in range(20000):
    s = udp()
    s.setblocking(False)
    s.connect(("{TO}", 8001))
    try:
        s.recv(100)
        strays += 1
    except (BlockingIOError, ConnectionRefusedError):
        pass
    s.close()
print(strays)
""")
    # A datagram that the kernel had looked up before connect() may be queued after it. Without tuplebind
    # there are some in ten thousand, and as many if nothing were thrown away.
    assert int(said) <= 4
    assert udp_claims(host) == []


def test_neighbours_get_ports(host):
    """A stranger that sends without binding has its port from the kernel, as long as there is one."""
    host.set_ports(40000, 40009)
    serve(host, TO, 8001)
    running = flows(host, "open", TO, 9, 8001)
    assert running.line() == "8001 9 none"
    assert script(host, f"""
s = udp()
s.settimeout(20)
s.sendto(b"hello", ("{TO}", 8001))
print(s.recv(100))
""", preload=None) == "b'8001 hello'\n"


# The same socket again

@backends
def test_another_destination_keeps_the_port(host, backend):
    """connect() of a connected socket: the port stays, as the program may have told it; the claim goes
    to the new lane."""
    said = script(host, f"""
s = udp()
s.connect(("{TO}", 8001))
first = s.getsockname()
s.connect(("{TO}", 8002))
print(s.getsockname() == first, s.getpeername()[1])
s.connect(("{TO}", 8002))
print(s.getsockname() == first)
os.system("true")
print(first[1], flush=True)
input()
""".replace("input()", ""), backend=backend)
    assert said.startswith("True 8002\nTrue\n")
    running = host.start(harness.PYTHON, "-c", f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in (8001, 8002):
    s.connect(("{TO}", port))
    print(s.getsockname()[1], flush=True)
    input()
""", preload="run", protocols=UDP, backend=backend)
    for port in (8001, 8002):
        lport = int(running.line())
        assert [(t.lport, t.fport) for t in udp_claims(host)] == [(lport, port)]
        expect_exact(host, 8001, 8002)
        running.say("")
    assert running.wait() == 0
    assert udp_claims(host) == []


@backends
def test_another_destination_where_the_port_is_taken(host, backend):
    """The tuple is somebody's: the socket gets another port (late bind), or stays where it was."""
    host.set_ports(40000, 40001)
    said = script(host, f"""
a, b, c = udp(), udp(), udp()
a.connect(("{TO}", 8001))
b.connect(("{TO}", 8002))
c.connect(("{TO}", 8002))
b.close() if b.getsockname()[1] != a.getsockname()[1] else c.close()
kept = c if c.fileno() >= 0 else b
before = a.getsockname()
try:
    a.connect(("{TO}", 8002))
    print("moved", a.getsockname()[1] != kept.getsockname()[1], a.getpeername()[1])
except OSError as e:
    print(e.errno == errno.EADDRNOTAVAIL, a.getsockname() == before, a.getpeername()[1])
""", backend=backend)
    assert said == ("moved True 8002\n" if backend == "late" else "True True 8001\n")
    assert udp_claims(host) == []


@backends
def test_another_destination_where_a_stranger_has_the_port(host, backend):
    """The table does not know of it, the kernel does: another port, or where it was; nobody goes deaf."""
    mover, stranger = host.steps(protocols=UDP, backend=backend), host.steps(preload=None)
    [fd] = mover.open(TO, 8001, 1, "udp")
    before = mover(f"name {fd}")
    other = stranger.socket("udp")
    assert [stranger(order) for order in (f"option {other} reuseport", f"bind {other} {before}",
                                          f"connect {other} {TO} 8002")] == ["0"] * 3
    answer = mover.connect(fd, TO, 8002)
    assert answer == ("0" if backend == "late" else "EADDRNOTAVAIL")
    assert (mover(f"name {fd}") == before) == (backend == "explicit")
    tuples = host.tuples(8002, protocol="udp")
    assert len(set(tuples)) == len(tuples) == (2 if backend == "late" else 1)
    assert udp_claims(host, 8001) == host.tuples(8001, protocol="udp")
    assert udp_claims(host, 8002) == tuples  # that of the stranger's as well, until it is reaped
    assert host.status()["counters"]["retries"] >= 1


@backends
def test_another_destination_without_a_descriptor(host, backend):
    """Whose the tuple is cannot be asked: it counts as taken."""
    said = script(host, f"""
import resource
s = udp()
s.connect(("{TO}", 8001))
before = s.getsockname()
usual = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, usual[1]))
answer = s.connect_ex(("{TO}", 8002))
resource.setrlimit(resource.RLIMIT_NOFILE, usual) # sanitizers open files at exit
print(errno.errorcode.get(answer), s.getsockname() == before, s.getpeername()[1])
""", backend=backend)
    assert said == ("None False 8002\n" if backend == "late" else "EADDRNOTAVAIL True 8001\n")


def test_another_destination_after_losing_the_port_unseen(host):
    """Dissolved past libc, the socket has no tuple any more: it is the kernel's, and no claim stays."""
    steps = host.steps(protocols=UDP)
    [fd] = steps.open(TO, 8001, 1, "udp")
    assert len(udp_claims(host, 8001)) == 1
    assert steps(f"raw_unspec {fd}") == "0"
    assert steps(f"name {fd}").split()[1] == "0"
    assert steps.connect(fd, TO, 8002) == "0"
    assert len(host.tuples(8002, protocol="udp")) == 1
    assert udp_claims(host) == []


@pytest.fixture
def unreachable(host):
    """A destination that no address of the pool 10.9.0.1 reaches, and how programs get to it: by explicit bind."""
    host.set_ports(40001, 40001)
    host.add_addresses("10.9.0.1")
    host.must("ip", "route", "add", "unreachable", "10.66.0.0/16")
    return "10.66.0.1", {"protocols": UDP, "backend": "explicit", "addrs": "10.9.0.1", "log": "off"}


def test_bound_socket_connects_next(host, unreachable):
    """Explicitly bound, then no route: it has its port for good, and connects from there."""
    nowhere, settings = unreachable
    steps = host.steps(**settings)
    fd = steps.socket("udp")
    for port in (8001, 8002):
        assert steps.connect(fd, nowhere, port) == "EHOSTUNREACH"
        assert steps(f"name {fd}") == "10.9.0.1 40001"
        assert udp_claims(host) == []
    for port in (8001, 8002):
        assert steps.connect(fd, "10.9.0.1", port) == "0"
        assert host.tuples(port, protocol="udp") == udp_claims(host) == [("10.9.0.1", 40001, "10.9.0.1", port)]


@pytest.mark.parametrize("who", ["ours", "a stranger"])
def test_bound_socket_whose_next_tuple_is_taken(host, unreachable, who):
    """As above, but somebody has that port to the next destination: of the two one would go deaf."""
    nowhere, settings = unreachable
    holder, steps = host.steps(preload="run" if who == "ours" else None, **settings), host.steps(**settings)
    held = holder.socket("udp")
    if who == "a stranger":
        assert [holder(order) for order in (f"option {held} reuseport", f"bind {held} 10.9.0.1 40001")] == ["0"] * 2
    assert holder.connect(held, "10.9.0.1", 8001) == "0"
    fd = steps.socket("udp")
    assert steps.connect(fd, nowhere, 8001) == "EHOSTUNREACH"
    assert steps.connect(fd, "10.9.0.1", 8001) == "EADDRNOTAVAIL"
    assert len(host.tuples(8001, protocol="udp")) == len(udp_claims(host)) == 1
    assert steps.connect(fd, "10.9.0.1", 8002) == "0"
    assert host.tuples(8002, protocol="udp") == udp_claims(host, 8002) == [("10.9.0.1", 40001, "10.9.0.1", 8002)]


def test_another_destination_and_no_room_in_the_table(host):
    """The socket moves all the same, with its port; the claim that it leaves behind is given back."""
    host.set_ports(30000, 59999)  # the kernel, too, is to find one for each
    steps = host.steps(protocols=UDP, table_size="256K", log="off")
    [fd] = steps.open(TO, 8001, 1, "udp")
    before = steps(f"name {fd}")
    for i in range(1500):  # more than the slabs of the smallest table
        steps.open(f"127.{1 + i // 250}.0.{1 + i % 250}", 8002, 1, "udp")
    full = host.status()["counters"]["table_full"]
    assert full > 100
    assert len(udp_claims(host, 8001)) == 1
    assert steps.connect(fd, TO, 8003) == "0"
    assert steps(f"name {fd}") == before
    assert host.status()["counters"]["table_full"] == full + 1
    assert udp_claims(host, 8001) == udp_claims(host, 8003) == []


def test_unspecified_family(host):
    """Dissolved, the socket is as new: no address, no port, all ports to choose from when it sends."""
    serve(host, TO, 8001)
    text = f"""
import ctypes
s = udp()
s.connect(("{TO}", 8001))
ctypes.CDLL(None).connect(s.fileno(), struct.pack("H14x", 0), 16)
print(s.getsockname(), s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
s.settimeout(20)
s.sendto(b"again", ("{TO}", 8001))
print(s.recv(100), s.getsockname()[0])
"""
    assert script(host, text) == script(host, text, preload=None) == \
        "('0.0.0.0', 0) 0\nb'8001 again' 0.0.0.0\n"
    assert udp_claims(host) == []


@backends
def test_no_route_leaves_nothing(host, backend):
    """The failure is the kernel's; the socket holds no port and no claim after it."""
    serve(host, TO, 8001)
    text = f"""
s = udp()
for to in ("198.51.100.1", "{TO}"):
    try:
        s.connect((to, 8001))
        s.settimeout(20)
        s.send(b"x")
        print(s.recv(100))
    except OSError as e:
        print(errno.errorcode[e.errno])
"""
    plain = script(host, text, preload=None)
    assert script(host, text, backend=backend) == plain == "ENETUNREACH\nb'8001 x'\n"
    assert script(host, text, backend=backend, addrs=POOL) .startswith("E")
    assert udp_claims(host) == []


def test_duplicate_of_a_socket_from_elsewhere(host):
    """Neither the socket nor its duplicate was seen made: asked what it is, it is served."""
    said = script(host, """
import array
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
socket.send_fds(here, [b"x"], [made.fileno()])
got = socket.recv_fds(there, 1, 1)[1][0]
s = socket.socket(fileno=os.dup(got))
s.connect(("::1", 8001))
print(s.getsockname()[0])
s.connect(("::1", 8002))
try:
    s.connect(("2001:db8::1", 8001))
except OSError as e:
    print(s.getsockname()[0], s.getpeername()[1])
""")
    assert said == "::1\n::1 8002\n"


# Give-back

@backends
@pytest.mark.parametrize("end", ["close", "exit", "kill", "exec", "fork"])
def test_give_back(host, backend, end):
    """At once with the last close, else by reap: exact either way."""
    running = host.start(harness.PYTHON, "-c", f"""
import os, signal, socket
made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
for s in made:
    s.connect(("{TO}", 8001))
print("ready", flush=True)
input()
end = "{end}"
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "exec":
    os.execlp("sh", "sh", "-c", "echo done; read x")
if end == "exit":
    os._exit(0)
if end == "fork" and os.fork() == 0:
    input()
    os._exit(0)
for s in made:
    s.close()
print("done", flush=True)
input()
""", preload="run", protocols=UDP, backend=backend)
    assert running.line() == "ready", running.errors()
    assert len(udp_claims(host)) == 20
    expect_exact(host, 8001)
    running.say("")
    if end in ("close", "exec", "fork"):
        assert running.line() == "done"
    else:
        running.wait()
    if end == "close":
        assert udp_claims(host) == []
    host.reap()
    expect_exact(host, 8001)
    assert len(udp_claims(host)) == (20 if end == "fork" else 0)


def test_reap_on_the_way(host):
    """Claims of a killed process do not stand in anybody's way."""
    host.set_ports(40000, 40049)
    serve(host, TO, 8001)
    first = flows(host, "open", TO, 50, 8001)
    assert first.line() == "8001 50 none"
    first.signal()
    second = flows(host, "open", TO, 51, 8001)
    assert second.line() == f"8001 50 {errno.EAGAIN}"
    assert second.line() == "heard 8001 50"


# Ports that cannot be guessed

def guesses(last):
    """What somebody could expect next who has seen the last thousand ports."""
    steps = collections.Counter((b - a) % 65536 for a, b in zip(last, last[1:]))
    after = {a: b for a, b in zip(last, last[1:])}
    yield (last[-1] + steps.most_common(1)[0][0]) % 65536  # a step that is usual
    yield (2 * last[-1] - last[-2]) % 65536  # the last step again
    yield after.get(last[-1], -1)  # what came after it the last time
    yield last[0]  # a cycle of a thousand
    yield collections.Counter(last).most_common(1)[0][0]  # a favourite
    yield last[-1] + 1
    yield last[-1] ^ 1


@pytest.mark.parametrize("ports", [(32768, 60999), (40000, 40499)], ids=["28232", "500"])
def test_next_port_cannot_be_guessed(host, ports):
    """DNS clients rely on it. A thousand ports seen, the next one guessed in seven ways, 19,000 times
    over; also in a small range, through which the table's order would have gone round many times."""
    host.set_ports(*ports)
    size = ports[1] - ports[0] + 1
    seen = [int(word) for word in script(host, f"""
for _ in range(20000):
    s = udp()
    s.connect(("{TO}", 53))
    print(s.getsockname()[1])
    s.close()
""", limit=60).split()]
    hits = collections.Counter()
    tries = 0
    for i in range(1000, len(seen)):
        tries += 1
        for way, guess in enumerate(guesses(seen[i - 1000:i])):
            hits[way] += guess == seen[i]
    # By chance tries / size; that it is more than this much above has a probability below 1e-9.
    chance = tries / size
    assert max(hits.values(), default=0) <= chance + 7 * chance ** 0.5 + 7, hits
    # All ports come up, about equally often.
    counts = collections.Counter(seen)
    assert len(counts) > size * (1 - 2 * 2.718281828 ** (-len(seen) / size)) - 1
    assert max(counts.values()) <= len(seen) / size + 8 * (len(seen) / size) ** 0.5 + 8


# What is left alone

POOLED = POOL.split("-")[0]
ALONE = {
    "bound to a port": ('s.bind(("127.0.0.1", 40123))', TO),
    "bound by the kernel": ('s.bind(("127.0.0.1", 0))', TO),
    "a port group": ("s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)", TO),
    "marked": ("s.setsockopt(socket.SOL_SOCKET, 36, 7)", POOLED),
    "bound to a device": ('s.setsockopt(socket.SOL_SOCKET, 25, b"lo\\0")', POOLED),
    "has sent": ('s.sendto(b"x", ("127.0.0.1", 9))', TO),
}


@pytest.mark.parametrize("how, source", ALONE.values(), ids=ALONE.keys())
def test_left_alone(host, how, source):
    """The kernel chooses the port; the address is the pool's where the program has chosen neither."""
    said = script(host, f"""
s = udp()
{how}
before = s.getsockname()[1]
s.connect(("{TO}", 8001))
print(before in (0, s.getsockname()[1]), s.getsockname()[0])
""", addrs=POOLED)
    assert said == f"True {source}\n"
    assert udp_claims(host) == []
    assert host.status()["counters"]["passed"] == 1


@pytest.mark.parametrize("to", ['("224.0.0.1", 8001)', '("255.255.255.255", 8001)', f'("{TO}", 0)'])
def test_destinations_left_alone(host, to):
    text = f"""
s = udp()
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
try:
    s.connect({to})
    print(s.getsockname()[0])
except OSError as e:
    print(e.errno)
"""
    host.must("ip", "route", "add", "default", "dev", "lo")
    assert script(host, text) == script(host, text, preload=None)
    assert host.status()["counters"]["bound"] == 0


def test_only_when_asked_for(host):
    """The default is TCP alone; with UDP alone TCP is left to the kernel."""
    text = f"""
s = udp()
s.connect(("{TO}", 8001))
print(s.getsockname()[0])
"""
    assert script(host, text, addrs=POOL, protocols="tcp") == TO + "\n"
    assert script(host, text, addrs="127.0.0.8", protocols="udp") == "127.0.0.8\n"


def test_exhausted_udp_does_not_stop_tcp(host):
    """All UDP ports of the host are a stranger's: the route is found all the same."""
    host.set_ports(40000, 40009)
    host.sink(f"{TO} 8001")
    running = flows(host, "open", TO, 11, 9009, preload=None)
    assert running.line() == f"9009 10 {errno.EAGAIN}"
    steps = host.steps()
    steps.open(TO, 8001, 10)
    assert len(host.claims()) == 10


@backends
def test_arguments(host, backend):
    """Results and errno of calls that must fail are the kernel's, with UDP taken over as well."""
    host.sink(f"{TO} 8001")
    plain = host.must(harness.program("arguments"), TO, 8001)
    assert host.must(harness.program("arguments"), TO, 8001, preload="run", backend=backend,
                     protocols=UDP) == plain
    assert udp_claims(host) == []
