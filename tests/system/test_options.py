"""Sockets with options and scopes that change where they may go, and sockets that came from elsewhere.

Each is either served correctly or left to the kernel, and it is said here which. Without a pool the
program ends up with the same local address as without the preload; the kernel, the table and the
peer agree on it.
"""

import contextlib

import harness
import pytest

PORT = 8001
TO = "127.0.0.1"
FAR = "10.9.9.9"  # of the server; two cables lead there

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


def cable(one, other, device, here, there):
    """A cable between devices of that name; addresses with prefix length."""
    one.must("ip", "link", "add", device, "type", "veth", "peer", "name", device,
             "netns", str(other.anchor.pid))
    for host, addresses in ((one, here), (other, there)):
        host.add_addresses(*addresses, device=device)
        host.must("ip", "link", "set", device, "up")
    for host in (one, other):
        harness.eventually(lambda host=host: "state UP" in host.must("ip", "link", "show", "dev", device))


@pytest.fixture
def two_cables():
    """A client and a server. FAR is reached through "wire", from 10.7.0.1, unless something says
    "spare": from 10.8.0.1. What is marked goes through "spare", from 10.8.0.2."""
    with contextlib.closing(harness.Host()) as client, contextlib.closing(harness.Host()) as server:
        for host in (client, server):
            host.sysctl("net.ipv6.conf.default.accept_dad", 0)
            # Packets of one connection may come and go by different cables.
            host.sysctl("net.ipv4.conf.default.rp_filter", 0)
            host.sysctl("net.ipv4.conf.all.rp_filter", 0)
        for device, net in (("wire", "10.7.0"), ("spare", "10.8.0")):
            cable(client, server, device, [f"{net}.{i}/24" for i in (1, 2, 3)] + ["fe80::1:1/64"],
                  [f"{net}.100/24", "fe80::100:1/64"])
        server.add_addresses(FAR)
        for route in (f"{FAR} via 10.7.0.100 dev wire", f"{FAR} via 10.8.0.100 dev spare metric 100",
                      "default via 10.8.0.100 dev spare src 10.8.0.2 table 100"):
            client.must("ip", "route", "add", *route.split())
        client.must("ip", "rule", "add", "fwmark", "7", "table", "100")
        server.sink(f":: {PORT}")
        yield client, server


def name(steps, fd):
    laddr, lport = steps(f"name {fd}").split()
    return harness.plain_address(laddr), int(lport)


def counters(host):
    return host.status()["counters"]


def opened(steps, to, *orders, kind="v4", port=PORT):
    """A socket to which the orders were given, connected; its descriptor."""
    fd = steps.socket(kind)
    for order in orders:
        assert steps(order.format(fd)) == "0", order
    assert steps.connect(fd, to, port) == "0"
    return fd


def peers(server):
    """Who is connected to the server, as it sees them."""
    return sorted((s.tuple.faddr, s.tuple.fport) for s in server.sockets(PORT, server=True))


def expect_agreement(client, server, names, served):
    """The sockets of these names are all there are, at both ends. The served ones have claims."""
    assert sorted((t.laddr, t.lport) for t in client.tuples(PORT)) == sorted(names)
    assert peers(server) == sorted(names)
    assert sorted((t.laddr, t.lport) for t in client.claims()) == sorted(served)


# SO_BINDTODEVICE, SO_MARK

APART = {
    "no option": ([], "10.7.0.1", True),
    "first device": (["device {} wire"], "10.7.0.1", False),
    "second device": (["device {} spare"], "10.8.0.1", False),
    "mark": (["option {} mark"], "10.8.0.2", False),
    "mark and device": (["option {} mark", "device {} wire"], "10.7.0.1", False),
}


@backends
@pytest.mark.parametrize("orders, expected, served", APART.values(), ids=APART.keys())
def test_routed_apart_without_a_pool(two_cables, orders, expected, served, backend):
    """Left to the kernel, which alone knows the address; only the socket without option is served."""
    client, server = two_cables
    # A socket with a device and one without may have one tuple, says the kernel (README): with few ports they do.
    client.set_ports(20000, 60999)
    names = []
    for preload in (None, "run"):
        steps = client.steps(preload=preload, backend=backend)
        # Nor does what the others are given depend on what came before.
        for again in (orders, [], orders):
            fd = opened(steps, FAR, *again)
            names.append(name(steps, fd))
            assert names[-1][0] == (expected if again else "10.7.0.1")
    ours = names[3:] if served else [names[4]]
    expect_agreement(client, server, names, ours)
    assert (counters(client)["bound"], counters(client)["passed"]) == (len(ours), 3 - len(ours))


