"""Threads, signals, forks and cancellation in the middle of it all, and other libraries around us.

tests/helpers/crowd connects and closes at full speed. No connect() may fail while a tuple is free,
and when it is over the table claims what the kernel holds: no descriptor and no claim is lost.
"""

import harness
import pytest
import storms

TO, PORT = "127.0.0.1", 8001

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


@pytest.fixture
def served(host):
    storms.echo(host, f"{TO} {PORT}", f"{TO} 8002")
    return host


class Crowd:
    """A running crowd. What it holds at the end is looked at before it closes that."""

    def __init__(self, host, how, threads, keep, rounds, **settings):
        self.host = host
        self.program = host.start(harness.program("crowd"), how, threads, keep, rounds, TO, PORT,
                                  **{"preload": "run"} | settings)

    def settle(self):
        """Waits for its end: none has failed. (connects, held)"""
        line = self.program.line(2 * harness.LIMIT)
        assert line is not None, (self.program.wait(), self.program.errors())
        connects, failed, error, held = line.split()
        assert (int(failed), error) == (0, "0"), line
        return int(connects), int(held)

    def close_all(self):
        """Closes all its sockets; how many they were."""
        self.program.say("")
        return int(self.program.line())

    def end(self):
        assert self.program.end() == 0, self.program.errors()
        assert self.program.errors() == ""


def expect_exact(host, count):
    tuples = host.tuples(PORT)
    assert len(tuples) == len(set(tuples)) == count
    assert host.claims(PORT) == tuples


@backends
def test_room_for_what_they_keep(served, backend):
    """32 threads on one destination, each with 8 connections, on 256 ports: hardly one is ever free."""
    served.set_ports(40000, 40255)
    crowd = Crowd(served, "full", 32, 8, 500, backend=backend)
    connects, held = crowd.settle()
    assert served.status()["counters"]["retries"] == 0, "nobody tries a tuple that is in use"
    assert held == 256 and connects >= 32 * 500
    expect_exact(served, 256)
    assert crowd.close_all() == 256
    expect_exact(served, 0)
    crowd.end()


def test_room_at_one_of_many_addresses(served):
    """Eight threads on eight addresses with a port each: one by one they look full, and one is always free."""
    served.set_ports(40000, 40000)
    crowd = Crowd(served, "full", 8, 1, 10000, addrs="127.0.0.8-127.0.0.15")
    assert crowd.settle() == (80000, 8)
    expect_exact(served, 8)
    crowd.end()


@backends
def test_reap_meanwhile(served, backend):
    """Reap after reap, while claims are made and given back at full speed: it takes none that has or
    is to have a socket, so nobody else ever tries a tuple that is in use."""
    reaping = served.start("sh", "-c", 'while "$0" reap >/dev/null 2>&1 || :; do echo done; done',
                           harness.COMMAND)
    assert reaping.line() == "done"
    crowd = Crowd(served, "calm", 32, 8, 800, backend=backend)
    _, held = crowd.settle()
    assert reaping.line() == "done"
    reaping.close()
    # What was given back while it was inspected is left to the next reap, and the last one was killed.
    served.reap()
    expect_exact(served, held)
    assert served.status()["counters"]["retries"] == 0
    crowd.end()


@backends
def test_connection_lost_long_before_it_is_closed(served, backend):
    """A reset from the peer ends the kernel's part; reap gives the tuple to somebody else. When the
    program closes its dead socket, that one's claim stays."""
    served.set_ports(40000, 40000)
    server = served.steps(preload=None)
    listener = server.socket()
    assert server(f"bind {listener} {TO} 8003") == "0"
    assert server(f"listen {listener} 5") == "0"
    steps, other = served.steps(backend=backend), served.steps(backend=backend)
    [fd] = steps.open(TO, 8003)
    accepted = server(f"accept {listener}")
    assert server(f"option {accepted} reset") == "0"
    assert server(f"close {accepted}") == "0"
    harness.eventually(lambda: served.tuples(8003) == [])
    served.reap()
    assert served.claims(8003) == []
    other.open(TO, 8003)
    assert steps(f"close {fd}") == "0"
    assert served.claims(8003) == served.tuples(8003) != []


