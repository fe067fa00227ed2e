"""When there is nothing left: no tuple in the lane, no room in the table.

A full pool says so at once, to those who want a tuple of it and to nobody else, and only as long
as it is full: what one program gives back is what the next one gets, to the very port.
A full table makes no difference to programs: the kernel chooses, as if tuplebind were absent.
"""

import os
import re
import shutil
import signal
import tempfile

import harness
import pytest
import storms

from storms import counters

TO, PORT, OTHER_PORT = "127.0.0.1", 8001, 8002
FULL = 100
REFUSED = 1 + 200  # seed is refused once, and tries 200 times more to measure that

backends = pytest.mark.parametrize("backend", ["auto", "explicit"])


@pytest.fixture
def served(host):
    """A host with 100 ports and servers that close after their clients."""
    host.set_ports(40000, 40000 + FULL - 1)
    storms.echo(host, f"{TO} {PORT}", f"{TO} {OTHER_PORT}")
    return host


def fill(host, count=FULL, **settings):
    """A program that has all tuples to PORT, and was refused eleven more; how that went."""
    result, running = host.seed(TO, PORT, 2 * FULL, **settings)
    assert (result["opened"], result["error"]) == (count, "EADDRNOTAVAIL")
    print(f"us per failing connect: {result['us_failing']}")
    return running


@backends
def test_full_pool_fails(served, backend):
    fill(served, backend=backend)
    counted = counters(served)
    assert (counted["bound"], counted["full"], counted["passed"]) == (FULL, REFUSED, 0)
    assert {t.lport for t in served.tuples(PORT)} == served.ports


def test_full_pool_plain(served):
    """What the kernel alone takes for the same answer is printed beside it."""
    fill(served, preload=None)


