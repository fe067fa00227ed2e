"""Pools that change while programs run, and destinations that not every address reaches.

Interfaces whose addresses come and go, prefixes with and without their route, addresses that
disappear and come back, routing that refuses some of them: what the kernel's sockets show, and what the
log tells, once.
"""

import collections
import errno
import ipaddress
import time

import harness
import pytest

TO, TO6, PORT = "10.7.0.100", "fd07::100", 8001
WIRE = [f"10.7.0.{i}" for i in range(1, 5)]
WIRE6 = [f"fd07::{i}" for i in range(1, 5)]
NOTICED = 10  # seconds, many times what it should take


@pytest.fixture
def hosts(two_hosts):
    """A client with four addresses of each family on its wire, and a server at its other end."""
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT} fd07::100 {PORT}")
    server.must("ip", "route", "add", "default", "via", WIRE[0])
    server.must("ip", "-6", "route", "add", "default", "via", WIRE6[0])
    return client, server


def add_device(host, name):
    host.must("ip", "link", "add", name, "type", "veth", "peer", "name", name + "-end")


class Opener:
    """A program that opens connections when it is told, and knows where each came from."""

    def __init__(self, host, to=TO, **settings):
        self.host, self.to = host, to
        self.steps = host.steps(**settings)

    def open(self, count=1, kind=None):
        fds = self.steps.open(self.to, PORT, count, kind or ("v6" if ":" in self.to else "v4"))
        return [harness.plain_address(self.steps(f"name {fd}").split()[0]) for fd in fds]

    def counts(self, count):
        return collections.Counter(self.open(count))

    def until_used(self, address):
        """Opens connections until one comes from the address."""
        deadline = time.monotonic() + NOTICED
        while address not in self.open(8):
            assert time.monotonic() < deadline, f"{address} not used after {NOTICED} s"
            time.sleep(0.2)

    def until_unused(self, address):
        """Until a round of the pool goes without the address."""
        deadline = time.monotonic() + NOTICED
        while address in self.open(16):
            assert time.monotonic() < deadline, f"{address} still used after {NOTICED} s"
            time.sleep(0.2)

    def told(self, *parts):
        """The lines of the log that have all the parts."""
        return [line for line in self.steps.program.errors().splitlines()
                if all(part in line for part in parts)]


# Interfaces

@pytest.mark.parametrize("to, pool, new", [(TO, WIRE, "10.7.0.9"), (TO6, WIRE6, "fd07::9")])
def test_interface_gains_and_loses_an_address(hosts, to, pool, new):
    client, _ = hosts
    opener = Opener(client, to, addrs="wire")
    assert opener.counts(12) == dict.fromkeys(pool, 3)
    length = "/64" if ":" in new else "/24"
    client.add_addresses(new + length, device="wire")
    opener.until_used(new)
    assert opener.counts(15) == dict.fromkeys(pool + [new], 3)
    client.must("ip", "address", "del", new + length, "dev", "wire")
    opener.until_unused(new)
    assert opener.counts(12) == dict.fromkeys(pool, 3)
    assert sorted(client.tuples(PORT)) == [t for t in client.claims() if t.fport == PORT]


def test_interface_without_an_address_yet(hosts):
    """Routing chooses until the interface has one; so a service may start before its network is up."""
    client, _ = hosts
    add_device(client, "late")
    opener = Opener(client, addrs="late")
    assert set(opener.open(4)) == {"10.7.0.1"}
    client.add_addresses("10.7.0.50", "10.7.0.51", device="late")
    opener.until_used("10.7.0.50")
    assert opener.counts(8) == {"10.7.0.50": 4, "10.7.0.51": 4}
    assert opener.told("") == []


def test_interface_that_is_made_anew(hosts):
    client, _ = hosts
    add_device(client, "brief")
    client.add_addresses("10.7.0.50", device="brief")
    opener = Opener(client, addrs="brief,10.7.0.1")
    assert opener.counts(4) == {"10.7.0.50": 2, "10.7.0.1": 2}
    client.must("ip", "link", "del", "brief")
    opener.until_unused("10.7.0.50")
    assert opener.counts(4) == {"10.7.0.1": 4}
    add_device(client, "brief")
    client.add_addresses("10.7.0.51", device="brief")
    opener.until_used("10.7.0.51")


