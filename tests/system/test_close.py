"""Every way a socket can end: afterwards the table claims what the kernel holds, and nothing else.

Ways that the process itself sees give the claim back at once. The others (descriptors closed behind
its back, exec, death) leave it to `tuplebind reap`; until then a claim too many is right, one too
few never.
"""

import signal

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
COUNT = 5

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}", f"{TO} 8002")
    return host


@pytest.fixture(params=["late", "explicit"])
def steps(served, request):
    return served.steps(backend=request.param)


def expect(host, count):
    """So many claims, each with its socket."""
    assert host.claims(PORT) == host.tuples(PORT)
    assert len(host.claims(PORT)) == count


def expect_after_reap(host, count):
    """No claim is missing before, and reap takes those that are too many."""
    assert set(host.tuples(PORT)) <= set(host.claims(PORT))
    host.reap()
    expect(host, count)


# What the process sees

ENDS = {
    "close": ["close {}"],
    "shutdown, close": ["shutdown {}", "close {}"],
    "reset": ["option {} reset", "close {}"],
    "close_range": ["close_range {} {}"],
    "dup2 over it": ["dup2 2 {}", "close {}"],
    "dup3 over it": ["dup3 2 {}", "close {}"],
    "unspecified family": ["unspec {}", "close {}"],
}


@pytest.mark.parametrize("orders", ENDS.values(), ids=ENDS.keys())
def test_ends(served, steps, orders):
    fds = steps.open(TO, PORT, COUNT)
    expect(served, COUNT)
    for done, fd in enumerate(fds):
        for order in orders:
            assert steps(order.replace("{}", str(fd))).isdigit()
        expect(served, COUNT - done - 1)


def test_close_range_of_many(served, steps):
    fds = steps.open(TO, PORT, COUNT)
    assert fds == list(range(fds[0], fds[0] + COUNT))
    assert steps(f"close_range {fds[1]} {fds[3]}") == "0"
    expect(served, COUNT - 3)
    assert steps(f"close_range {fds[0]} 1000000000") == "0"
    expect(served, 0)


def test_closefrom(served, steps):
    fds = [int(steps(f"dupfd {fd} 600")) for fd in steps.open(TO, PORT, COUNT)]
    assert steps("close_range 3 599") == "0"
    expect(served, COUNT)
    assert steps(f"closefrom {fds[2]}") == "0"
    expect(served, 2)


DUPLICATES = ["dup {}", "dup2 {} 500", "dup3 {} 501", "dupfd {} 502", "dupfd_cloexec {} 503"]


@pytest.mark.parametrize("order", DUPLICATES)
@pytest.mark.parametrize("first", ["original", "copy"])
def test_duplicate(served, steps, order, first):
    """The claim stays until the last of the two is closed, whichever that is."""
    [fd] = steps.open(TO, PORT)
    copy = int(steps(order.format(fd)))
    one, other = (fd, copy) if first == "original" else (copy, fd)
    assert steps(f"close {one}") == "0"
    expect(served, 1)
    assert steps(f"close {other}") == "0"
    expect(served, 0)


def test_all_duplicates(served, steps):
    """A copy of a copy, in every way there is."""
    [fd] = steps.open(TO, PORT)
    copies = [fd]
    for order in DUPLICATES:
        copies.append(int(steps(order.format(copies[-1]))))
    for left, copy in reversed(list(enumerate(copies))):
        assert steps(f"close {copy}") == "0"
        expect(served, 1 if left else 0)


@pytest.mark.parametrize("order", DUPLICATES)
def test_duplicated_before_connect(served, steps, order):
    """Both descriptors are one socket, also when it was connected through the other one."""
    fd = steps.socket()
    copy = int(steps(order.format(fd)))
    assert steps.connect(copy, TO, PORT) == "0"
    steps(f"close {copy}")
    expect(served, 1)
    steps(f"close {fd}")
    expect(served, 0)


def test_dup2_onto_itself(served, steps):
    [fd] = steps.open(TO, PORT)
    assert steps(f"dup2 {fd} {fd}") == str(fd)
    expect(served, 1)
    steps(f"close {fd}")
    expect(served, 0)


def test_dup2_of_one_connection_over_another(served, steps):
    first, second = steps.open(TO, PORT, 2)
    kept = steps(f"name {first}").split()[1]
    steps(f"dup2 {first} {second}")
    expect(served, 1)
    assert [str(t.lport) for t in served.claims()] == [kept]


