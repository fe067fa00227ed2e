"""TCP Fast Open: sends that connect (MSG_FASTOPEN) and connects that send (TCP_FASTOPEN_CONNECT).

Both are looked at on the client's side (tuples, claims) and at what the server got.
"""

import errno

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
POOL = "127.0.0.8-127.0.0.9"
POOL_ADDRESSES = {"127.0.0.8", "127.0.0.9"}

backends = pytest.mark.parametrize("backend", ["late", "explicit"])

SERVER = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 8001), backlog=1000)
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 1000)
print("ready", flush=True)
held = []
while True:
    one, peer = server.accept()
    held.append(one)
    print(peer[0], peer[1], one.recv(100).decode(), flush=True)
"""

CLIENT = f"""
import errno, socket, sys
TO = ("{TO}", {PORT})
def by_sendto(s, what=b"hello", to=TO):
    return s.sendto(what, socket.MSG_FASTOPEN, to)
def by_sendmsg(s, what=b"hello", to=TO):
    return s.sendmsg([what], [], socket.MSG_FASTOPEN, to)
def by_connect(s, what=b"hello", to=TO):
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    s.connect(to)
    return s.send(what)
"""

ways = pytest.mark.parametrize("way", ["by_sendto", "by_sendmsg", "by_connect"])


@pytest.fixture
def served(host):
    """A server with Fast Open, and cookies in both directions."""
    host.sysctl("net.ipv4.tcp_fastopen", 3)
    host.server = host.start(harness.PYTHON, "-c", SERVER)
    assert host.server.line() == "ready", host.server.errors()
    return host


def client(host, text, preload="run", **settings):
    running = host.start(harness.PYTHON, "-c", CLIENT + text, preload=preload, **settings)
    return running


@ways
@backends
def test_connects_from_the_pool(served, way, backend):
    """The first gets a cookie, the others carry their data in the first packet: each from an address of
    the pool, with a tuple of its own."""
    running = client(served, f"""
held = [socket.socket() for _ in range(20)]
for s in held:
    assert {way}(s) == 5
    print(*s.getsockname(), flush=True)
input()
""", backend=backend, addrs=POOL)
    for _ in range(20):
        words = running.line()
        assert words is not None, running.errors()
        assert served.server.line() == words + " hello"
        assert words.split()[0] in POOL_ADDRESSES and int(words.split()[1]) in served.ports
    assert served.claims() == served.tuples(PORT)
    assert len(served.claims()) == 20
    # That Fast Open was at work, or the test would show no more than an ordinary connect().
    sent = served.must("sh", "-c", "grep TcpExt /proc/net/netstat").splitlines()
    counters = dict(zip(sent[0].split(), sent[1].split()))
    assert int(counters["TCPFastOpenActive"]) > 0
    running.say("")
    running.wait()
    assert served.claims() == []


@ways
@backends
def test_all_ports(served, way, backend):
    """As many as there are ports, then EADDRNOTAVAIL at once."""
    served.set_ports(40000, 40019)
    running = client(served, f"""
held = [socket.socket() for _ in range(21)]
for s in held:
    try:
        print({way}(s), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
input()
""", backend=backend, log="off")
    assert [running.line() for _ in range(21)] == ["5"] * 20 + ["EADDRNOTAVAIL"]
    assert {t.lport for t in served.tuples(PORT)} == served.ports
    assert served.claims() == served.tuples(PORT)


@ways
@backends
def test_same_answers(served, way, backend):
    """Refused, already connected, bound, without blocking, switched off: result and errno as without."""
    text = f"""
def tell(call, *words):
    try:
        print(call(*words), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)

for _ in range(2):
    s = socket.socket()
    tell({way}, s)
    tell(by_sendto, s)
    tell(s.send, b" and more")
    tell(s.connect, TO)
    s = socket.socket()
    tell({way}, s, b"x", ("{TO}", 8999))
    tell({way}, s, b"x", ("{TO}", 8999))
    s = socket.socket()
    s.bind(("127.0.0.5", 0))
    tell({way}, s)
    print(s.getsockname()[0])
    s = socket.socket()
    s.bind(("127.0.0.1", 40777))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    tell({way}, s)
    print(s.getsockname())
    s.close()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tell(by_sendto, s)
    s = socket.socket(socket.AF_INET6)
    tell({way}, s, b"hello", ("::ffff:{TO}", {PORT}))
    tell({way}, s, b"", ("::1", 8999))
"""
    said = []
    for preload in (None, None, "run"):  # the first time gets the cookie
        result = served.run(harness.PYTHON, "-c", CLIENT + text, preload=preload, backend=backend)
        assert (result.code, result.err) == (0, ""), result
        said.append(result.out)
    assert said[1] == said[2]
    assert "ECONNREFUSED" in said[1] and "EISCONN" in said[1]
    served.reap()
    assert served.claims() == []


@pytest.mark.parametrize("way", ["by_sendto", "by_sendmsg"])
@backends
def test_switched_off(served, way, backend):
    """The kernel refuses such a send; programs then connect() the same socket."""
    served.sysctl("net.ipv4.tcp_fastopen", 0)
    for preload in (None, "run"):
        running = client(served, f"""
s = socket.socket()
try:
    {way}(s)
except OSError as e:
    print(errno.errorcode[e.errno], flush=True)
s.connect(TO)
s.send(b"after all")
print(*s.getsockname(), flush=True)
input()
""", preload=preload, backend=backend, addrs=POOL)
        assert running.line() == errno.errorcode[errno.EOPNOTSUPP]
        words = running.line()
        assert served.server.line() == words + " after all"
        if preload:
            assert words.split()[0] in POOL_ADDRESSES
            assert len(served.claims()) == 1
            assert set(served.claims()) <= set(served.tuples(PORT))


@backends
def test_without_blocking(two_hosts, backend):
    """EINPROGRESS without a cookie; the claim is there, and goes with the socket."""
    here, there = two_hosts
    there.sink(f"10.7.0.100 {PORT}")
    answers = []
    for preload in (None, "run"):
        running = here.start(harness.PYTHON, "-c", CLIENT + f"""
s = socket.socket()
s.setblocking(False)
for way in (by_sendto, by_sendmsg):
    s = socket.socket()
    s.setblocking(False)
    try:
        print(way(s, b"hello", ("10.7.0.100", {PORT})), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
    input()
    s.close()
""", preload=preload, backend=backend, addrs="10.7.0.3")
        for _ in range(2):
            answers.append(running.line())
            if preload:
                assert [t.laddr for t in here.claims()] == ["10.7.0.3"]
            running.say("")
        assert running.wait() == 0
    assert answers == ["EINPROGRESS"] * 4
    assert here.claims() == []