@backends
def test_signal_handlers(served, backend):
    """The handler of a timer connects and closes, whatever connect() or close() it has interrupted."""
    served.set_ports(40000, 40099)
    crowd = Crowd(served, "signals", 4, 8, 2000, backend=backend)
    connects, held = crowd.settle()
    assert held == 32 and connects > 4 * 2000 / 2
    expect_exact(served, 32)
    assert crowd.close_all() == 32
    expect_exact(served, 0)
    crowd.end()


@pytest.fixture
def deaf(host):
    """A port where connections are never answered: the listener's queue of one is full."""
    host.sink(f"{TO} 8002")
    listener = host.steps(preload=None)
    fd = listener.socket()
    listener(f"bind {fd} {TO} {PORT}")
    listener(f"listen {fd} 0")
    listener.open(TO, PORT)
    return host


@backends
def test_handler_connects_while_connect_waits(deaf, backend):
    for preload in (None, "run"):
        steps = deaf.steps(preload=preload, backend=backend, addrs="127.0.0.9")
        fd = steps.socket()
        answer, opened = steps(f"interrupt_connect {fd} {TO} {PORT} {TO} 8002").split()
        assert answer == "EINTR" and int(opened) > fd
        assert steps.connect(opened, TO, 8002) == "EISCONN"
    ours = [t for port in (PORT, 8002) for t in deaf.tuples(port) if t.laddr == "127.0.0.9"]
    assert deaf.claims() == sorted(ours)
    assert len(ours) == 2
    for number in (fd, opened):
        assert steps(f"close {number}") == "0"
    assert deaf.claims() == []


@backends
def test_handler_closes_what_is_being_connected(deaf, backend):
    """As programs do that know no other way to end a connect() in time."""
    for preload in (None, "run"):
        steps = deaf.steps(preload=preload, backend=backend, addrs="127.0.0.9")
        fd = steps.socket()
        assert steps(f"interrupt_close {fd} {TO} {PORT}") == "EINTR"
        assert steps(f"close {fd}") == "EBADF"
        assert steps.open(TO, 8002) == [fd]
    assert deaf.claims() == [t for t in deaf.tuples(8002) if t.laddr == "127.0.0.9"]
    assert len(deaf.claims()) == 1


@backends
def test_forks(served, backend):
    """Children of a program full of threads connect, exec, or close what they have inherited."""
    served.set_ports(20000, 59999)
    crowd = Crowd(served, "forks", 6, 8, 0, backend=backend)
    _, held = crowd.settle()
    assert held == 48
    assert set(served.tuples(PORT)) <= set(served.claims(PORT)), "a child gave back what was not its own"
    served.reap()
    expect_exact(served, 48)
    assert crowd.close_all() == 48
    served.reap()
    expect_exact(served, 0)
    crowd.end()


@backends
def test_cancelled(served, backend):
    """Threads are cancelled in connect() and close(): what they leave open keeps its claim, and what
    they have closed gives it back."""
    served.set_ports(20000, 59999)
    crowd = Crowd(served, "cancels", 6, 8, 0, backend=backend)
    _, held = crowd.settle()
    assert held == 48
    tuples = served.tuples(PORT)
    assert set(tuples) <= set(served.claims(PORT))
    assert len(tuples) == len(set(tuples)) >= 48
    assert crowd.close_all() >= len(tuples)
    expect_exact(served, 0)
    crowd.end()


# Other libraries

MEDDLING = harness.program("meddling.so")
ORDERS = {"before": f"{MEDDLING}:{harness.LIBRARY}", "behind": f"{harness.LIBRARY}:{MEDDLING}"}
orders = pytest.mark.parametrize("preload", ORDERS.values(), ids=ORDERS.keys())