def test_interface_with_very_many_addresses(hosts):
    """More than one answer of the kernel holds, and later more than there was room for."""
    client, _ = hosts
    add_device(client, "large")

    def add(first, count):
        lines = "".join(f"address add 10.8.{n // 250}.{n % 250 + 1}/32 dev large\n"
                        for n in range(first, first + count))
        client.must("ip", "-batch", "-", stdin=lines)

    add(0, 300)
    opener = Opener(client, addrs="large")
    assert set(opener.counts(600).values()) == {2} and len(set(opener.open(300))) == 300
    add(300, 900)
    deadline = time.monotonic() + NOTICED
    while len(set(opener.open(1200))) < 1200:
        assert time.monotonic() < deadline


def test_forked_children_notice_too(hosts):
    client, _ = hosts
    opener = Opener(client, addrs="wire")
    opener.open(1)
    assert opener.steps("fork") != "-1"
    client.add_addresses("10.7.0.9/24", device="wire")
    deadline = time.monotonic() + NOTICED
    while True:
        fd = opener.steps("child socket v4")
        assert opener.steps(f"child connect {fd} {TO} {PORT}") == "0"
        if opener.steps(f"child name {fd}").startswith("10.7.0.9 "):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_several_threads_while_addresses_change(hosts):
    """Eight threads connect while addresses come and go: nothing fails, no address from elsewhere."""
    client, _ = hosts
    script = f"""
import socket, sys, threading, time
end = time.monotonic() + 4
seen = set()
def work():
    while time.monotonic() < end:
        with socket.create_connection(("{TO}", {PORT})) as made:
            seen.add(made.getsockname()[0])
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
print("started", flush=True)
for t in threads: t.join()
print(*sorted(seen), flush=True)
"""
    running = client.start(harness.PYTHON, "-c", script, preload="run", addrs="wire")
    assert running.line() == "started"
    for _ in range(6):
        for change in ("add", "del"):
            for i in (20, 21, 22):
                client.must("ip", "address", change, f"10.7.0.{i}/24", "dev", "wire")
            time.sleep(0.25)
    seen = set(running.line().split())
    assert running.end() == 0, running.errors()
    assert set(WIRE) <= seen <= set(WIRE) | {f"10.7.0.{i}" for i in (20, 21, 22)}, running.errors()


def test_interface_of_another_namespace_than_the_thread_s(hosts):
    """A thread that has gone into another one connects a socket from here: from the addresses of here."""
    client, _ = hosts
    said = client.must(harness.PYTHON, "-c", f"""
import ctypes, socket, time
made = [socket.socket() for _ in range(9)]
made[8].connect(("{TO}", {PORT}))
assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0, ctypes.get_errno()  # CLONE_NEWNET
for s in made[:4]:
    s.connect(("{TO}", {PORT}))
time.sleep(2.1)  # the interface is looked at once a second
for s in made[4:8]:
    s.connect(("{TO}", {PORT}))
print(*(s.getsockname()[0] for s in made[:8]))
""", preload="run", addrs="wire")
    assert collections.Counter(said.split()) == dict.fromkeys(WIRE, 2)


# Prefixes

@pytest.mark.parametrize("prefix", ["fd99::/64", "fd99:0:1::/48", "fd99::/112", "10.99.0.0/16"])
def test_prefix_drawn_from(hosts, prefix):
    """Every connection from another address of the prefix, from all over it."""
    client, _ = hosts
    network = ipaddress.ip_network(prefix)
    client.must("ip", f"-{network.version}", "route", "add", "local", prefix, "dev", "lo")
    opener = Opener(client, TO6 if network.version == 6 else TO, addrs=prefix)
    used = [ipaddress.ip_address(a) for a in opener.open(300)]
    assert all(a in network for a in used)
    assert len(set(used)) == 300
    if network.num_addresses > 1 << 16:
        # All bits are drawn: each is set in about half of them (150 of 300; 100 is six deviations off).
        for bit in range(network.max_prefixlen - network.prefixlen):
            assert 100 < sum(int(a) >> bit & 1 for a in used) < 200, bit
    assert opener.told("") == []


@pytest.mark.parametrize("balance", ["random", "hash", "pack"])
def test_prefix_with_every_balance(hosts, balance):
    client, _ = hosts
    client.must("ip", "-6", "route", "add", "local", "fd99::/64", "dev", "lo")
    opener = Opener(client, TO6, addrs="fd99::/64", balance=balance)
    used = set(opener.open(50))
    assert all(a.startswith("fd99::") for a in used)
    assert len(used) == (50 if balance == "random" else 1)