def test_failed_calls_change_nothing(served, steps):
    [fd] = steps.open(TO, PORT)
    for order in (f"dup2 {fd} -1", "dup 999", "dup2 999 998", f"dup2 999 {fd}", f"dup3 {fd} {fd}",
                  f"dupfd {fd} -1", "close 999", "close_range 9 8", f"dup2 {fd} 100000000"):
        assert steps(order) in ("EBADF", "EINVAL"), order
        expect(served, 1)
    steps(f"close {fd}")
    expect(served, 0)


@pytest.mark.parametrize("reuse", ["open /dev/null", "socket v4", "socket udp", "dup 2"])
def test_descriptor_number_used_again(served, steps, reuse):
    """What has the number now is not the connection; its close gives nothing back twice."""
    first, second = steps.open(TO, PORT, 2)
    steps(f"close {first}")
    assert steps(reuse) == str(first)
    expect(served, 1)
    steps(f"close {first}")
    expect(served, 1)
    steps(f"close {second}")
    expect(served, 0)


@pytest.mark.parametrize("reuse", ["open /dev/null", "accept", "socket v4", "socket unix"])
def test_descriptor_number_used_again_behind_our_back(served, steps, reuse):
    """fclose() closes inside libc: the next holder of the number must not be taken for the
    connection, neither by connect() nor by close()."""
    listener = steps.socket()
    steps(f"option {listener} reuseaddr")
    assert steps(f"bind {listener} {TO} 9001") == "0"
    assert steps(f"listen {listener} 5") == "0"
    knocker = served.steps(preload=None)
    knocker.open(TO, 9001)
    [fd] = steps.open(TO, PORT)
    assert steps(f"fclose {fd}") == "0"
    order = f"accept {listener}" if reuse == "accept" else reuse
    assert steps(order) == str(fd)
    if reuse == "socket v4":
        assert steps.connect(fd, TO, PORT) == "0"
    held = 1 if reuse == "socket v4" else 0
    expect_after_reap(served, held)
    assert steps(f"close {fd}") == "0"
    expect_after_reap(served, 0)


# More than one process

@pytest.mark.parametrize("fork", ["fork", "_Fork"])
@pytest.mark.parametrize("first", ["parent", "child"])
def test_fork(served, steps, fork, first):
    """The claim outlives the first of two processes that close, and goes with the second."""
    fds = steps.open(TO, PORT, COUNT)
    assert steps(fork) == "0"
    expect(served, COUNT)
    prefixes = ("", "child ") if first == "parent" else ("child ", "")
    for prefix, left in zip(prefixes, (COUNT, 0)):
        for fd in fds:
            assert steps(f"{prefix}close {fd}") == "0"
        expect(served, left)


def test_child_that_closes_what_it_inherited(served):
    """Before exec, hundreds. What it leaves claimed the parent has; the rest is reap's."""
    steps = served.steps()
    fds = steps.open(TO, PORT, 300)
    assert steps("fork") == "0"
    assert steps(f"child close_range {fds[0]} {fds[-1]}") == "0"
    expect(served, 300)
    for fd in fds[:100]:
        assert steps(f"close {fd}") == "0"
    expect(served, 200)
    for fd in fds[100:]:
        assert steps(f"close {fd}") == "0"
    expect(served, 0)


@pytest.mark.parametrize("fork", ["fork", "_Fork", "clone"])
def test_child_connects_too(served, steps, fork):
    """What a child opens is its own, and is claimed in the same lane."""
    fds = steps.open(TO, PORT, COUNT)
    steps(fork)
    theirs = []
    for _ in range(COUNT):
        theirs.append(steps("child socket v4"))
        assert steps(f"child connect {theirs[-1]} {TO} {PORT}") == "0"
    expect(served, 2 * COUNT)
    for fd in theirs:
        assert steps(f"child close {fd}") == "0"
    expect(served, COUNT)
    # The child's copies go with it; what the parent holds stays.
    steps.program.say("child exit")
    assert steps.program.line() == "gone"
    assert steps("wait") == "exit 3"
    expect_after_reap(served, COUNT)
    for fd in fds:
        steps(f"close {fd}")
    expect(served, 0)


def test_socket_made_before_fork_connected_in_child(served, steps):
    fd = steps.socket()
    steps("fork")
    assert steps(f"child connect {fd} {TO} {PORT}") == "0"
    expect(served, 1)
    assert steps(f"child close {fd}") == "0"
    assert set(served.tuples(PORT)) <= set(served.claims(PORT)), "the parent holds it still"
    steps(f"close {fd}")
    expect_after_reap(served, 0)


