"""What connect() does to sockets of every kind, and what it leaves alone.

Each case runs with and without the preload; where the program must not notice a difference
the answers are compared, and where tuplebind is to act the kernel's tuples show it.
"""

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
POOL = "127.0.0.8-127.0.0.9"
POOL_ADDRESSES = {"127.0.0.8", "127.0.0.9"}
NOBODY = 8999  # nobody listens there

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


@pytest.fixture
def served(host):
    host.sink(f":: {PORT}", ":: 8002")
    return host


@pytest.fixture
def deaf(host):
    """A port where connections are never answered: the listener's queue of one is full."""
    listener = host.steps(preload=None)
    fd = listener.socket()
    listener(f"bind {fd} {TO} {PORT}")
    listener(f"listen {fd} 0")
    listener.open(TO, PORT)
    return host


def name(steps, fd):
    laddr, lport = steps(f"name {fd}").split()
    return harness.plain_address(laddr), int(lport)


def expect_served(host, steps, fd, port=PORT):
    """The socket has a tuple of the pool and of the range, and the table says so."""
    laddr, lport = name(steps, fd)
    assert laddr in POOL_ADDRESSES and lport in host.ports
    assert (laddr, lport) in [(t.laddr, t.lport) for t in host.claims(port)]
    assert host.claims() == host.tuples(port)


# Sockets that are served

@backends
def test_v4_mapped_destination(served, backend):
    """As Java connects: an AF_INET6 socket to ::ffff:127.0.0.1, in the same lane as AF_INET ones."""
    served.set_ports(40000, 40009)
    steps = served.steps(addrs="127.0.0.9", backend=backend)
    fds = steps.open(f"::ffff:{TO}", PORT, 5, kind="v6") + steps.open(TO, PORT, 5)
    assert steps(f"name {fds[0]}").startswith("::ffff:127.0.0.9 ")
    assert {name(steps, fd) for fd in fds} == {("127.0.0.9", port) for port in served.ports}
    assert served.claims() == served.tuples(PORT)
    for kind, to in (("v4", TO), ("v6", f"::ffff:{TO}")):
        fd = steps.socket(kind)
        assert steps.connect(fd, to, PORT) == "EADDRNOTAVAIL"


@backends
@pytest.mark.parametrize("kind, to", [("v4", TO), ("v6", f"::ffff:{TO}"), ("v6", "::1")])
def test_non_blocking_with_epoll_before_connect(served, backend, kind, to):
    """As nginx connects: watched first, connected later; the event must be one of a connection."""
    steps = served.steps(addrs=POOL, backend=backend)
    fd = steps.socket(kind)
    steps.program.say(f"option {fd} reset")
    assert steps.program.line() == "0"
    watch = steps(f"watch {fd}")
    assert steps.connect(fd, to, PORT) == "0"
    assert steps(f"writable {watch}") == "writable"
    assert steps(f"error {fd}") == "0"
    if to == "::1":
        assert served.claims() == served.tuples(PORT) != []
    else:
        expect_served(served, steps, fd)


@backends
def test_non_blocking_in_progress(two_hosts, backend):
    """Over a cable connect() returns EINPROGRESS; the claim is there from then on."""
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT}")
    for preload, expected in ((None, "10.7.0.1"), ("run", "10.7.0.3")):
        steps = client.steps(preload=preload, addrs="10.7.0.3", backend=backend)
        fd = steps.socket("nonblock")
        watch = steps(f"watch {fd}")
        assert steps.connect(fd, "10.7.0.100", PORT) == "EINPROGRESS"
        assert steps(f"writable {watch}") == "writable"
        assert steps.connect(fd, "10.7.0.100", PORT) == "0"
        assert steps.connect(fd, "10.7.0.100", PORT) == "EISCONN"
        assert name(steps, fd)[0] == expected
        # The peer's view.
        assert expected in {s.tuple.faddr for s in server.sockets(PORT, server=True)}
    assert client.claims() == [t for t in client.tuples(PORT) if t.laddr == "10.7.0.3"]
    assert len(client.claims()) == 1


@backends
def test_non_blocking_refused(two_hosts, backend):
    """The refusal arrives after connect(): the claim goes when the program asks again, or closes."""
    client, _ = two_hosts
    steps = client.steps(addrs="10.7.0.3", backend=backend)
    for last in ("connect {} 10.7.0.100 8999", "close {}"):
        fd = steps.socket("nonblock")
        watch = steps(f"watch {fd}")
        assert steps.connect(fd, "10.7.0.100", NOBODY) == "EINPROGRESS"
        steps(f"writable {watch}")
        assert steps(f"error {fd}") == "ECONNREFUSED"
        steps(last.format(fd))
        assert client.tuples(NOBODY) == []
        steps(f"close {fd}")
        assert client.claims() == []