POOLS = {
    "first device": (["device {} wire"], "10.7.0.2-10.7.0.3"),
    "second device": (["device {} spare"], "10.8.0.2-10.8.0.3"),
    "mark": (["option {} mark"], "10.8.0.2-10.8.0.3"),
    "mark, other device's addresses": (["option {} mark"], "10.7.0.2-10.7.0.3"),
}


@backends
@pytest.mark.parametrize("orders, pool", POOLS.values(), ids=POOLS.keys())
def test_routed_apart_with_a_pool(two_cables, orders, pool, backend):
    """Served from the pool: all of it can be had, and no tuple more. What looks for lost claims, on
    the way of a refused connect() or by itself, takes none of the living."""
    client, server = two_cables
    client.set_ports(40000, 40009)
    steps = client.steps(backend=backend, addrs=pool)
    names = [name(steps, opened(steps, FAR, *orders)) for _ in range(20)]
    assert set(names) == {(address, port) for address in pool.split("-") for port in client.ports}
    expect_agreement(client, server, names, names)
    for _ in range(3):
        fd = steps.socket()
        for order in orders:
            steps(order.format(fd))
        assert steps.connect(fd, FAR, PORT) == "EADDRNOTAVAIL"
    expect_agreement(client, server, names, names)
    client.reap()
    expect_agreement(client, server, names, names)
    assert (counters(client)["bound"], counters(client)["reaped"]) == (20, 0)


@backends
def test_device_of_a_shared_socket(two_cables, backend):
    """After a fork the first close() asks the kernel, by the socket's device, and leaves the claim."""
    client, server = two_cables
    steps = client.steps(backend=backend, addrs="10.8.0.2")
    fd = opened(steps, FAR, "device {} spare")
    here = [name(steps, fd)]
    assert steps("fork") == "0"
    assert steps(f"close {fd}") == "0"
    expect_agreement(client, server, here, here)
    assert steps(f"child option {fd} reset") == "0"
    assert steps(f"child close {fd}") == "0"
    assert client.claims() == []


# Link-local addresses

def test_link_local_destinations_alike(two_cables):
    """The same addresses at both ends of two cables: the scope tells them apart."""
    client, server = two_cables
    client.set_ports(40000, 40004)
    steps = client.steps()
    for device in ("wire", "spare"):
        index = client.must("ip", "-o", "link", "show", "dev", device).split(":")[0]
        answers = []
        for _ in range(6):
            fd = steps.socket("v6")
            answers.append(steps.connect(fd, f"fe80::100:1%{index}", PORT))
        assert answers == ["0"] * 5 + ["EADDRNOTAVAIL"]
    client.reap()
    assert client.claims() == client.tuples(PORT)
    assert {t.lport for t in client.tuples(PORT)} == client.ports
    assert len(client.tuples(PORT)) == len(peers(server)) == 10
    assert {t.laddr for t in client.tuples(PORT)} <= link_local(client)


def link_local(host):
    words = host.must("ip", "-6", "-o", "address", "show", "scope", "link").split()
    return {word.split("/")[0] for word in words if word.startswith("fe80:")}


@backends
def test_link_local_pool(two_cables, backend):
    """An address of the pool is for destinations on its own cable; on the other one routing chooses."""
    client, server = two_cables
    client.add_addresses("fe80::1:5/64", device="wire")
    plain = client.steps(preload=None)
    steps = client.steps(addrs="fe80::1:5%wire", backend=backend)
    for device, same in (("wire", False), ("spare", True)):
        index = client.must("ip", "-o", "link", "show", "dev", device).split(":")[0]
        chosen = name(plain, opened(plain, f"fe80::100:1%{index}", kind="v6"))
        fd = opened(steps, f"fe80::100:1%{index}", kind="v6")
        assert name(steps, fd)[0] == (chosen[0] if same else "fe80::1:5")
        assert name(steps, fd) in peers(server)
        assert name(steps, fd) in [(t.laddr, t.lport) for t in client.claims()]
    # A socket with a device needs no scope.
    by_device = []
    for who in (plain, steps):
        fd = who.socket("v6")
        assert who(f"device {fd} spare") == "0"
        by_device.append(who.connect(fd, "fe80::100:1", PORT))
    assert by_device[0] == by_device[1]
    client.reap()
    assert len(client.claims()) == counters(client)["bound"]
    assert set(client.claims()) <= set(client.tuples(PORT))


