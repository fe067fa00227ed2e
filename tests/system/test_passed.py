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
