"""Sockets whose options say how they are routed and what they may be bound to, and sockets from elsewhere.

Each is either served, with an address and a port that are right for it, or left to the kernel; which
of the two is part of each test. Where the program must not notice a difference it runs with and without.
"""

import harness
import pytest

PORT = 8001
SERVER, V6_SERVER = "10.7.0.100", "fd07::100"

backends = pytest.mark.parametrize("backend", ["late", "explicit"])

HEAD = """
import errno, os, socket, struct, sys
IP_TRANSPARENT, IP_FREEBIND, NO_PORT = 19, 15, 24

def tell(*words):
    print(*words, flush=True)

def opened(to, count=1, family=socket.AF_INET, options=(), bind=None, blocking=True):
    made = []
    for _ in range(count):
        s = socket.socket(family)
        for level, option, value in options:
            s.setsockopt(level, option, value)
        if bind:
            s.bind(bind)
        s.setblocking(blocking)
        try:
            s.connect(to)
        except BlockingIOError:
            pass
        except OSError as e:
            tell(errno.errorcode[e.errno])
            break
        made.append(s)
    return made
"""


def start(host, text, preload="run", **settings):
    return host.start(harness.PYTHON, "-c", HEAD + text + "\ntell('ready')\ninput()\n",
                      preload=preload, **settings)


def ready(running):
    """What the program said before it was ready."""
    said = []
    while (line := running.line()) != "ready":
        assert line is not None, running.errors()
        said.append(line)
    return said


@pytest.fixture
def hosts(two_hosts):
    client, server = two_hosts
    server.sink(f":: {PORT}")
    server.must("ip", "route", "add", "10.9.0.0/24", "via", "10.7.0.1")
    return client, server


def expect_exact(host, count):
    assert len(host.claims()) == count
    assert host.claims() == host.tuples(PORT)


def link_local(host):
    """The address that a host has on the cable by itself, and its interface's index."""
    def found():
        words = host.must("ip", "-6", "-o", "address", "show", "dev", "wire", "scope", "link").split()
        return words and "tentative" not in words and (words[3].split("/")[0], words[0].rstrip(":"))
    return harness.eventually(found)


# Link-local addresses

@backends
def test_link_local_pool(hosts, backend):
    """A pool of link-local addresses serves destinations of its own link, and those alone."""
    client, _ = hosts
    client.add_addresses("fe80::77/64", device="wire")
    there, _ = link_local(hosts[1])
    _, index = link_local(client)
    running = start(client, f"""
held = opened(("{there}", {PORT}, 0, {index}), 5, socket.AF_INET6)
held += opened(("{V6_SERVER}", {PORT}), 1, socket.AF_INET6)
""", addrs="fe80::77%wire", backend=backend)
    assert ready(running) == []
    expect_exact(client, 6)
    assert [t.laddr for t in client.claims() if t.faddr == there] == ["fe80::77"] * 5
    client.reap()
    expect_exact(client, 6)


# Routed by device or mark

def devices(client, server):
    """A second cable between the two, with addresses of its own."""
    client.must("ip", "link", "add", "other", "type", "veth", "peer", "name", "other",
                "netns", str(server.anchor.pid))
    for host, last in ((client, 1), (server, 100)):
        host.add_addresses(f"10.8.0.{last}/24", device="other")
        host.must("ip", "link", "set", "other", "up")
    server.must("ip", "address", "add", f"{SERVER}/32", "dev", "other")
    client.must("ip", "route", "add", SERVER, "dev", "other", "metric", "500")


@pytest.mark.parametrize("address", [None, "10.8.0.1"])
def test_bound_to_a_device(hosts, address):
    """Without a pool the kernel knows best which address goes with the device, unless the program has
    said which: then a port is all that is added."""
    client, server = hosts
    devices(client, server)
    seen = []
    for preload in (None, "run"):
        running = start(client, f"""
held = opened(("{SERVER}", {PORT}), 3, blocking=False, bind={(address, 0) if address else None},
              options=[(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"other\\0")])
tell(held[0].getsockname()[0])
""", preload=preload)
        seen.append(ready(running))
        if preload:
            assert len(client.claims()) == (3 if address else 0)
            assert client.status()["counters"]["passed"] == (0 if address else 3)
        running.close()
    assert seen == [["10.8.0.1"]] * 2


@backends
def test_bound_to_a_device_with_a_pool(hosts, backend):
    """Served from the pool; reap, which has to ask for such sockets by their device, leaves their claims
    alone, and the lane is as full as it looks."""
    client, _ = hosts
    client.set_ports(40000, 40019)
    running = start(client, f"""
held = opened(("{SERVER}", {PORT}), 21,
              options=[(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wire\\0")])
""", addrs="10.7.0.3", backend=backend)
    assert ready(running) == ["EADDRNOTAVAIL"]
    expect_exact(client, 20)
    assert {(t.laddr, t.lport) for t in client.claims()} == {("10.7.0.3", p) for p in client.ports}
    client.reap()
    expect_exact(client, 20)
    running.signal()
    client.reap()
    assert client.claims() == []


def test_marked_and_routed_by_policy(hosts):
    """The mark leads to a route with another source address: the program has the one it has without."""
    client, _ = hosts
    client.must("ip", "rule", "add", "fwmark", "7", "table", "100")
    client.must("ip", "route", "add", SERVER, "dev", "wire", "src", "10.7.0.4", "table", "100")
    seen = []
    for preload in (None, "run"):
        running = start(client, f"""
held = opened(("{SERVER}", {PORT}), 3, options=[(socket.SOL_SOCKET, 36, 7)])
held += opened(("{SERVER}", {PORT}))
tell(*(s.getsockname()[0] for s in held))
""", preload=preload)
        seen.append(ready(running))
        if preload:
            assert [t.laddr for t in client.claims()] == ["10.7.0.1"]
            assert client.status()["counters"]["passed"] == 3
        running.close()
    assert seen == [["10.7.0.4 10.7.0.4 10.7.0.4 10.7.0.1"]] * 2


