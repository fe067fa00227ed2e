"""The kill storm: programs that connect and close at full speed are killed and started again, at random.

Eight processes hold random numbers of connections to the same destinations, and a killer sends
SIGKILL to one after the other, whatever it is doing. Nothing may hang or crash; no connect() may
fail while a tuple is free; and when it is over, one `tuplebind reap` leaves exactly the
claims for which the kernel has a socket that a process holds.
"""

import json
import random
import signal
import time

import pytest
import storms

from harness import program

TO, PORTS = "127.0.0.1", (8001, 8002)
WORKERS = 8
KILLS = storms.sized(100, 1000)
LONGEST_LIFE = 0.08  # seconds between two kills, at most

backends = pytest.mark.parametrize("backend", ["auto", "explicit"])


class Storm:
    """Workers, and who kills them."""

    def __init__(self, host, *words, **settings):
        self.host, self.words, self.settings = host, words, settings
        self.random = random.Random()
        self.workers = [self.worker() for _ in range(WORKERS)]

    def worker(self):
        return self.host.start(program("storm"), *self.words, preload="run", **self.settings)

    def expect_alive(self, worker):
        """A worker that ended by itself says why, or was killed by what it did."""
        assert worker.process.poll() is None, \
            (worker.process.returncode, self.last_words(worker), worker.errors())

    def last_words(self, worker):
        """What it said after "ready": its result."""
        return worker.line() and worker.line()

    def kill_one(self):
        time.sleep(self.random.uniform(0, LONGEST_LIFE))
        place = self.random.randrange(WORKERS)
        victim = self.workers[place]
        self.expect_alive(victim)
        victim.signal(signal.SIGKILL)
        assert victim.process.returncode == -signal.SIGKILL, (self.last_words(victim), victim.errors())
        assert victim.errors() == ""
        victim.close()
        self.host.programs.remove(victim)
        self.workers[place] = self.worker()

    def settle(self):
        """Stops all where they are; what each says of itself."""
        results = []
        for worker in self.workers:
            self.expect_alive(worker)
            assert worker.line() == "ready", worker.errors()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        for worker in self.workers:
            results.append(json.loads(worker.line()))
            assert results[-1]["error"] == "none", (results, worker.errors())
            assert worker.errors() == ""
        return results


def expect_exact(host, results):
    """The claims that one reap leaves are the sockets of the survivors, neither more nor less."""
    host.reap()
    held = sorted(t for port in PORTS for t in host.tuples(port))
    assert len(held) == len(set(held)) == sum(result["held"] for result in results)
    assert sorted(t for port in PORTS for t in host.claims(port)) == held


def run(host, *words, **settings):
    storm = Storm(host, *words, **settings)
    # A worker is killed at any moment of its life, but all have to get into it once.
    time.sleep(0.2)
    for _ in range(KILLS):
        storm.kill_one()
    results = storm.settle()
    print(f"{KILLS} kills, connects of the survivors: {[r['connects'] for r in results]}, "
          f"reaped on the way: {storms.counters(host)['reaped']}, "
          f"retries: {storms.counters(host)['retries']}")
    expect_exact(host, results)
    # The end is as good as the middle: everything is given back by programs that end.
    for worker in storm.workers:
        assert worker.end() == 0, worker.errors()
    expect_exact(host, [])


@backends
def test_room_for_all(host, backend):
    """400 connections at most, 2,000 ports to each destination: every failure is a bug."""
    host.set_ports(40000, 41999)
    storms.echo(host, *(f"{TO} {port}" for port in PORTS))
    run(host, 50, *(word for port in PORTS for word in (TO, port)), backend=backend)


@backends
def test_hardly_room(host, backend):
    """
    360 connections at most, on 380 ports: the claims of the dead have to be found while it goes on.

    Connections end by a reset, so that the kernel keeps none and what is free is known.
    """
    host.set_ports(40000, 40379)
    storms.echo(host, *(f"{TO} {port}" for port in PORTS))
    run(host, "--reset", 45, TO, PORTS[0], backend=backend)
    assert storms.counters(host)["reaped"] > 0


def test_plain_counterpart(host):
    """Without tuplebind it goes on too, as long as nothing ends in TIME_WAIT: the workers are sound."""
    host.set_ports(40000, 41999)
    storms.echo(host, *(f"{TO} {port}" for port in PORTS))
    storm = Storm(host, "--reset", 50, TO, PORTS[0], disable=1)
    for _ in range(5):
        storm.kill_one()
    storm.settle()
    assert host.tables() == []