def test_full_pool_of_which_the_kernel_has_more(served):
    """TUPLEBIND_FULL=kernel: what is free outside the pool is had by the kernel's own search."""
    half = {"ports": f"40000-{40000 + FULL // 2 - 1}"}
    fill(served, FULL // 2, full="fail", **half).close()
    served.reap()
    assert counters(served)["passed"] == 0
    fill(served, FULL, full="kernel", **half)
    counted = counters(served)
    assert counted["passed"] == FULL // 2 + REFUSED
    assert {t.lport for t in served.tuples(PORT)} == served.ports
    assert len(served.claims(PORT)) == FULL // 2


@backends
def test_others_meanwhile(served, backend):
    """One program beats on the full lane; those that want something else get it, each time."""
    holder = fill(served, backend=backend)
    beating = storms.start_churn(served, TO, PORT, backend=backend)
    result = storms.churn(served, TO, OTHER_PORT, 10 * FULL, FULL, backend=backend)
    assert (result["done"], result["failed"]) == (10 * FULL, {}), result
    print(f"us per connect elsewhere: {result['us']}")
    beaten = storms.stop_churn(beating)
    assert beaten["done"] == 0
    assert set(beaten["failed"]) == {"EADDRNOTAVAIL"}
    assert len(served.tuples(PORT)) == FULL
    holder.close()


def open_all(host, backend):
    """Two programs that hold a half each, of all there is."""
    programs = [host.steps(backend=backend) for _ in range(2)]
    fds = [steps.open(TO, PORT, FULL // 2) for steps in programs]
    assert refused(programs[0]) == "EADDRNOTAVAIL"
    return programs, fds


def refused(steps):
    fd = steps.socket()
    answer = steps.connect(fd, TO, PORT)
    steps(f"close {fd}")
    return answer


@backends
@pytest.mark.parametrize("end", ["reset", "TIME_WAIT"])
@pytest.mark.parametrize("who", ["same program", "other program"])
def test_one_close_one_connect(served, backend, end, who):
    """The tuple that one close() gives back is the one that the next connect() gets."""
    programs, fds = open_all(served, backend)
    closer, opener = programs[0], programs[0 if who == "same program" else 1]
    for fd in fds[0][3:45:6]:
        name = closer(f"name {fd}")
        if end == "reset":
            closer(f"option {fd} reset")
        assert closer(f"close {fd}") == "0"
        if end == "TIME_WAIT":  # once the server has closed too
            harness.eventually(lambda: len(served.tuples(PORT)) == FULL - 1)
            port = int(name.split()[1])
            harness.eventually(
                lambda: [s.state for s in served.sockets(PORT) if s.tuple.lport == port]
                == ["TIME-WAIT"])
        [new] = opener.open(TO, PORT)
        assert opener(f"name {new}") == name
        assert refused(opener) == "EADDRNOTAVAIL"
    assert served.claims(PORT) == served.tuples(PORT)


@backends
def test_full_lane_with_time_wait(served, backend):
    """
    Tuples in TIME_WAIT of a stranger who does not share its ports cannot be had.

    That is found out, and not found out again by each connect() that fails.
    """
    stranger = served.steps(preload=None)
    for fd in stranger.open(TO, PORT, FULL - 20):
        stranger(f"close {fd}")
    harness.eventually(lambda: {s.state for s in served.sockets(PORT)} == {"TIME-WAIT"})
    steps = served.steps(backend=backend)
    steps.open(TO, PORT, 20)
    assert refused(steps) == "EADDRNOTAVAIL"
    before = counters(served)["retries"]
    assert [refused(steps) for _ in range(20)] == ["EADDRNOTAVAIL"] * 20
    retries = counters(served)["retries"] - before
    print(f"{retries} retries for 20 connects")
    assert retries < 10 * FULL


@backends
def test_all_of_a_killed_program(served, backend):
    """What a killed program held is found by the next connect() that finds the lane full."""
    programs, fds = open_all(served, backend)
    for fd in fds[0]:
        programs[0](f"option {fd} reset")
    programs[0].program.signal(signal.SIGKILL)
    programs[1].open(TO, PORT, FULL // 2)
    assert refused(programs[1]) == "EADDRNOTAVAIL"
    assert counters(served)["reaped"] >= FULL // 2
    assert served.claims(PORT) == served.tuples(PORT)


# The table.

LANES = 1500  # more than the slabs of the smallest table


def destinations(first, last):
    return [f"127.{1 + i // 250}.0.{1 + i % 250}" for i in range(first, last)]


def open_lanes(steps, first, last):
    return [fd for to in destinations(first, last) for fd in steps.open(to, PORT)]


@pytest.fixture
def everywhere(host):
    """A server on every loopback address."""
    host.sink(f"0.0.0.0 {PORT}")
    return host


def test_table_full(everywhere):
    """More lanes than it holds: every connect() succeeds, and it is said once."""
    steps = everywhere.steps(table_size="256K")
    open_lanes(steps, 0, LANES)
    counted = counters(everywhere)
    assert counted["bound"] + counted["table_full"] == LANES
    assert min(counted["bound"], counted["table_full"]) > 100
    assert counted["passed"] == counted["table_full"]
    assert len(everywhere.tuples(PORT)) == LANES
    assert len(everywhere.claims(PORT)) == counted["bound"]
    [line] = steps.program.errors().splitlines()
    assert " warn: " in line and "event=table-full" in line and "TUPLEBIND_TABLE_SIZE" in line


def test_table_full_for_a_while(everywhere):
    """Lanes that are no longer used make room for others."""
    steps = everywhere.steps(table_size="256K")
    fds = open_lanes(steps, 0, LANES)
    for fd in fds:
        steps(f"option {fd} reset")
        assert steps(f"close {fd}") == "0"
    assert everywhere.claims(PORT) == []
    before = counters(everywhere)
    open_lanes(steps, LANES, LANES + 200)
    after = counters(everywhere)
    assert after["bound"] - before["bound"] == 200
    assert after["table_full"] == before["table_full"]
    assert everywhere.claims(PORT) == everywhere.tuples(PORT)


def test_table_large_enough(everywhere):
    """The same lanes in a table of the usual size."""
    steps = everywhere.steps()
    open_lanes(steps, 0, LANES)
    counted = counters(everywhere)
    assert (counted["bound"], counted["table_full"]) == (LANES, 0)
    assert everywhere.claims(PORT) == everywhere.tuples(PORT)
    assert steps.program.errors() == ""


# Memory

@pytest.fixture
def locked(host):
    """Starts steps as another user, who may lock so many bytes, with and without the library."""
    if os.getuid() != 0 or open("/proc/self/uid_map").read().split()[2] == "1":
        pytest.skip("there is only one user here")
    host.sink(f"{TO} {PORT}")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program, library = (shutil.copy(path, directory) for path in (harness.program("steps"), harness.LIBRARY))
        user = str(harness.OTHER_USER)

        def start(limit, preload=True, **settings):
            words = [f"LD_PRELOAD={library}"] if preload else []
            return harness.Steps(host.start("prlimit", f"--memlock={limit}", "setpriv", "--reuid", user, "--regid", user,
                                            "--clear-groups", "env", *words, program, **settings))

        yield host, start


def in_memory(steps, name):
    status = open(f"/proc/{steps.program.pid}/status").read()
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.M).group(1))


@pytest.mark.parametrize("what", ["current", "future", "both"])
@pytest.mark.parametrize("limit", [64 << 10, 512 << 10, 6 << 20, 8 << 20])
def test_mlockall(locked, limit, what):
    """The answer is what it is without us; and what then gets no memory is served by the kernel."""
    host, start = locked
    plain, steps = start(limit, False), start(limit)
    answer = plain(f"lock {what}")
    assert steps(f"lock {what}") == answer
    if answer == "0" and what != "future":
        assert in_memory(steps, "VmLck") >= in_memory(plain, "VmLck") > 1000
    fds = steps.open(TO, PORT, 5)
    assert len(host.tuples(PORT)) == 5 and set(host.claims(PORT)) <= set(host.tuples(PORT))
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    assert host.claims(PORT) == []