@backends
def test_link_local_address_without_a_route(two_cables, backend):
    """No question to the kernel says whether another address would do, so it is not set aside: the program is told."""
    client, _ = two_cables
    client.add_addresses("fe80::1:5/64", device="wire")
    client.must("ip", "-6", "rule", "add", "from", "fe80::1:5", "prohibit")
    index = client.must("ip", "-o", "link", "show", "dev", "wire").split(":")[0]
    steps = client.steps(addrs="fe80::1:5%wire", backend=backend)
    for _ in range(2):
        assert steps.connect(steps.socket("v6"), f"fe80::100:1%{index}", PORT) == "EACCES"
    assert steps.program.errors() == ""
    assert client.claims() == []


# IP_TRANSPARENT, IP_FREEBIND

options = pytest.mark.parametrize("option", ["transparent", "freebind"])


@backends
@options
def test_foreign_address_unbound(two_cables, option, backend):
    """Without a bind() the option changes nothing: the socket is served as any other."""
    client, server = two_cables
    names = []
    for preload in (None, "run"):
        steps = client.steps(preload=preload, backend=backend)
        fd = opened(steps, FAR, f"option {{}} {option}")
        names.append(name(steps, fd))
        assert names[-1][0] == "10.7.0.1"
    expect_agreement(client, server, names, names[1:])


@backends
@options
@pytest.mark.parametrize("addrs", ["auto", "10.7.0.2"])
@pytest.mark.parametrize("no_port", [False, True], ids=["bind", "bind without a port"])
def test_foreign_address(two_cables, option, addrs, no_port, backend):
    """bind() to an address that is not this host's, yet: refused without the option; with it the
    address is kept, the port is ours, and all ports can be had."""
    client, server = two_cables
    server.must("ip", "route", "add", "10.11.0.0/24", "via", "10.7.0.1")
    names = []
    for preload, address, first in ((None, "10.11.0.5", 41000), ("run", "10.11.0.6", 40000)):
        client.set_ports(first, first + 9)
        steps = client.steps(preload=preload, backend=backend, addrs=addrs)
        fds = [steps.socket() for _ in range(11)]
        assert steps(f"bind {fds[0]} {address} 0") == "EADDRNOTAVAIL"
        # One more than there are ports, where the kernel does not choose them at bind().
        fds = fds if no_port else fds[:10]
        for fd in fds:
            for order in [f"option {fd} {option}"] + [f"option {fd} no-port"] * no_port:
                assert steps(order) == "0"
            assert steps(f"bind {fd} {address} 0") == "0"
        # So that the answers find their way.
        client.must("ip", "route", "add", "local", f"{address}/32", "dev", "lo")
        answers = [steps.connect(fd, FAR, PORT) for fd in fds]
        assert answers == ["0"] * 10 + ["EADDRNOTAVAIL"] * no_port
        names += [name(steps, fd) for fd in fds[:10]]
    assert set(names[10:]) == {("10.11.0.6", port) for port in client.ports}
    expect_agreement(client, server, names, names[10:])
    assert counters(client)["passed"] == 0
    steps(f"close {fds[0]}")
    assert len(client.claims()) == 9


# IPV6_V6ONLY

@backends
def test_v6only(host, backend):
    """IPv6 destinations are served; v4-mapped ones are refused as ever, and the socket can go on."""
    host.sink(f":: {PORT}")
    heard = []
    for preload in (None, "run"):
        steps = host.steps(preload=preload, backend=backend)
        fd = steps.socket("v6")
        assert steps(f"option {fd} v6only") == "0"
        heard.append([steps.connect(fd, f"::ffff:{TO}", PORT), steps(f"name {fd}").split()[0],
                      steps.connect(fd, "::1", PORT), name(steps, fd)[0],
                      steps.connect(fd, f"::ffff:{TO}", PORT)])
    assert heard[0] == heard[1]
    assert heard[0][0] not in ("0", "EADDRNOTAVAIL") and heard[0][2] == "0"
    assert [(t.laddr, t.lport) for t in host.claims()] == [name(steps, fd)]
    assert set(host.claims()) <= set(host.tuples(PORT))
    assert counters(host)["passed"] == 0  # it is connect() that refuses


def test_v6only_stays_what_it_was(host):
    """bind() of an address of a pool sets it, and so does the program's own bind()."""
    host.sink(f":: {PORT}")
    text = f"""
import socket, sys
for only in (0, 1):
    for bound in (False, True):
        s = socket.socket(socket.AF_INET6)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        if bound:
            s.bind(("::1", 0))
        s.connect(("::1", {PORT}))
        print(s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
"""
    heard = [host.run(harness.PYTHON, "-c", text, preload=preload, addrs="::1") for preload in (None, "run")]
    assert [(result.code, result.out, result.err) for result in heard] == [(0, "0\n1\n1\n1\n", "")] * 2
    assert counters(host)["bound"] == counters(host)["late"] == 4


