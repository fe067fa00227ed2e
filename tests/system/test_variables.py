"""Every variable with good values: what each changes, as the kernel's sockets show it.

Each test opens connections with the variable set and looks at the tuples that came of it;
claims must always be those tuples. Without the variable (or the preload) the outcome would be
another one, which test_auto and the ends of the tests show.
"""

import collections
import os
import stat

import harness
import pytest

TO, PORT, OTHER_PORT = "127.0.0.1", 8001, 8002


@pytest.fixture
def served(host):
    """A host whose loopback has a few addresses of both families, with servers on them."""
    host.add_addresses("10.1.1.1", "10.1.1.2", "10.1.1.3", *(f"fd00::{i:x}" for i in range(1, 16)))
    host.sink(f":: {PORT}", f":: {OTHER_PORT}")
    return host


def opened(host, count, to=TO, port=PORT, **settings):
    """Opens connections and leaves them open; their tuples, which are what the table claims."""
    before = set(host.tuples(port))
    result, _ = host.seed(to, port, count, **settings)
    assert (result["opened"], result["error"]) == (count, "none"), result
    tuples = set(host.tuples(port)) - before
    assert len(tuples) == count
    return tuples


def claimed(host, *args, **settings):
    tuples = opened(host, *args, **settings)
    assert tuples <= set(host.claims())
    return tuples


def addresses(tuples):
    return {t.laddr for t in tuples}


def ports(tuples):
    return {t.lport for t in tuples}


def counters(host):
    return host.status()["counters"]


# TUPLEBIND_ADDRS

def test_auto(served):
    assert addresses(claimed(served, 8)) == {"127.0.0.1"}
    assert addresses(claimed(served, 8, to="10.1.1.1", addrs="auto")) == {"10.1.1.1"}
    assert addresses(claimed(served, 8, to="::1")) == {"::1"}


@pytest.mark.parametrize("addrs, expected", [
    ("127.0.0.9", {"127.0.0.9"}),
    ("127.0.0.9-127.0.0.11", {"127.0.0.9", "127.0.0.10", "127.0.0.11"}),
    ("127.0.255.254-127.1.0.1", {"127.0.255.254", "127.0.255.255", "127.1.0.0", "127.1.0.1"}),
    ("127.0.9.0/30", {f"127.0.9.{i}" for i in range(4)}),
    ("127.0.9.7/30", {f"127.0.9.{i}" for i in range(4, 8)}),
    ("127.0.0.9,127.0.0.20-127.0.0.21, 127.0.7.0/31",
     {"127.0.0.9", "127.0.0.20", "127.0.0.21", "127.0.7.0", "127.0.7.1"}),
], ids=lambda value: value if isinstance(value, str) else "")
def test_pool(served, addrs, expected):
    assert addresses(claimed(served, 30, addrs=addrs)) == expected


@pytest.mark.parametrize("addrs, expected", [
    ("fd00::2", {"fd00::2"}),
    ("fd00::9-fd00::b", {"fd00::9", "fd00::a", "fd00::b"}),
    ("fd00::8/126", {"fd00::8", "fd00::9", "fd00::a", "fd00::b"}),
], ids=lambda value: value if isinstance(value, str) else "")
def test_pool_v6(served, addrs, expected):
    assert addresses(claimed(served, 30, to="fd00::1", addrs=addrs)) == expected


def test_pool_interface(two_hosts):
    """All addresses of the interface, those of the destination's family."""
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT} fd07::100 {PORT}")
    assert addresses(claimed(client, 20, to="10.7.0.100", addrs="wire")) == \
        {f"10.7.0.{i}" for i in range(1, 5)}
    assert addresses(claimed(client, 20, to="fd07::100", addrs="wire")) == \
        {f"fd07::{i}" for i in range(1, 5)}


def test_pool_of_both_families(served):
    """A destination is reached from the pool's addresses of its own family and reach."""
    pool = "127.0.0.9,10.1.1.3,fd00::5"
    for to, expected in ((TO, "127.0.0.9"), ("10.1.1.1", "10.1.1.3"), ("fd00::1", "fd00::5"),
                         ("::1", "::1")):
        assert addresses(claimed(served, 6, to=to, addrs=pool)) == {expected}


def test_pool_with_foreign_address(served):
    """An address that is not this host's is passed over, the connections are made from the rest."""
    assert addresses(claimed(served, 20, to="10.1.1.1", addrs="10.9.9.9,10.1.1.2")) == {"10.1.1.2"}


# TUPLEBIND_PORTS