@backends
def test_non_blocking_refused_then_retried(two_hosts, backend):
    """Call by call as without the preload, and in the end connected from the pool."""
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT}")
    heard = []
    for preload in (None, "run"):
        steps = client.steps(preload=preload, addrs="10.7.0.3", backend=backend)
        fd = steps.socket("nonblock")
        watch = steps(f"watch {fd}")
        answers = []
        for port in (NOBODY, NOBODY, PORT, PORT, PORT):
            answers.append(steps.connect(fd, "10.7.0.100", port))
            if answers[-1] == "EINPROGRESS":  # nothing is to come after the others
                steps(f"writable {watch}")
        heard.append(answers)
    assert heard[0] == heard[1] == ["EINPROGRESS", "ECONNREFUSED", "EINPROGRESS", "0", "EISCONN"]
    assert [t.laddr for t in client.claims()] == ["10.7.0.3"]
    assert set(client.claims()) <= set(client.tuples(PORT))


def test_asyncio(served):
    script = f"""
import asyncio
async def main():
    both = await asyncio.gather(*(asyncio.open_connection("{TO}", {PORT}) for _ in range(50)))
    print(*sorted(w.get_extra_info("sockname") for _, w in both))
    await asyncio.to_thread(input)
asyncio.run(main())
"""
    running = served.start(harness.PYTHON, "-c", script, preload="run", addrs=POOL)
    running.line()
    assert {t.laddr for t in served.tuples(PORT)} == POOL_ADDRESSES
    assert served.claims() == served.tuples(PORT)
    assert len(served.claims()) == 50
    running.end()
    assert served.claims() == []


@backends
def test_mptcp(served, backend):
    steps = served.steps(addrs=POOL, backend=backend)
    fd = steps("socket mptcp")
    if not fd.isdigit():
        pytest.skip(f"this kernel has no MPTCP: {fd}")
    assert steps.connect(fd, TO, PORT) == "0"
    laddr, lport = name(steps, fd)
    assert laddr in POOL_ADDRESSES and lport in served.ports
    assert [(t.laddr, t.lport) for t in served.claims()] == [(laddr, lport)]
    assert (laddr, lport) in [(s.tuple.laddr, s.tuple.lport) for s in served.sockets(PORT)]
    steps(f"close {fd}")
    assert served.claims() == []


def test_link_local(two_hosts):
    """A scoped destination is reached from an address of its link."""
    client, server = two_hosts

    def link_local(on):
        words = on.must("ip", "-6", "-o", "address", "show", "dev", "wire", "scope", "link").split()
        return words[3].split("/")[0] if words and "tentative" not in words else None

    here, there = (harness.eventually(lambda on=on: link_local(on)) for on in two_hosts)
    server.sink(f":: {PORT}")
    index = client.must("ip", "-o", "link", "show", "dev", "wire").split(":")[0]
    steps = client.steps()
    [fd] = steps.open(f"{there}%{index}", PORT, kind="v6")
    assert name(steps, fd)[0] == here
    assert [(t.laddr, t.faddr) for t in client.claims()] == [(here, there)]


@backends
@pytest.mark.parametrize("kind, to, reached", [("v4", "0.0.0.0", "127.0.0.1"), ("v6", "::", "::1")])
def test_any_as_destination(served, backend, kind, to, reached):
    """The kernel takes 0.0.0.0 and :: for this host; the claim names what was reached."""
    for preload in (None, "run"):
        steps = served.steps(preload=preload, backend=backend)
        [fd] = steps.open(to, PORT, kind=kind)
        assert name(steps, fd)[0] == reached
    [claim] = served.claims()
    assert (claim.laddr, claim.lport) == name(steps, fd)
    assert claim in served.tuples(PORT)


def test_port_range_changes(served):
    """An administrator moves ip_local_port_range while a program runs: what the kernel gave is what
    is claimed, and soon exactly the new range is used."""
    steps = served.steps(backend="late")
    steps.open(TO, PORT, 50)
    served.set_ports(50000, 50099)
    fds = steps.open(TO, 8002, 100)
    assert {name(steps, fd)[1] for fd in fds} == served.ports
    assert steps.connect(steps.socket(), TO, 8002) == "EADDRNOTAVAIL"
    assert served.claims() == sorted(served.tuples(PORT) + served.tuples(8002))


# Sockets that are left alone