@pytest.mark.parametrize("prefix, to", [("fd99::/64", TO6), ("10.99.0.0/16", TO)])
def test_prefix_whose_route_is_missing(hosts, prefix, to):
    """One line that says how to mend it; routing chooses meanwhile; noticed when it is mended."""
    client, _ = hosts
    client.departures_expected = True  # routing chooses meanwhile, and the log says so
    opener = Opener(client, to, addrs=prefix)
    assert len(set(opener.open(20))) == 1
    option = "-6 " if ":" in prefix else ""
    lines = opener.told("warn")
    assert len(lines) == 2 and f"ip {option}route add local {prefix} dev lo" in lines[0], lines
    assert "event=unusable" in lines[1] and 'then="the kernel chooses"' in lines[1], lines
    client.must("ip", *option.split(), "route", "add", "local", prefix, "dev", "lo")
    network = ipaddress.ip_network(prefix)
    harness.eventually(lambda: ipaddress.ip_address(opener.open()[0]) in network)
    assert len(opener.told("")) == 3 and opener.told("event=back", f"pool={prefix}"), opener.told("")


def test_others_carry_on_beside_a_prefix_whose_route_is_missing(hosts):
    client, _ = hosts
    opener = Opener(client, TO6, addrs="fd99::/64,fd07::3")
    assert set(opener.open(40)) == {"fd07::3"}
    assert len(opener.told("fd99::/64")) == 1


PREFIX = "fd99::/64"
BINDS_FREELY = """
import ctypes, socket, struct, sys
IPV6_FREEBIND = 78
s = socket.socket(socket.AF_INET6, getattr(socket, sys.argv[1]))
def tell(error=0):
    print(error, s.getsockname()[0], s.getsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND))
def connect(to, port):
    tell(s.connect_ex((to, port)))
"""


def freely(host, kind, text, **settings):
    result = host.run(harness.PYTHON, "-c", BINDS_FREELY + text, kind, preload="run", protocols="tcp,udp", **settings)
    assert (result.code, result.err) == (0, ""), result
    return [line.split() for line in result.out.splitlines()]


@pytest.fixture
def with_prefix(hosts):
    client, _ = hosts
    client.must("ip", "-6", "route", "add", "local", PREFIX, "dev", "lo")
    return client


def test_from_a_prefix_then_from_an_address(with_prefix):
    """A socket that was refused connects again: the option that the prefix needed it does not keep."""
    first, second = freely(with_prefix, "SOCK_STREAM", f"connect('{TO6}', 9); connect('{TO6}', {PORT})",
                           rules=f"[{TO6}]:9={PREFIX};[{TO6}]:{PORT}=fd07::3")
    assert first[0] == str(errno.ECONNREFUSED) and first[2] == "1", first
    assert second == ["0", "fd07::3", "0"]


def test_from_a_prefix_then_from_nowhere(with_prefix):
    """connect() to AF_UNSPEC leaves a UDP socket as new."""
    first, second = freely(with_prefix, "SOCK_DGRAM", f"""
connect('{TO6}', {PORT})
ctypes.CDLL(None).connect(s.fileno(), struct.pack("H14x", 0), 16)
tell()
""", addrs=PREFIX)
    assert first[0] == "0" and first[1].startswith("fd99::") and first[2] == "1", first
    assert second == ["0", "::", "0"]


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_program_that_binds_freely_itself(with_prefix, kind):
    """Its own option stays, whatever tuplebind does."""
    lines = freely(with_prefix, kind, f"""
s.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
connect('{TO6}', 9)
connect('{TO6}', {PORT})
""", rules=f"[{TO6}]:9={PREFIX};[{TO6}]:{PORT}=fd07::3")
    assert [line[2] for line in lines] == ["1", "1"], lines


def test_many_addresses_none_of_which_is_this_host_s(hosts):
    """A range is told of as such, once, by its first address; there is no one command that would mend it."""
    client, _ = hosts
    client.departures_expected = True  # routing chooses meanwhile, and the log says so
    opener = Opener(client, addrs="10.99.0.1-10.99.255.254")
    assert set(opener.open(20)) == {"10.7.0.1"}
    line, unusable = opener.told("")
    assert "event=set-aside" in line and "pool=10.99.0.1- " in line and "fix=" not in line, line
    assert "event=unusable" in unusable, unusable


# Addresses that disappear, or do not reach the destination