@pytest.mark.parametrize("setting, expected, ways", [
    ("40010-40019", set(range(40010, 40020)), {"late"}),
    ("40100", {40100}, {"late"}),
    ("30000-30009", set(range(30000, 30010)), {"explicit"}),
    ("40990-41009", set(range(40990, 41010)), {"late", "explicit"}),
    ("30000-30004, 40000-40004", {*range(30000, 30005), *range(40000, 40005)},
     {"late", "explicit"}),
    ("auto", set(range(40000, 41000)), {"late"}),
    ("auto/8:3", set(range(40002, 41000, 8)), {"late"}),
    ("30000-30099/10:10", set(range(30009, 30100, 10)), {"explicit"}),
    ("30000-30099/10:1", set(range(30000, 30100, 10)), {"explicit"}),
])
def test_ports(served, setting, expected, ways):
    """Exactly these ports; those outside ip_local_port_range by explicit bind, which needs no range."""
    assert ports(claimed(served, len(expected), ports=setting)) == expected
    counted = counters(served)
    assert {way for way in ("late", "explicit") if counted[way]} == ways
    assert counted["bound"] == counted["late"] + counted["explicit"] == len(expected)
    result, _ = served.seed(TO, PORT, 1, ports=setting)
    assert result["error"] == "EADDRNOTAVAIL"


def test_parts_of_the_ports(served):
    """Eight programs that know nothing of each other: together all ports, none twice, none refused."""
    running = [served.start_seed(TO, PORT, 126, table="private", ports=f"auto/8:{part}")
               for part in range(1, 9)]
    for program in running:
        assert '"opened":125,"error":"EADDRNOTAVAIL"' in program.line(), program.errors()
    assert sorted(t.lport for t in served.tuples(PORT)) == list(range(40000, 41000))


def test_reserved_ports_can_be_named(served):
    """auto leaves reserved ports out; who names them gets them, by explicit bind."""
    served.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40989")
    assert ports(claimed(served, 10)) == set(range(40990, 41000))
    assert ports(claimed(served, 5, port=OTHER_PORT, ports="40000-40004")) == \
        set(range(40000, 40005))


# TUPLEBIND_BALANCE

POOL = "127.0.0.2-127.0.0.5"
POOL_ADDRESSES = [f"127.0.0.{i}" for i in range(2, 6)]


def in_order(host, destinations, **settings):
    """The local addresses of connections made one after another in one process."""
    steps = host.steps(**settings)
    fds = [steps.open(to, PORT)[0] for to in destinations]
    return [steps(f"name {fd}").split()[0] for fd in fds]


@pytest.mark.parametrize("settings", [{}, {"balance": "rotate"}], ids=["default", "rotate"])
def test_rotate(served, settings):
    used = in_order(served, [TO] * 40, addrs=POOL, **settings)
    assert collections.Counter(used) == dict.fromkeys(POOL_ADDRESSES, 10)
    assert all(len(set(used[i:i + 4])) == 4 for i in range(37)), used


def test_random(served):
    """All addresses, and not in turn: 80 draws miss one, or never repeat, once in a billion runs."""
    used = in_order(served, [TO] * 80, addrs=POOL, balance="random")
    assert set(used) == set(POOL_ADDRESSES)
    assert any(a == b for a, b in zip(used, used[1:]))


def test_hash(served):
    """One destination, one address, in every process; many destinations, all addresses."""
    destinations = [f"127.0.1.{i}" for i in range(1, 41)]
    first, again, second = (
        in_order(served, destinations * times, addrs=POOL, balance="hash") for times in (1, 2, 1))
    assert first == second == again[:40] == again[40:]
    assert set(first) == set(POOL_ADDRESSES)


def test_pack(served):
    """The second address is not used before the first is full."""
    used = in_order(served, [TO] * 25, addrs=POOL, balance="pack", ports="40000-40009")
    assert used == ["127.0.0.2"] * 10 + ["127.0.0.3"] * 10 + ["127.0.0.4"] * 5


@pytest.mark.parametrize("balance", ["rotate", "random", "hash", "pack"])
def test_every_balance_uses_every_tuple(served, balance):
    tuples = claimed(served, 40, addrs=POOL, balance=balance, ports="40000-40009")
    assert collections.Counter(t.laddr for t in tuples) == dict.fromkeys(POOL_ADDRESSES, 10)


# TUPLEBIND_SKIP, TUPLEBIND_RULES