ALONE = {
    "bound to a port": ["bind {} 127.0.0.1 40123"],
    "bound to any address and a port": ["bind {} 0.0.0.0 40123"],
    "bound to a port outside the range": ["bind {} 127.0.0.5 30123"],
    "bound by the kernel's choice of port": ["bind {} 127.0.0.5 0"],
}


@pytest.mark.parametrize("orders", ALONE.values(), ids=ALONE.keys())
def test_bound_socket_is_left_alone(served, orders):
    steps = served.steps(addrs=POOL)
    fd = steps.socket()
    for order in orders:
        assert steps(order.format(fd)) == "0"
    _, lport = name(steps, fd)
    assert lport != 0
    assert steps.connect(fd, TO, PORT) == "0"
    laddr, after = name(steps, fd)
    assert after == lport and laddr not in POOL_ADDRESSES
    assert served.claims() == []
    assert len(served.tuples(PORT)) == 1


@backends
def test_address_the_program_chose_is_kept(served, backend):
    """bind() to an address without a port (IP_BIND_ADDRESS_NO_PORT, as nginx's proxy_bind): a port is
    all that is added."""
    served.set_ports(40000, 40009)
    steps = served.steps(addrs=POOL, backend=backend)
    fds = [steps.socket() for _ in range(11)]
    for fd in fds:
        assert steps(f"option {fd} no-port") == "0"
        assert steps(f"bind {fd} 127.0.0.77 0") == "0"
    answers = [steps.connect(fd, TO, PORT) for fd in fds]
    assert answers == ["0"] * 10 + ["EADDRNOTAVAIL"]
    assert {(t.laddr, t.lport) for t in served.tuples(PORT)} == \
        {("127.0.0.77", port) for port in served.ports}
    assert served.claims() == served.tuples(PORT)


def test_marked_socket_is_left_to_routing(served):
    """SO_MARK may route it elsewhere: without a pool nobody but the kernel can tell its address."""
    steps = served.steps()
    fd = steps.socket()
    assert steps(f"option {fd} mark") == "0"
    assert steps.connect(fd, TO, PORT) == "0"
    assert served.claims() == []
    assert served.status()["counters"]["passed"] == 1


def test_socket_of_another_namespace(two_hosts):
    """After setns() sockets belong to another host than the table: they are the kernel's, and so are
    claims made there by nobody."""
    here, there = two_hosts
    for on in two_hosts:
        on.sink(f"{TO} {PORT}")
    script = f"""
import ctypes, os, socket
opened = [socket.create_connection(("{TO}", {PORT}))]
with open("/proc/{there.anchor.pid}/ns/net") as namespace:
    assert ctypes.CDLL(None).setns(namespace.fileno(), 0) == 0
opened.append(socket.create_connection(("{TO}", {PORT})))
print("ready", flush=True)
input()
"""
    running = here.start(harness.PYTHON, "-c", script, preload="run", addrs="127.0.0.9")
    assert running.line() == "ready", running.errors()
    assert {t.laddr for t in here.tuples(PORT)} == {"127.0.0.9"}
    assert {t.laddr for t in there.tuples(PORT)} == {"127.0.0.1"}
    assert here.claims() == here.tuples(PORT)
    assert there.claims() == []


def test_udp_is_left_alone(served):
    steps = served.steps(addrs=POOL)
    fd = steps.socket("udp")
    assert steps.connect(fd, TO, PORT) == "0"
    assert name(steps, fd)[0] == TO
    assert served.claims() == []


def test_unix_is_left_alone(served, tmp_path):
    path = tmp_path / "socket"
    server = served.start(harness.PYTHON, "-c", f"""
import socket
s = socket.socket(socket.AF_UNIX)
s.bind("{path}")
s.listen()
print("ready", flush=True)
input()
""")
    assert server.line() == "ready"
    steps = served.steps(addrs=POOL)
    fd = steps.socket("unix")
    assert steps(f"unix {fd} {path}") == "0"
    assert served.status()["counters"]["bound"] == 0


def test_listener_s_ports_are_never_taken(served):
    """Ports of the range that servers hold, on one address or on any, stay theirs."""
    served.set_ports(40000, 40009)
    listener = served.steps(preload=None)
    for at, port in ((TO, 40003), ("0.0.0.0", 40004), ("127.0.0.9", 40006)):
        fd = listener.socket()
        assert listener(f"option {fd} reuseaddr") == "0"
        assert listener(f"bind {fd} {at} {port}") == "0"
        assert listener(f"listen {fd} 5") == "0"
    steps = served.steps(addrs=TO)
    answers = [steps.connect(steps.socket(), TO, PORT) for _ in range(11)]
    used = {t.lport for t in served.tuples(PORT)}
    assert not used & {40003, 40004}
    assert used >= served.ports - {40003, 40004, 40006}
    assert answers == ["0"] * len(used) + ["EADDRNOTAVAIL"] * (11 - len(used))


