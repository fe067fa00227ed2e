"""How pools are spread: what each balance promises, over 10,000 connections and several processes.

The counts are of the kernel's sockets. Evenness that is promised exactly is compared exactly; what is
drawn at random is held to bounds that a right draw exceeds once in a million runs.
"""

import collections

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
POOL = [f"127.0.0.{i}" for i in range(2, 12)]
ADDRS = f"{POOL[0]}-{POOL[-1]}"
EACH = 1000
COUNT = EACH * len(POOL)


@pytest.fixture
def served(host):
    host.sink(f"0.0.0.0 {PORT}")
    return host


def seeds(host, processes, each, **settings):
    """So many programs at once, which keep their connections."""
    running = [host.start_seed(TO, PORT, each, **settings) for _ in range(processes)]
    for program in running:
        line = program.line() or program.errors()
        assert f'"opened": {each}' in line or f'"opened":{each}' in line, line
    tuples = host.tuples(PORT)
    assert len(tuples) == len(set(tuples)) == processes * each
    return collections.Counter(t.laddr for t in tuples)


DESTINATIONS = """
import socket, sys
first, count, times = (int(word) for word in sys.argv[1:4])
used = []
for _ in range(times):
    for n in range(first, first + count):
        to = f"127.1.{n // 250}.{n % 250 + 1}"
        with socket.create_connection((to, 8001)) as made:
            used.append((to, made.getsockname()[0]))
print(*(f"{to}={laddr}" for to, laddr in used), flush=True)
"""


def to_destinations(host, first, count, times=1, **settings):
    """Connects to so many destinations in turn; (destination, address) of each connection."""
    out = host.must(harness.PYTHON, "-c", DESTINATIONS, first, count, times, preload="run", limit=120,
                    **settings)
    return [tuple(word.split("=")) for word in out.split()]


# rotate: exactly even

def test_rotate_in_one_process(served):
    served.set_ports(32768, 60999)
    assert seeds(served, 1, COUNT, addrs=ADDRS) == dict.fromkeys(POOL, EACH)


def test_rotate_in_several_processes(served):
    """Each is even by itself, and they do not begin at the same place."""
    served.set_ports(32768, 60999)
    counts = seeds(served, 8, 1250, addrs=ADDRS)
    assert counts == dict.fromkeys(POOL, EACH)


def test_rotate_in_programs_that_connect_once(served):
    """As curl does, started again and again: the next program has the next address."""
    for _ in range(2 * len(POOL)):
        served.steps(addrs=ADDRS).open(TO, PORT)
    used = collections.Counter(t.laddr for t in served.tuples(PORT))
    assert used == dict.fromkeys(POOL, 2)


def test_rotate_to_many_destinations(served):
    """10,000 destinations once, and 100 of them a hundred times: even over all, and for each."""
    once = to_destinations(served, 0, COUNT, addrs=ADDRS)
    assert collections.Counter(laddr for _, laddr in once) == dict.fromkeys(POOL, EACH)
    often = to_destinations(served, 0, 100, 100, addrs=ADDRS)
    for to in {to for to, _ in often}:
        assert collections.Counter(laddr for t, laddr in often if t == to) == dict.fromkeys(POOL, 10), to


def test_rotate_to_more_destinations_than_are_remembered(served):
    """2,000 in one order, five times: none is tied to one address, and all are used about evenly."""
    used = to_destinations(served, 0, 2000, 5, addrs=ADDRS)
    expect_random(collections.Counter(laddr for _, laddr in used), COUNT)
    seen = collections.defaultdict(set)
    for to, laddr in used:
        seen[to].add(laddr)
    # Five draws of ten: on average 4.1 different ones.
    assert sum(map(len, seen.values())) / 2000 > 3


def test_rotate_in_several_threads(served):
    """Eight threads, one destination: as even as one."""
    script = """
import collections, socket, threading
used, lock = collections.Counter(), threading.Lock()
def work():
    for _ in range(250):
        made = socket.create_connection(("127.0.0.1", 8001))
        with lock:
            used[made.getsockname()[0]] += 1
        keep.append(made)
keep = []
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(*used.values())
"""
    served.set_ports(32768, 60999)
    used = served.must(harness.PYTHON, "-c", script, preload="run", addrs=ADDRS)
    assert used.split() == ["200"] * 10, used


# random: each address as likely as any other

def expect_random(counts, total):
    """Chi-squared with nine degrees of freedom is over 50 once in ten million draws."""
    expected = total / len(POOL)
    assert sum((counts[a] - expected) ** 2 / expected for a in POOL) < 50, counts
    assert set(counts) == set(POOL)
    # Nor is it rotation in disguise: exactly even is as unlikely.
    assert set(counts.values()) != {expected}


def test_random_in_one_process(served):
    served.set_ports(32768, 60999)
    expect_random(seeds(served, 1, COUNT, addrs=ADDRS, balance="random"), COUNT)


def test_random_in_several_processes(served):
    served.set_ports(32768, 60999)
    expect_random(seeds(served, 8, 1250, addrs=ADDRS, balance="random"), COUNT)


# hash: a destination always sees the same address, and destinations are spread

def test_hash(served):
    first = dict(to_destinations(served, 0, COUNT, addrs=ADDRS, balance="hash"))
    again = to_destinations(served, 0, 500, 3, addrs=ADDRS, balance="hash")
    assert all(first[to] == laddr for to, laddr in again)
    expect_random(collections.Counter(first.values()), COUNT)


def test_hash_in_several_processes_while_there_is_room(served):
    """One address for all of them until it is full; then another one."""
    ports = "40000-40499"
    counts = seeds(served, 4, 100, addrs=ADDRS, balance="hash", ports=ports)
    assert list(counts.values()) == [400]
    counts = seeds_more(served, 200, ports)
    assert sorted(counts.values()) == [100, 500]


def seeds_more(host, count, ports):
    result, _ = host.seed(TO, PORT, count, addrs=ADDRS, balance="hash", ports=ports)
    assert result["opened"] == count
    return collections.Counter(t.laddr for t in host.tuples(PORT))


# pack: one after the other

def test_pack_in_several_processes(served):
    counts = seeds(served, 4, 625, addrs=ADDRS, balance="pack", ports="40000-40999")
    assert counts == {POOL[0]: 1000, POOL[1]: 1000, POOL[2]: 500}


# Every balance: exactly addresses times ports

@pytest.mark.parametrize("balance", ["rotate", "random", "hash", "pack"])
def test_addresses_times_ports(served, balance):
    """50 addresses and 200 ports, four programs at once: 10,000 connections and not one more."""
    addrs, ports = "127.0.0.2-127.0.0.51", "40000-40199"
    settings = {"addrs": addrs, "balance": balance, "ports": ports}
    counts = seeds(served, 4, 2500, **settings)
    assert counts == {f"127.0.0.{i}": 200 for i in range(2, 52)}
    result, _ = served.seed(TO, PORT, 1, **settings)
    assert (result["opened"], result["error"]) == (0, "EADDRNOTAVAIL")


def test_pools_of_two_rules_have_turns_of_their_own(served):
    """Two destinations with a pool each, met alternately: both pools are used evenly."""
    rules = "127.1.0.1=127.0.0.2-127.0.0.3;127.1.0.2=127.0.0.4-127.0.0.5"
    used = collections.Counter(to_destinations(served, 0, 2, 100, rules=rules))
    assert sorted(used.values()) == [50] * 4, used