def test_address_disappears_and_comes_back(hosts):
    """The others share what it had, evenly; told once when it goes and once when it is back."""
    client, _ = hosts
    opener = Opener(client, addrs=",".join(WIRE))
    assert opener.counts(8) == dict.fromkeys(WIRE, 2)
    client.must("ip", "address", "del", "10.7.0.2/24", "dev", "wire")
    opener.open(4)
    left = [a for a in WIRE if a != "10.7.0.2"]
    for _ in range(3):
        assert max(abs(n - 10) for n in opener.counts(30).values()) <= 1
        assert set(opener.open(9)) == set(left)
    time.sleep(6)  # set aside for 5 s, and tried again in vain
    opener.open(30)
    lines = opener.told("10.7.0.2")
    assert len(lines) == 1 and "event=set-aside" in lines[0] and 'laddr=10.7.0.2 reason="no address of this host"' in lines[0], lines
    client.add_addresses("10.7.0.2/24", device="wire")
    opener.until_used("10.7.0.2")
    assert opener.counts(40) == dict.fromkeys(WIRE, 10)
    assert len(opener.told("10.7.0.2")) == 2 and len(opener.told("event=back", "laddr=10.7.0.2")) == 1
    assert len(opener.told("")) == 2, opener.told("")


@pytest.mark.parametrize("balance", ["rotate", "random", "hash", "pack"])
def test_every_balance_without_a_lost_address(hosts, balance):
    client, _ = hosts
    opener = Opener(client, addrs="10.7.0.1,10.7.0.200,10.7.0.3,10.7.0.201", balance=balance)
    opener.open(12)  # the first ones meet what is missing
    counts = opener.counts(60)
    expected = {"rotate": {"10.7.0.1": 30, "10.7.0.3": 30}, "pack": {"10.7.0.1": 60}}
    if balance in expected:
        assert counts == expected[balance]
    elif balance == "hash":
        assert len(counts) == 1 and set(counts) < {"10.7.0.1", "10.7.0.3"}
    else:
        # 30 of 60 each; 10 is five deviations off.
        assert set(counts) == {"10.7.0.1", "10.7.0.3"} and min(counts.values()) > 10