@backends
def test_server_can_start_on_a_port_in_use(served, backend):
    """SO_REUSEADDR is set on what we bind, so a server that sets it too can still listen there."""
    served.set_ports(40000, 40009)
    steps = served.steps(backend=backend)
    steps.open(TO, PORT, 10)
    server = served.steps(preload=None)
    fd = server.socket()
    assert server(f"option {fd} reuseaddr") == "0"
    assert server(f"bind {fd} 0.0.0.0 40005") == "0"
    assert server(f"listen {fd} 5") == "0"


@backends
@pytest.mark.parametrize("kind, to", [("v4", TO), ("v6", f"::ffff:{TO}"), ("v6", "::1")])
def test_never_connects_to_itself(host, backend, kind, to):
    """Nobody listens on a port of the range: every try is refused, none lands on itself. The plain
    kernel's try on the one port left shows that it could."""
    host.set_ports(40000, 40003)
    steps = host.steps(backend=backend)
    for _ in range(24):
        fd = steps.socket(kind)
        assert steps.connect(fd, to, 40002) == "ECONNREFUSED"
        steps(f"close {fd}")
    assert host.sockets(40002) == []
    host.set_ports(40002, 40002)
    plain = host.steps(preload=None)
    assert plain.connect(plain.socket(kind), to, 40002) == "0"


# The same socket again

@backends
@pytest.mark.parametrize("again, expected", [((TO, NOBODY), "ECONNREFUSED"), ((TO, PORT), "0"),
                                             (("127.0.0.3", PORT), "0"), ((TO, 8002), "0")])
@pytest.mark.parametrize("times", [1, 3])
def test_refused_then_retried(served, backend, again, expected, times):
    """Some programs go on with the socket that was refused; it gets a tuple like any other."""
    steps = served.steps(addrs=POOL, backend=backend)
    plain = served.steps(preload=None)
    for who in (plain, steps):
        fd = who.socket()
        for _ in range(times):
            assert who.connect(fd, TO, NOBODY) == "ECONNREFUSED"
        assert who.connect(fd, *again) == expected
    assert served.claims(NOBODY) == []
    if expected == "0":
        assert name(steps, fd)[0] in POOL_ADDRESSES
        assert served.claims() == [t for t in served.tuples(again[1]) if t.laddr in POOL_ADDRESSES]
        assert len(served.claims()) == 1
    steps(f"close {fd}")
    assert served.claims() == []


@backends
def test_refused_and_retried_until_full(served, backend):
    """Refused sockets that are used again are confined to the same tuples as fresh ones. One that was
    bound explicitly cannot leave its port, though; a fresh one then takes what is left."""
    served.set_ports(40000, 40007)
    steps = served.steps(backend=backend)
    fds = [steps.socket() for _ in range(9)]
    for fd in fds:
        assert steps.connect(fd, TO, NOBODY) == "ECONNREFUSED"
    answers = [steps.connect(fd, TO, PORT) for fd in fds]
    assert set(answers) == {"0", "EADDRNOTAVAIL"}
    if backend == "explicit":
        steps.open(TO, PORT, 8 - answers.count("0"))
    else:
        assert answers == ["0"] * 8 + ["EADDRNOTAVAIL"]
    assert {t.lport for t in served.tuples(PORT)} == served.ports
    assert served.claims() == served.tuples(PORT)


@backends
def test_unspecified_family_gives_back(served, backend):
    """connect() to AF_UNSPEC dissolves a connection; the socket can be connected anew."""
    steps = served.steps(addrs=POOL, backend=backend)
    [fd] = steps.open(TO, PORT)
    assert len(served.claims()) == 1
    assert steps(f"unspec {fd}") == "0"
    assert served.claims() == served.tuples(PORT) == []
    assert steps.connect(fd, TO, 8002) == "0"
    assert len(served.tuples(8002)) == 1
    assert served.claims() == [t for t in served.tuples(8002) if t.laddr in POOL_ADDRESSES]


@backends
def test_interrupted(deaf, backend):
    """A signal ends the call, not the attempt: the claim stays as long as the socket does."""
    for preload in (None, "run"):
        steps = deaf.steps(preload=preload, backend=backend, addrs="127.0.0.9")
        fd = steps.socket()
        assert steps(f"interrupt {fd} {TO} {PORT}") == "EINTR"
        assert steps(f"option {fd} reuseaddr") == "0"
    assert deaf.claims() == [t for t in deaf.tuples(PORT) if t.laddr == "127.0.0.9"]
    assert len(deaf.claims()) == 1
    steps(f"close {fd}")
    assert deaf.claims() == []


