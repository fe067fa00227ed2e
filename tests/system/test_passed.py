"""Sockets that another process made, TCP and UDP, bound or not: of this namespace and of another one.

Nothing is known of them but what the kernel says: what kind they are, whose they are.
"""

import harness
import pytest

PORT = 8001

backends = pytest.mark.parametrize("backend", ["late", "explicit"])

HEAD = """
import socket, sys

def tell(*words):
    print(*words, flush=True)
"""


def ready(running):
    """What the program said before it was ready."""
    said = []
    while (line := running.line()) != "ready":
        assert line is not None, running.errors()
        said.append(line)
    return said


GIVER = """
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
tell("listening")
taker, _ = server.accept()
made = [socket.socket(socket.AF_INET, kind)
        for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)]
socket.send_fds(taker, [b"x"], [s.fileno() for s in made])
"""

TAKER = f"""
giver = socket.socket(socket.AF_UNIX)
giver.connect(sys.argv[1])
got = [socket.socket(fileno=fd) for fd in socket.recv_fds(giver, 1, 3)[1]]
got[1].bind(("127.0.0.1", 0))
for s in got:
    s.connect(("127.0.0.1", {PORT}))
tell(*(s.getsockname()[0] for s in got))
"""


@backends
@pytest.mark.parametrize("foreign", [False, True], ids=["this namespace", "another namespace"])
@pytest.mark.parametrize("giver_preload", [None, "run"], ids=["from a stranger", "from a user"])
def test_passed_descriptors(two_hosts, tmp_path, foreign, giver_preload, backend):
    """Of this namespace: served. Of another one: they are that host's, and the table knows nothing of its
    tuples, so they are left to the kernel."""
    here, there = two_hosts
    for host in two_hosts:
        host.sink(f"127.0.0.1 {PORT}")
    path = tmp_path / "socket"
    giver = (there if foreign else here).start(
        harness.PYTHON, "-c", HEAD + GIVER + "\ninput()\n", path, preload=giver_preload)
    assert giver.line() == "listening", giver.errors()
    taker = here.start(harness.PYTHON, "-c", HEAD + TAKER + "\ntell('ready')\ninput()\n", path,
                       preload="run", addrs="127.0.0.9", protocols="tcp,udp", backend=backend)
    said = ready(taker)
    if foreign:
        assert said == ["127.0.0.1 127.0.0.1 127.0.0.1"]
        assert here.claims() == here.claims(protocol="udp") == here.tuples(PORT) == []
        assert len(there.tuples(PORT)) == 2
        return
    assert said == ["127.0.0.9 127.0.0.1 127.0.0.9"]
    assert len(here.claims()) == 2
    assert here.claims() == here.tuples(PORT)
    assert here.claims(protocol="udp") == here.tuples(PORT, protocol="udp") != []
    giver.say("")
    taker.say("")
    giver.wait()
    taker.wait()
    here.reap()
    assert here.claims() == here.claims(protocol="udp") == []


RAW = """
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
BIND, LISTEN, SETSOCKOPT = 49, 50, 54  # of x86_64

def raw(number, *arguments):
    assert libc.syscall(number, *arguments) == 0, os.strerror(ctypes.get_errno())

def raw_bind(s, address, port):
    name = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(address))
    raw(BIND, s.fileno(), name, len(name))

# A plain one first, so that pristine sockets are trusted for this second.
warm = socket.create_connection(("127.0.0.1", 8001))
"""


@backends
@pytest.mark.parametrize("do, port", [
    ('raw_bind(s, "127.0.0.1", 40005)', 40005),
    ('raw_bind(s, "127.0.0.77", 40006)', 40006),
], ids=["same address", "other address"])
def test_bound_behind_our_back(host, do, port, backend):
    """bind() by a system call that no preload sees: the program's port stays, and nothing is claimed."""
    host.sink("127.0.0.1 8001")
    host.departures_expected = True
    script = RAW + f"""
s = socket.socket()
{do}
s.connect(("127.0.0.1", 8001))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""
    running = host.start(harness.PYTHON, "-c", script, preload="run", addrs="127.0.0.9", backend=backend)
    assert running.line() == str(port), running.errors()
    assert len(host.tuples(8001)) == 2
    assert [t.laddr for t in host.claims()] == ["127.0.0.9"]


def test_listening_behind_our_back(host):
    """listen() chooses a port; a connect() of such a socket is the kernel's to refuse, as without us."""
    host.sink("127.0.0.1 8001")
    said = []
    for preload in (None, "run"):
        script = RAW + """
s = socket.socket()
raw(LISTEN, s.fileno(), 5)
print(s.connect_ex(("127.0.0.1", 8001)), s.getsockname()[1] in range(40000, 41000))
"""
        said.append(host.must(harness.PYTHON, "-c", script, preload=preload))
    assert said[0] == said[1]
    assert host.claims() == []


@pytest.mark.parametrize("option", ["mark", "range"])
def test_options_through_libc_are_seen_at_once(host, option):
    """However many plain sockets there were in this second."""
    host.sink("127.0.0.1 8001")
    set_it = {"mark": "s.setsockopt(socket.SOL_SOCKET, 36, 7)",
              "range": "s.setsockopt(socket.IPPROTO_IP, 51, struct.pack('=I', 40007 << 16 | 40007))"}[option]
    script = RAW + f"""
for _ in range(20):
    s = socket.socket()
    s.connect(("127.0.0.1", 8001))
s = socket.socket()
{set_it}
s.connect(("127.0.0.1", 8001))
print(s.getsockname()[1])
"""
    # None of the others may have that port by chance.
    port = host.must(harness.PYTHON, "-c", script, preload="run", ports="40100-40999")
    counters = host.status()["counters"]
    assert (counters["bound"], counters["passed"]) == (21, 1)
    if option == "range":
        assert port == "40007\n"