@backends
def test_marked_with_a_pool(hosts, backend):
    client, _ = hosts
    running = start(client, f"""
held = opened(("{SERVER}", {PORT}), 3, options=[(socket.SOL_SOCKET, 36, 7)])
""", addrs="10.7.0.3", backend=backend)
    assert ready(running) == []
    expect_exact(client, 3)
    assert {t.laddr for t in client.claims()} == {"10.7.0.3"}


# Bound to addresses that are not this host's

@backends
@pytest.mark.parametrize("own", [False, True], ids=["", "own NO_PORT"])
def test_foreign_address(hosts, own, backend):
    """A transparent proxy connects from its client's address: it is kept, and all ports of the range are
    had from it. (No answer finds back here, so that the connections stay in the making.)"""
    client, _ = hosts
    client.set_ports(40000, 40009)
    options = f"[(socket.IPPROTO_IP, IP_TRANSPARENT, 1){', (socket.IPPROTO_IP, NO_PORT, 1)' if own else ''}]"
    text = f"""
held = opened(("{SERVER}", {PORT}), 10, bind=("10.9.0.5", 0), blocking=False, options={options})
held += opened(("{SERVER}", 8002), 10, bind=("10.9.0.5", 0), blocking=False, options={options})
tell(len(held), *sorted({{s.getsockname()[0] for s in held}}))
"""
    running = start(client, text, addrs="10.7.0.3", backend=backend)
    assert ready(running) == ["20 10.9.0.5"]
    assert {(t.laddr, t.lport) for t in client.claims(PORT)} == {("10.9.0.5", p) for p in client.ports}
    assert client.claims() == sorted(client.tuples(PORT) + client.tuples(8002))


def test_foreign_address_bound_freely(hosts):
    """IP_FREEBIND lets a socket be bound to it, but routing does not let it out: as without."""
    client, _ = hosts
    seen = []
    for preload in (None, "run"):
        running = start(client, f"""
for bind in (("10.9.0.5", 0), ("10.9.0.5", 40123)):
    opened(("{SERVER}", {PORT}), bind=bind, options=[(socket.IPPROTO_IP, IP_FREEBIND, 1)])
""", preload=preload)
        seen.append(ready(running))
    assert seen[0] == seen[1] and len(seen[0]) == 2
    assert client.claims() == []


@backends
@pytest.mark.parametrize("option", ["IP_TRANSPARENT", "IP_FREEBIND"])
def test_option_without_a_foreign_address(hosts, option, backend):
    """Such a socket that is bound to nothing is like any other."""
    client, server = hosts
    running = start(client, f"""
held = opened(("{SERVER}", {PORT}), 5, options=[(socket.IPPROTO_IP, {option}, 1)])
""", addrs="10.7.0.2-10.7.0.3", backend=backend)
    assert ready(running) == []
    expect_exact(client, 5)
    assert {t.laddr for t in client.claims()} == {"10.7.0.2", "10.7.0.3"}
    assert sorted((s.tuple.faddr, s.tuple.fport) for s in server.sockets(PORT, server=True)) == \
        sorted((t.laddr, t.lport) for t in client.claims())


@backends
def test_foreign_address_that_answers_reach(hosts, backend):
    """With a local route for the prefix (AnyIP) connections from it come about."""
    client, server = hosts
    client.must("ip", "route", "add", "local", "10.9.0.0/24", "dev", "lo")
    running = start(client, f"""
free = [(socket.IPPROTO_IP, IP_FREEBIND, 1)]
held = [opened(("{SERVER}", {PORT}), bind=(f"10.9.0.{{i}}", 0), options=free) for i in range(1, 6)]
""", backend=backend)
    assert ready(running) == []
    assert {s.tuple.faddr for s in server.sockets(PORT, server=True)} >= {f"10.9.0.{i}" for i in range(1, 6)}
    assert client.claims() == client.tuples(PORT)


# IPV6_V6ONLY

@backends
def test_v6_only(hosts, backend):
    """Served for IPv6 destinations; a v4-mapped one is refused as ever."""
    client, _ = hosts
    seen = []
    for preload in (None, "run"):
        running = start(client, f"""
only = [(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)]
held = opened(("{V6_SERVER}", {PORT}), 2, socket.AF_INET6, only)
held += opened(("::ffff:{SERVER}", {PORT}), 1, socket.AF_INET6, only)
held += opened(("{V6_SERVER}", {PORT}), 2, socket.AF_INET6, only, bind=("::", 0))
tell(len(held))
""", preload=preload, backend=backend)
        seen.append(ready(running))
        if preload:
            expect_exact(client, 4)
        running.close()
    assert seen == [["ENETUNREACH", "4"]] * 2


# Sockets from elsewhere

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
def test_passed_descriptors(hosts, tmp_path, foreign, giver_preload, backend):
    """Of this namespace: served. Of another one: they are that host's, and the table knows nothing of its
    tuples, so they are left to the kernel."""
    here, there = hosts
    here.sink(f"127.0.0.1 {PORT}")
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
    expect_exact(here, 2)
    assert here.claims(protocol="udp") == here.tuples(PORT, protocol="udp") != []
    giver.say("")
    taker.say("")
    giver.wait()
    taker.wait()
    here.reap()
    assert here.claims() == here.claims(protocol="udp") == []