def test_vfork_child_closes(served, steps):
    """It runs in the parent's memory: its closes must not touch the parent's book."""
    fds = steps.open(TO, PORT, COUNT)
    assert steps(f"vfork {fds[0]} {fds[-1]}") == "0"
    expect(served, COUNT)
    for fd in fds:
        steps(f"close {fd}")
    expect(served, 0)


def test_vfork_child_narrows_the_ports(served):
    """The same: what the parent knows of its socket stays as it is."""
    steps = served.steps(backend="late")
    fd = steps.socket()
    assert steps.connect(fd, TO, 9) == "ECONNREFUSED"
    assert steps(f"vfork_option {fd} one-port") == "0"
    assert steps.connect(fd, TO, PORT) == "0"
    assert served.claims(PORT) == served.tuples(PORT) != []
    assert {t.lport for t in served.tuples(PORT)} <= served.ports


def test_vfork_child_enters_a_namespace(served):
    """Only the child is there: the parent's sockets need not be asked, from then on, where they are."""
    steps = served.steps()
    steps.open(TO, PORT)
    assert steps("vfork_setns") == "0"
    steps.open(TO, PORT)
    said = served.must("gdb", "-q", "-nx", "-batch", "-p", steps.program.pid, "-ex", "print trust.lost")
    assert "$1 = 0\n" in said, said


@backends
def test_python_subprocess(served, backend):
    """subprocess with close_fds closes hundreds of descriptors in a vfork child."""
    script = f"""
import socket, subprocess
held = [socket.create_connection(("{TO}", {PORT})) for _ in range(300)]
for _ in range(5):
    subprocess.run(["true"], close_fds=True, check=True)
print("ready", flush=True)
input()
for s in held[:100]:
    s.close()
print("fewer", flush=True)
input()
"""
    running = served.start(harness.PYTHON, "-c", script, preload="run", backend=backend)
    assert running.line() == "ready"
    expect(served, 300)
    running.say("")
    assert running.line() == "fewer"
    expect(served, 200)
    running.say("")
    assert running.wait() == 0
    expect_after_reap(served, 0)


@pytest.mark.parametrize("how, answer", [("pass", "1"), ("pass_many", "2")])
@pytest.mark.parametrize("moment", ["before connect", "after connect"])
def test_passed_on_and_closed(served, steps, how, answer, moment):
    """sendmsg() and sendmmsg() with SCM_RIGHTS: the claims stay while the receiver has the sockets."""
    assert steps("fork") == "0"
    fds = [steps.socket() for _ in range(COUNT)]
    theirs = []
    for fd in fds:
        if moment == "after connect":
            assert steps.connect(fd, TO, PORT) == "0"
        assert steps(f"{how} {fd}") == answer
        theirs.append(steps("child take"))
        if moment == "before connect":
            assert steps.connect(fd, TO, PORT) == "0"
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    expect(served, COUNT)
    for fd in theirs:
        assert steps(f"child close {fd}") == "0"
    expect_after_reap(served, 0)


@backends
def test_passed_to_another_process(served, backend):
    """SCM_RIGHTS: who sent it closes it, the receiver holds it. close() cannot know that; the
    kernel does, and nobody else gets the tuple, nor an error while another one is free."""
    served.set_ports(40000, 40001)
    steps = served.steps(backend=backend)
    assert steps("fork") == "0"
    [fd] = steps.open(TO, PORT)
    assert steps(f"pass {fd}") == "1"
    theirs = steps("child take")
    assert theirs.isdigit()
    assert steps(f"close {fd}") == "0"
    assert len(served.tuples(PORT)) == 1
    other = served.steps()
    [second] = other.open(TO, PORT)
    assert other.connect(other.socket(), TO, PORT) == "EADDRNOTAVAIL"
    assert {t.lport for t in served.tuples(PORT)} == served.ports
    assert steps(f"child close {theirs}") == "0"
    other(f"close {second}")
    expect_after_reap(served, 0)


# More than one thread

@pytest.fixture
def deaf(served):
    """A port where connections are not answered, the listener's queue being full, until it is closed."""
    listener = served.steps(preload=None)
    fd = listener.socket()
    listener(f"bind {fd} {TO} 9001")
    listener(f"listen {fd} 0")
    listener.open(TO, 9001)
    served.stop_listening = lambda: listener(f"close {fd}")
    return served


