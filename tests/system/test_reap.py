"""`tuplebind reap`: gives back what the dead have left, and only that, while others go on.

Tens of thousands of claims of killed programs are given back at once, beside programs that connect
all the while, in the same lane and elsewhere. A program that is stopped after it has made a
claim and before the kernel knows of the tuple is not dead: the tuple is its own when it goes on.
"""

import pathlib
import signal
import time

import harness
import pytest
import storms

from harness import LIBRARY, program

TO, PORT, OTHER_PORT = "127.0.0.1", 8001, 8002
STOPPING = f"{LIBRARY}:{program('stopping.so')}"

backends = pytest.mark.parametrize("backend", ["auto", "explicit"])


# Many at once.

STALE = 28000
SPARE = 232


@pytest.fixture
def crowded(host):
    """28,000 claims in one lane, whose programs have been killed; 232 tuples of it are free."""
    host.set_ports(32768, 32768 + STALE + SPARE - 1)
    server = host.sink(f"{TO} {PORT}")
    storms.echo(host, f"{TO} {OTHER_PORT}")
    result, running = host.seed(TO, PORT, STALE)
    assert (result["opened"], result["error"]) == (STALE, "none")
    # A server that is killed resets its connections, so that the kernel keeps nothing of them.
    server.signal(signal.SIGKILL)
    harness.eventually(lambda: not host.sockets(PORT))
    processes = host.status()["processes"]
    running.signal(signal.SIGKILL)  # the processes it has started die with it
    harness.eventually(lambda: not {p["pid"] for p in processes} & set(host.inhabitants()))
    assert len(host.claims(PORT)) == STALE
    host.sink(f"{TO} {PORT}")
    return host


@backends
def test_many_stale_claims(crowded, backend):
    elsewhere = storms.start_churn(crowded, TO, OTHER_PORT, backend=backend)
    same_lane = crowded.start(program("storm"), "--reset", SPARE - 32, TO, PORT, preload="run",
                              backend=backend)
    assert same_lane.line() == "ready", same_lane.errors()
    harness.eventually(lambda: len(crowded.claims(OTHER_PORT)) > 0)
    begin = time.monotonic()
    crowded.reap()
    print(f"reap took {time.monotonic() - begin:.2f} s")
    same_lane.signal(signal.SIGTERM)
    result = storms.json.loads(same_lane.line())
    assert result["error"] == "none", (result, same_lane.errors())
    assert crowded.claims(PORT) == crowded.tuples(PORT)
    assert len(crowded.tuples(PORT)) == result["held"]
    meanwhile = storms.stop_churn(elsewhere)
    assert meanwhile["done"] > 0 and meanwhile["failed"] == {}, meanwhile
    assert storms.counters(crowded)["reaped"] >= STALE


def test_nothing_is_given_back_twice(crowded):
    assert f"gave back {STALE} claims" in crowded.must(harness.COMMAND, "reap")
    assert "gave back 0 claims" in crowded.must(harness.COMMAND, "reap")


def test_two_reaps_at_once(crowded):
    """One waits for the other: together they give back each claim once."""
    both = [crowded.start(harness.COMMAND, "reap") for _ in range(2)]
    given = [int(running.line().split("gave back ")[1].split()[0]) for running in both]
    assert sum(given) == STALE
    assert [running.wait() for running in both] == [0, 0]
    assert crowded.claims(PORT) == []


def test_a_killed_reap(crowded):
    """Who is killed over it leaves the rest to the next."""
    for delay in (0.02, 0.04, 0.06, 0.08):
        running = crowded.start(harness.COMMAND, "reap")
        time.sleep(delay)
        running.signal(signal.SIGKILL)
    crowded.reap()
    assert crowded.claims(PORT) == []


# One that is only stopped.

def is_stopped(running):
    stat = pathlib.Path(f"/proc/{running.pid}/stat").read_text()
    return stat.rsplit(")", 1)[1].split()[0] == "T"


class Stopped:
    """A program that has stopped in connect(), and the tuple it has claimed there."""

    def __init__(self, host, backend):
        self.steps = host.steps(preload=STOPPING, environment={"STOPPING_PORT": str(PORT)},
                                backend=backend)
        self.program = self.steps.program
        self.fd = self.steps.socket()
        self.program.say(f"connect {self.fd} {TO} {PORT}")
        harness.eventually(lambda: is_stopped(self.program))
        assert host.tuples(PORT) == []
        [self.tuple] = host.claims(PORT)

    def go_on(self):
        self.program.signal(signal.SIGCONT)
        return self.program.line()


@pytest.fixture
def small(host):
    host.set_ports(40000, 40019)
    host.sink(f"{TO} {PORT}")
    return host


@backends
def test_stopped_keeps_its_claim(small, backend):
    stopped = Stopped(small, backend)
    for _ in range(3):
        small.reap()
        assert small.claims(PORT) == [stopped.tuple]
    # Nor do those give it back who find the lane full.
    others = small.steps(backend=backend)
    others.open(TO, PORT, len(small.ports) - 1)
    for _ in range(3):
        assert others.connect(others.socket(), TO, PORT) == "EADDRNOTAVAIL"
    assert stopped.tuple in small.claims(PORT) and stopped.tuple not in small.tuples(PORT)
    assert stopped.go_on() == "0"
    assert stopped.steps(f"name {stopped.fd}") == f"{stopped.tuple.laddr} {stopped.tuple.lport}"
    assert small.claims(PORT) == small.tuples(PORT)
    assert {t.lport for t in small.tuples(PORT)} == small.ports


@backends
def test_stopped_and_killed(small, backend):
    stopped = Stopped(small, backend)
    stopped.program.signal(signal.SIGKILL)
    small.reap()
    assert small.claims(PORT) == []
    small.steps(backend=backend).open(TO, PORT, len(small.ports))


@backends
def test_connected_claims_are_kept(small, backend):
    """Of a program that is stopped later on, and of one that runs."""
    programs = [small.steps(backend=backend) for _ in range(2)]
    for steps in programs:
        steps.open(TO, PORT, 5)
    programs[0].program.signal(signal.SIGSTOP)
    before = small.claims(PORT)
    small.reap()
    assert small.claims(PORT) == before == small.tuples(PORT)
    assert len(before) == 10