@pytest.mark.parametrize("setting, skipped, served_still", [
    ("127.0.1.0/24", ["127.0.1.1 8001", "127.0.1.255 8002"], ["127.0.2.0 8001", "127.0.0.1 8001"]),
    ("127.0.0.1:8002", ["127.0.0.1 8002"], ["127.0.0.1 8001", "127.0.0.2 8002"]),
    ("127.0.0.0/8:8002", ["127.0.3.1 8002"], ["127.0.3.1 8001"]),
    ("fd00::8/125", ["fd00::8 8001", "fd00::f 8001"], ["fd00::7 8001", "127.0.0.1 8001"]),
    ("[fd00::1]:8002", ["fd00::1 8002"], ["fd00::1 8001", "fd00::2 8002"]),
    ("[fd00::8/125]:8002", ["fd00::9 8002"], ["fd00::9 8001"]),
    ("0.0.0.0/0", ["127.0.0.1 8001"], ["fd00::1 8001"]),
    ("127.0.1.1, 127.0.1.2", ["127.0.1.1 8001", "127.0.1.2 8001"], ["127.0.1.3 8001"]),
])
def test_skip(served, setting, skipped, served_still):
    """Skipped destinations are reached from where the kernel will, and without a claim."""
    steps = served.steps(skip=setting, addrs="127.0.0.9,fd00::9")
    for destinations, ours in ((skipped, False), (served_still, True)):
        for destination in destinations:
            to, port = destination.split()
            [fd] = steps.open(to, port, kind="v6" if ":" in to else "v4")
            laddr = steps(f"name {fd}").split()[0]
            claims = [claim for claim in served.claims() if claim.faddr == to]
            assert bool(claims) == ours, destination
            assert laddr in ("127.0.0.9", "fd00::9") or not ours
            steps(f"close {fd}")


def test_rules(served):
    """The first that matches decides; what matches none has the general pool."""
    rules = ("127.0.1.1=skip; 127.0.1.0/24:8002=127.0.0.30; 127.0.1.0/24=127.0.0.20@40500-40504;"
             "127.0.2.0/24=auto@40600;[fd00::1]:8001=fd00::2-fd00::3@30000-30009")
    settings = {"rules": rules, "addrs": "127.0.0.9,fd00::9"}
    assert addresses(opened(served, 4, to="127.0.1.1", **settings)) == {"127.0.0.1"}
    assert served.claims() == []
    assert addresses(claimed(served, 4, to="127.0.1.2", port=8002, **settings)) == {"127.0.0.30"}
    tuples = claimed(served, 5, to="127.0.1.3", **settings)
    assert {(t.laddr, t.lport) for t in tuples} == {("127.0.0.20", p) for p in range(40500, 40505)}
    tuples = claimed(served, 1, to="127.0.2.1", **settings)
    assert {(t.laddr, t.lport) for t in tuples} == {("127.0.0.1", 40600)}
    tuples = claimed(served, 20, to="fd00::1", **settings)
    assert {(t.laddr, t.lport) for t in tuples} == \
        {(a, p) for a in ("fd00::2", "fd00::3") for p in range(30000, 30010)}
    assert addresses(claimed(served, 4, to="fd00::1", port=8002, **settings)) == {"fd00::9"}
    assert addresses(claimed(served, 4, to="127.0.3.1", **settings)) == {"127.0.0.9"}


def test_rule_overrides_skip_only_behind_it(served):
    """TUPLEBIND_SKIP comes before all rules."""
    tuples = opened(served, 4, skip="127.0.0.0/8", rules="127.0.0.1=127.0.0.20")
    assert addresses(tuples) == {"127.0.0.1"}
    assert served.claims() == []


# TUPLEBIND_FULL, TUPLEBIND_BACKEND

@pytest.mark.parametrize("settings, extra, error", [
    ({}, 0, "EADDRNOTAVAIL"), ({"full": "fail"}, 0, "EADDRNOTAVAIL"), ({"full": "kernel"}, 20, "none")])
@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_full(served, settings, extra, error, backend):
    """Ten tuples to give away; what the kernel adds comes from the rest of its own range."""
    result, _ = served.seed(TO, PORT, 30, ports="40100-40109", backend=backend, **settings)
    assert (result["opened"], result["error"]) == (10 + extra, error)
    used = ports(served.tuples(PORT))
    assert set(range(40100, 40110)) <= used <= served.ports
    assert len(used) == 10 + extra
    assert counters(served)["full"] >= 1


@pytest.mark.parametrize("backend, way, stranger", [
    ("auto", "late", "none"), ("late", "late", "none"), ("explicit", "explicit", "EADDRNOTAVAIL")])
def test_backend(served, backend, way, stranger):
    """Late bind shares ports with strangers; explicit bind on all of them leaves them none."""
    served.set_ports(40000, 40019)
    claimed(served, 20, backend=backend)
    counted = counters(served)
    assert (counted["bound"], counted[way]) == (20, 20)
    result, _ = served.seed(TO, OTHER_PORT, 1, preload=None)
    assert result["error"] == stranger