@pytest.mark.parametrize("kind, to", [("v4", TO), ("v6", "::1")])
def test_nothing_is_left_on_a_refused_socket(host, kind, to):
    """A stranger has bound the only port there is: what was tried leaves no port on the socket."""
    host.sink(f":: {PORT}")
    stranger = host.steps(preload=None)
    fd = stranger.socket(kind)
    assert stranger(f"bind {fd} {to} 40000") == "0"
    for backend in ("late", "explicit"):
        steps = host.steps(backend=backend, ports="40000")
        fd = steps.socket(kind)
        assert steps.connect(fd, to, PORT) == "EADDRNOTAVAIL"
        assert name(steps, fd)[1] == 0
        assert steps(f"bind {fd} {to} 40001") == "0"


# Sockets from elsewhere

GIVE = f"""
import socket, sys
given = socket.socket()
if sys.argv[2] == "connected":
    given.connect(("{TO}", {PORT}))
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
socket.send_fds(server.accept()[0], [b"x"], [given.fileno()])
input()
given.close()
print("closed", flush=True)
input()
"""

TAKE = f"""
import errno, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
taken = socket.socket(fileno=socket.recv_fds(client, 1, 1)[1][0])
try:
    taken.connect(("{TO}", {PORT}))
    print(*taken.getsockname(), flush=True)
except OSError as e:
    print(errno.errorcode[e.errno], flush=True)
input()
taken.close()
print("closed", flush=True)
input()
"""


def give_and_take(giver, taker, path, state, preload, **settings):
    """A socket made by a stranger and connected by another program. (What that said, both)"""
    giving = giver.start(harness.PYTHON, "-c", GIVE, path, state)
    assert giving.line() == "ready", giving.errors()
    taking = taker.start(harness.PYTHON, "-c", TAKE, path, preload=preload, **settings)
    return taking.line(), giving, taking


def close_both(*programs):
    for running in programs:
        running.say("")
        assert running.line() == "closed", running.errors()


@pytest.fixture
def two_islands():
    """Two hosts that know nothing of each other."""
    with contextlib.closing(harness.Host()) as one, contextlib.closing(harness.Host()) as other:
        for host in (one, other):
            host.sink(f"{TO} {PORT}")
        yield one, other


@backends
def test_socket_of_a_stranger(two_islands, tmp_path, backend):
    """Served. It may be open elsewhere: the claim outlives the close() of its receiver."""
    host, _ = two_islands
    said, *both = give_and_take(host, host, tmp_path / "plain", "fresh", None)
    assert said.split()[0] == TO
    close_both(*both)
    said, giving, taking = give_and_take(host, host, tmp_path / "ours", "fresh", "run",
                                         addrs="127.0.0.9", backend=backend)
    [held] = host.tuples(PORT)
    assert said == f"127.0.0.9 {held.lport}" and held.laddr == "127.0.0.9"
    assert host.claims() == [held]
    close_both(taking)
    assert host.tuples(PORT) == host.claims() == [held]
    close_both(giving)
    host.reap()
    assert host.claims() == []


def test_connected_socket_of_a_stranger(two_islands, tmp_path):
    """Left alone."""
    host, _ = two_islands
    for number, preload in enumerate((None, "run")):
        said, *both = give_and_take(host, host, tmp_path / str(number), "connected", preload,
                                    addrs="127.0.0.9")
        assert said == "EISCONN"
        assert {t.laddr for t in host.tuples(PORT)} == {TO}
        if preload:
            assert host.claims() == []
        close_both(*both)


@backends
def test_socket_of_another_namespace(two_islands, tmp_path, backend):
    """It connects over there, where this table says nothing, and is left to the kernel."""
    here, there = two_islands
    for number, preload in enumerate((None, "run")):
        said, *both = give_and_take(there, here, tmp_path / str(number), "fresh", preload,
                                    addrs="127.0.0.9", backend=backend)
        [held] = there.tuples(PORT)
        assert said == f"{TO} {held.lport}" and held.laddr == TO
        assert here.tuples(PORT) == here.claims() == there.claims() == []
        close_both(*both)
    assert (counters(here)["bound"], counters(here)["passed"]) == (0, 1)