@backends
@pytest.mark.parametrize("order", ["close {}", "dup2 2 {}", "close_range {} {}"])
def test_closed_while_it_connects(deaf, backend, order):
    """Another thread closes the descriptor and connects with the same number, in the same place of the book:
    the first connect ends in an error, and the second connection keeps its claim."""
    steps = deaf.steps(backend=backend, addrs="127.0.0.9")
    fd = steps.socket()
    assert steps(f"begin_connect {fd} {TO} 9001") == "0"
    harness.eventually(lambda: [s for s in deaf.sockets(9001) if s.state == "SYN-SENT" and s.tuple.laddr == "127.0.0.9"])
    assert steps(order.format(fd, fd)) in ("0", str(fd))
    if order.startswith("dup2"):
        assert steps(f"close {fd}") == "0"
    assert steps.open(TO, PORT) == [fd]
    deaf.stop_listening()
    assert steps("end_connect") in ("ECONNREFUSED", "ECONNRESET")
    expect(deaf, 1)
    assert deaf.claims(9001) == []
    assert steps(f"close {fd}") == "0"
    expect(deaf, 0)


# What only reap can see

def test_fclose(served, steps):
    for fd in steps.open(TO, PORT, COUNT):
        assert steps(f"fclose {fd}") == "0"
    assert served.tuples(PORT) == []
    expect_after_reap(served, 0)


def end_program(steps, how):
    if how == "SIGKILL":
        steps.program.signal(signal.SIGKILL)
    elif how == "end of main":
        steps.program.end()
    else:
        steps.program.say(how)
    return steps.program.wait()


@pytest.mark.parametrize("how, code", [
    ("end of main", 0), ("exit", 3), ("_exit", 4), ("abort", -signal.SIGABRT),
    ("SIGKILL", -signal.SIGKILL)])
def test_end_of_process(served, steps, how, code):
    steps.open(TO, PORT, COUNT)
    other = served.steps()
    other.open(TO, PORT, COUNT)
    expect(served, 2 * COUNT)
    assert end_program(steps, how) == code
    expect_after_reap(served, COUNT)


def test_killed_while_many(served, steps):
    """A full lane of the dead can be had again by others."""
    served.set_ports(40000, 40099)
    dead = served.steps()
    for fd in dead.open(TO, PORT, 100):
        dead(f"option {fd} reset")
    end_program(dead, "SIGKILL")
    served.reap()
    expect(served, 0)
    again = served.steps()
    again.open(TO, PORT, 100)
    expect(served, 100)


@pytest.mark.parametrize("kind, held", [("v4", COUNT), ("cloexec", 0)])
def test_exec(served, steps, kind, held):
    """The new image knows nothing of its sockets. Those that stay open stay claimed."""
    fds = steps.open(TO, PORT, COUNT, kind=kind)
    for fd in fds:  # or the kernel keeps their tuples for a while, and who comes by claims them
        steps(f"option {fd} reset")
    assert steps("exec") == "0"
    expect_after_reap(served, held)
    fresh = steps.open(TO, PORT, COUNT)
    expect(served, held + COUNT)
    for fd in set(fds if held else []) | set(fresh):
        assert steps(f"close {fd}") == "0"
    expect_after_reap(served, 0)


def test_reap_leaves_the_living_alone(served, steps):
    fds = steps.open(TO, PORT, COUNT)
    for _ in range(3):
        served.reap()
        expect(served, COUNT)
    for fd in fds:
        steps(f"close {fd}")
    expect(served, 0)


# Afterwards

def test_one_closed_one_more(served):
    """In a full lane a close makes room for exactly one connection, again and again."""
    served.set_ports(40000, 40019)
    steps = served.steps()
    fds = steps.open(TO, PORT, 20)
    for fd in fds[:8]:
        refused = steps.socket()
        assert steps.connect(refused, TO, PORT) == "EADDRNOTAVAIL"
        assert steps(f"option {fd} reset") == "0"
        assert steps(f"close {fd}") == "0"
        assert steps.connect(refused, TO, PORT) == "0", "on the socket that was refused before"
        expect(served, 20)


def test_given_back_tuple_can_be_used_by_others(served):
    """After a reset nothing is left in the kernel either: another process gets all tuples."""
    served.set_ports(40000, 40019)
    for _ in range(3):
        steps = served.steps()
        for fd in steps.open(TO, PORT, 20):
            steps(f"option {fd} reset")
            steps(f"close {fd}")
        expect(served, 0)