def test_pool_of_nothing_but_lost_addresses(hosts):
    """As if there were no pool, and the log says why, in few lines."""
    client, _ = hosts
    client.departures_expected = True  # routing chooses meanwhile, and the log says so
    begun = time.monotonic()
    opener = Opener(client, addrs="10.8.0.0/24,10.9.0.1-10.9.0.50")
    assert set(opener.open(10)) == {"10.7.0.1"}
    lines = opener.told("event=set-aside")
    # Ten each minute of the clock, of 304 addresses.
    minutes = int(time.monotonic() // 60) - int(begun // 60) + 1
    assert 1 <= len(lines) <= 10 * minutes


ROUTING = ["unreachable", "prohibit", "blackhole"]
ERRORS = {"unreachable": "ENETUNREACH", "prohibit": "EACCES", "blackhole": "EINVAL"}


def refuse(client, address, how):
    family = "-6" if ":" in address else "-4"
    client.must("ip", family, "rule", "add", "from", address, how)


@pytest.mark.parametrize("how", ROUTING)
@pytest.mark.parametrize("to, refused, pool", [(TO, "10.7.0.2", WIRE), (TO6, "fd07::2", WIRE6)],
                         ids=["v4", "v6"])
@pytest.mark.parametrize("wanted", ["tcp", "udp"])
def test_address_that_cannot_reach_the_destination(hosts, how, to, refused, pool, wanted):
    """Nothing fails: the next address takes over, and the log tells once."""
    client, _ = hosts
    refuse(client, refused, how)
    opener = Opener(client, to, addrs=",".join(pool), protocols="tcp,udp")
    kind = ("v6" if ":" in to else "v4") if wanted == "tcp" else ("udp6" if ":" in to else "udp")
    used = [a for _ in range(5) for a in opener.open(6, kind)]
    assert set(used) == set(pool) - {refused}
    lines = opener.told("")
    assert len(lines) == 1 and "event=set-aside" in lines[0] and f"laddr={refused} faddr={to} " in lines[0], lines
    client.must("ip", "-6" if ":" in to else "-4", "rule", "del", "from", refused, how)
    opener.until_used(refused)
    assert len(opener.told("event=back", f"laddr={refused} faddr={to}")) == 1


def test_address_of_the_last_destination_is_not_the_next_one_s(hosts):
    """A refused socket goes on to a destination without a pool: from where routing says."""
    client, _ = hosts
    steps = client.steps(rules=f"{TO}:9=10.7.0.3")
    fd = steps.socket()
    assert steps.connect(fd, TO, 9) == "ECONNREFUSED"
    assert steps(f"name {fd}").split()[0] == "10.7.0.3"
    assert steps.connect(fd, TO, PORT) == "0"
    assert steps(f"name {fd}").split()[0] == "10.7.0.1"


@pytest.mark.parametrize("backend", ["auto", "explicit"])
def test_address_the_program_chose_disappears(hosts, backend):
    """Between its bind() and its connect(): the kernel's error, no claim, and nothing is set aside for it."""
    client, _ = hosts
    answers = []
    for preload, settings in ((None, {}), ("run", {"backend": backend, "addrs": ",".join(WIRE)})):
        steps = client.steps(preload=preload, **settings)
        fd = steps.socket()
        assert steps(f"bind {fd} 10.7.0.3 0") == "0"
        client.must("ip", "address", "del", "10.7.0.3/24", "dev", "wire")
        answers.append(steps.connect(fd, TO, PORT))
        client.add_addresses("10.7.0.3/24", device="wire")
    assert answers[0] == answers[1] != "0"
    assert client.claims() == []
    assert steps.program.errors() == ""


def test_address_that_reaches_other_destinations(hosts):
    """It is set aside for the destination that it does not reach, and for no other."""
    client, server = hosts
    client.must("ip", "rule", "add", "from", "10.7.0.2", "to", TO, "prohibit")
    opener = Opener(client, addrs=",".join(WIRE))
    assert "10.7.0.2" not in opener.open(12)
    server.sink(f"10.7.0.101 {PORT}")
    opener.to = "10.7.0.101"
    assert opener.counts(12) == dict.fromkeys(WIRE, 3)


def test_explicit_bind_cannot_change_its_address(hosts):
    """The program is told, once in five seconds and not for every fourth socket."""
    client, _ = hosts
    refuse(client, "10.7.0.2", "unreachable")
    steps = client.steps(addrs=",".join(WIRE), backend="explicit")
    answers = [steps.connect(steps.socket(), TO, PORT) for _ in range(20)]
    assert collections.Counter(answers) == {"0": 19, "ENETUNREACH": 1}


@pytest.mark.parametrize("how", ROUTING)
@pytest.mark.parametrize("backend", ["auto", "explicit"])
def test_destination_that_nobody_reaches(hosts, how, backend):
    """The kernel's own error, from the first to the last, and soon the kernel's own price."""
    client, _ = hosts
    client.must("ip", "route", "add", how, "10.66.0.0/16")
    for preload in (None, "run"):
        steps = client.steps(preload=preload, addrs=",".join(WIRE), backend=backend)
        # Without a pool's address the kernel has routing say no, with one it says so, too.
        assert {steps.connect(steps.socket(), "10.66.0.1", PORT) for _ in range(10)} == \
            {"EHOSTUNREACH" if how == "unreachable" else ERRORS[how]}
    assert client.claims() == []


def test_peer_that_does_not_answer_is_the_peers_fault(hosts):
    """EHOSTUNREACH of a peer that is not there: no address is set aside for it."""
    client, _ = hosts
    opener = Opener(client, addrs=",".join(WIRE))
    steps = opener.steps
    assert steps.connect(steps.socket(), "10.7.0.77", PORT) == "EHOSTUNREACH"
    assert opener.told("") == []
    assert opener.counts(8) == dict.fromkeys(WIRE, 2)


def test_two_interfaces(hosts):
    """Of each the addresses that go with the destination; the second rule knows both again."""
    client, server = hosts
    client.sink(f"127.0.0.1 {PORT}")
    steps = client.steps(addrs="lo,wire", rules=f"{TO}:{PORT}=lo,wire")
    steps.open(TO, PORT, 8)
    steps.open("127.0.0.1", PORT, 2)
    from_where = collections.Counter(t.laddr for t in client.tuples(PORT))
    assert from_where == {**dict.fromkeys(WIRE, 2), "127.0.0.1": 2}


def test_destination_that_no_address_of_very_many_reaches(host):
    """After some of them it is given up, with the kernel's error, and no claim stays."""
    host.add_addresses(*(f"10.9.0.{i}" for i in range(1, 101)))
    steps = host.steps(addrs="10.9.0.1-10.9.0.100")
    for _ in range(3):
        assert steps.connect(steps.socket(), "203.0.113.1", PORT) == "ENETUNREACH"
    assert host.claims() == []