# TUPLEBIND_TABLE, TUPLEBIND_TABLE_SIZE

def test_table_default(served):
    claimed(served, 3)
    [path] = served.tables()
    assert path == f"/dev/shm/tuplebind.{harness.table_user()}.{served.namespace}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.stat(path).st_size == 8 << 20


def test_table_name(served):
    """Tables of different names know nothing of each other."""
    for name in ("one", "two.2_-"):
        claimed(served, 3, table=name)
    assert sorted(path.split(f"{served.namespace}.")[1] for path in served.tables()) == \
        ["one", "two.2_-"]


def test_table_private(served):
    """No file to be seen; two such programs still get what the kernel has, tuple by tuple."""
    served.set_ports(40000, 40099)
    for _ in range(2):
        opened(served, 50, table="private")
    assert ports(served.tuples(PORT)) == served.ports
    assert served.tables() == []


def test_table_private_is_the_children_s_too(served):
    """A child's connect() finds the lane full without asking the kernel: nothing is retried."""
    steps = served.steps(table="private", ports="40000-40009", log="debug")
    steps.open(TO, PORT, 6)
    steps("fork")
    child = lambda order: steps("child " + order)
    for expected in ["0"] * 4 + ["EADDRNOTAVAIL"]:
        fd = child("socket v4")
        assert child(f"connect {fd} {TO} {PORT}") == expected
    assert "taken by somebody else" not in steps.program.errors()


@pytest.mark.parametrize("setting, size", [
    ("1M", 1 << 20), ("256K", 256 << 10), ("524288", 524288), ("16m", 16 << 20)])
def test_table_size(served, setting, size):
    claimed(served, 3, table_size=setting)
    assert served.status()["size"] == size
    [path] = served.tables()
    assert os.stat(path).st_size == size
    assert os.stat(path).st_blocks * 512 >= size, "allocated in full"


# TUPLEBIND_LOG, TUPLEBIND_LOG_FILE

def full_pool(host, **settings):
    """Five connections where there are three tuples; what was logged."""
    _, running = host.seed(TO, PORT, 5, ports="40000-40002", **settings)
    running.end()
    return running.errors().splitlines()


@pytest.mark.parametrize("settings, least, says", [
    ({"log": "off"}, None, ""),
    ({"log": "error"}, None, ""),
    ({}, "warn", "no tuple left"),
    ({"log": "warn"}, "warn", "no tuple left"),
    ({"log": "info"}, "warn", "no tuple left"),
    ({"log": "debug"}, "debug", "connected"),
], ids=["off", "error", "default", "warn", "info", "debug"])
def test_log(served, settings, least, says):
    lines = full_pool(served, **settings)
    if least is None:
        assert lines == []
        return
    assert any(f" {least}: " in line and says in line for line in lines), lines
    assert all(line.startswith("tuplebind[") for line in lines)
    assert len([line for line in lines if "no tuple left" in line]) == 1, "once a minute"
    assert least == "debug" or not any("debug:" in line for line in lines)


def test_log_file(served, tmp_path):
    log = tmp_path / "log"
    log.write_text("what was there\n")
    assert full_pool(served, log_file=log, log="debug") == []
    lines = log.read_text().splitlines()
    assert lines[0] == "what was there"
    tuples = [line for line in lines if "connected" in line]
    assert len(tuples) == 3
    assert all(f"foreign={TO}:{PORT}" in line and f"local={TO}:4000" in line for line in tuples)


# TUPLEBIND_DISABLE, TUPLEBIND_STRICT, TUPLEBIND_PROTOCOLS

def test_disable(served):
    """As without the preload: no table, no pool."""
    assert addresses(opened(served, 5, disable=1, addrs="127.0.0.9")) == {"127.0.0.1"}
    assert served.tables() == []
    assert addresses(claimed(served, 5, disable=0, addrs="127.0.0.9")) == {"127.0.0.9"}


def test_disable_hushes_bad_values(served):
    """Nothing is done, so nothing is wrong."""
    result = served.run("true", preload="run", disable=1, addrs="nonsense")
    assert (result.code, result.err) == (0, "")


def test_strict(served):
    """Where all is well it changes nothing."""
    assert addresses(claimed(served, 5, strict=1, addrs="127.0.0.9", protocols="tcp")) == \
        {"127.0.0.9"}


def test_empty_is_unset(served):
    names = ["addrs", "ports", "protocols", "balance", "rules", "skip", "full", "unusable", "backend", "table",
             "table_size", "log", "log_file", "disable", "strict"]
    assert addresses(claimed(served, 5, **dict.fromkeys(names, ""))) == {"127.0.0.1"}