@backends
@orders
def test_preload_that_connects_in_its_calls(served, preload, backend):
    """A library that reports each call over a connection of its own, before us or behind us: the calls
    inside of calls are served, too, and change nothing for the program."""
    steps = served.steps(preload=preload, backend=backend, addrs="127.0.0.9",
                         environment={"MEDDLING": "talk", "MEDDLING_PORT": "8002"})
    fds = steps.open(TO, PORT, 7)
    assert {t.laddr for t in served.tuples(PORT)} == {"127.0.0.9"}
    expect_exact(served, 7)
    assert steps.connect(fds[0], TO, PORT) == "EISCONN"
    assert steps.connect(steps.socket(), TO, 8999) == "ECONNREFUSED"
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    assert served.claims() == served.tuples(PORT) == served.tuples(8002) == []
    counters = served.status()["counters"]
    assert counters["bound"] >= 8 + 7 + 9 + 7, "its own connections were served"


@backends
def test_preload_that_connects_in_threads(served, backend):
    """The same in many threads at full speed."""
    served.set_ports(40000, 40099)
    crowd = Crowd(served, "calm", 8, 4, 100, backend=backend, preload=ORDERS["behind"],
                  environment={"MEDDLING": "talk", "MEDDLING_PORT": "8002"})
    _, held = crowd.settle()
    expect_exact(served, held)
    assert crowd.close_all() == held
    assert served.claims() == []
    crowd.end()


@backends
def test_child_closes_what_is_being_connected(served, backend):
    """A fork in the moment between the claim and the kernel's connect(); the child closes its copy: the
    claim is the parent's."""
    steps = served.steps(preload=ORDERS["behind"], backend=backend, environment={"MEDDLING": "fork"})
    fds = steps.open(TO, PORT, 3)
    expect_exact(served, 3)
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    served.reap()
    expect_exact(served, 0)


@backends
def test_threads_that_began_before_us(served, backend):
    """A library's constructor, run before ours, starts threads that connect while we start, beside the
    program, and after we have ended."""
    served.set_ports(40000, 40099)
    crowd = Crowd(served, "calm", 4, 4, 100, backend=backend,
                  preload=f"{harness.LIBRARY}:{harness.program('early.so')}",
                  environment={"EARLY_PORT": "8002", "EARLY_THREADS": "4"})
    _, held = crowd.settle()
    expect_exact(served, held)
    crowd.end()
    served.reap()
    assert served.claims() == []
    assert served.status()["counters"]["full"] == 0


def test_library_that_binds_to_libc_itself(served):
    """dlopen() with RTLD_DEEPBIND: its calls pass us by, and what it leaves open or closes does not
    confuse us."""
    script = f"""
import ctypes, os, socket
deep = ctypes.CDLL("{MEDDLING}", mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
ours = [socket.create_connection(("{TO}", {PORT})) for _ in range(3)]
theirs = deep.talk_to(8002)
print(theirs, flush=True)
input()
os.close(theirs)
again = ours[0].fileno()
assert deep.close(again) == 0
ours[0].detach()
ours.append(socket.create_connection(("{TO}", {PORT})))
assert ours[-1].fileno() in (theirs, again)
print("done", flush=True)
input()
"""
    running = served.start(harness.PYTHON, "-c", script, preload="run", addrs="127.0.0.9")
    assert running.line().isdigit(), running.errors()
    assert {t.laddr for t in served.tuples(8002)} == {TO}
    assert {t.laddr for t in served.tuples(PORT)} == {"127.0.0.9"}
    assert served.claims() == served.tuples(PORT)
    running.say("")
    assert running.line() == "done", running.errors()
    assert set(served.tuples(PORT)) <= set(served.claims())
    served.reap()
    expect_exact(served, 3)
    running.say("")
    assert running.wait() == 0