@backends
def test_timed_out(deaf, backend):
    steps = deaf.steps(backend=backend, addrs="127.0.0.9")
    fd = steps.socket()
    steps(f"option {fd} user-timeout")
    assert steps.connect(fd, TO, PORT) == "ETIMEDOUT"
    assert deaf.claims() == [t for t in deaf.tuples(PORT) if t.laddr == "127.0.0.9"] == []


@backends
def test_cancelled(deaf, backend):
    """A thread cancelled in connect(): the socket lives on, so does its claim, until it is closed."""
    steps = deaf.steps(backend=backend, addrs="127.0.0.9")
    fds = [steps.socket() for _ in range(5)]
    for fd in fds:
        assert steps(f"cancel {fd} {TO} {PORT}") == "cancelled"
    assert deaf.claims() == [t for t in deaf.tuples(PORT) if t.laddr == "127.0.0.9"]
    assert len(deaf.claims()) == 5
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    assert deaf.claims() == []


# Arguments

@backends
def test_arguments(served, backend):
    """Result and errno of calls that must fail, or change nothing, are the kernel's."""
    plain = served.must(harness.program("arguments"), TO, PORT)
    ours = served.run(harness.program("arguments"), TO, PORT, preload="run", backend=backend)
    assert (ours.code, ours.err) == (0, "")
    assert ours.out.splitlines() == plain.splitlines()
    # The program does what it is meant to, or both would be equal for nothing.
    said = dict(line.split(": ") for line in plain.splitlines() if ": " in line)
    assert said["null"] == "-1 EFAULT"
    assert said["length 2"] == "-1 EINVAL"
    assert said["pipe"] == "-1 ENOTSOCK"
    assert said["connected"] == "0 untouched"
    assert said["already connected"] == "-1 EISCONN"
    assert said["listening"] == "-1 EISCONN"
    assert said["connected after refusals"] == "0 untouched"
    served.reap()  # claims that stand for what the plain program has left in TIME_WAIT
    assert served.claims() == []


@pytest.mark.parametrize("preload", [None, "run"])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "after fork"])
@pytest.mark.parametrize("order", ["socket v4", "dup {}", "dup2 {} 300", "dup2 2 {}", "dup3 {} 301",
                                   "dup3 2 {}", "dupfd {} 302", "close {}", "unspec {}", "fork",
                                   "close_range {} {}", "closefrom {}", "vfork 400 410"])
def test_errno_is_untouched_on_success(served, preload, shared, order):
    """steps marks an answer when a call that succeeded has written to errno. After a fork a close has
    to ask the kernel whether it was the last one."""
    steps = served.steps(preload=preload)
    fd = steps.socket()
    high = steps(f"dupfd {fd} 600")
    steps(f"close {fd}")
    if shared:
        assert steps("fork") == "0"
    assert steps.connect(high, TO, PORT) == "0"
    answer = steps(order.replace("{}", high))
    assert answer.isdigit(), answer


def test_route_that_changes(two_hosts):
    """Without a pool the kernel has the last word on the address: claims are the tuples it made, at once."""
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT}")
    steps = client.steps()
    for source in ("10.7.0.2", "10.7.0.3", "10.7.0.2", "10.7.0.4"):
        client.must("ip", "route", "replace", "10.7.0.100/32", "dev", "wire", "src", source)
        fds = steps.open("10.7.0.100", PORT, 3)
        assert {steps(f"name {fd}").split()[0] for fd in fds} == {source}
        assert client.claims() == client.tuples(PORT)
    assert client.status()["counters"]["passed"] == 0


def test_source_that_the_program_prefers(two_hosts):
    """IPV6_ADDR_PREFERENCES of a socket decides as it does without tuplebind."""
    client, server = two_hosts
    server.sink(f"fd07::100 {PORT}")
    client.must("ip", "address", "add", "fd07::77/64", "dev", "wire", "nodad", "home")
    script = f"""
import socket, struct
for preference in (0x0004, 0x0400):  # IPV6_PREFER_SRC_COA, _HOME
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, 72, struct.pack("=i", preference))
    s.connect(("fd07::100", {PORT}))
    print(s.getsockname()[0])
"""
    said = [client.must(harness.PYTHON, "-c", script, preload=preload) for preload in (None, "run")]
    assert said[0] == said[1]
