"""The processes of a lease: to its caller `tuplebind run --lease` is the program, by its exit status,
by signals, at the terminal; and whichever of its processes is killed, the program does not go on with
ports that it does not hold, under strict."""

import contextlib
import os
import pty
import signal
import time

import harness
import leasing
import pytest

# Says which signals come, until its stdin ends.
COUNTER = """
import collections, os, signal, sys
seen = collections.Counter()
for number in map(int, sys.argv[1:]):
    signal.signal(number, lambda number, _: seen.update([number]))
print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    if line.strip():
        exec(line)
    print(*(f"{number}:{seen[number]}" for number in sorted(seen)), flush=True)
"""

SLEEP = ["sh", "-c", "echo ready; exec sleep 1000"]


@pytest.fixture
def one(tmp_path):
    with leasing.ground(tmp_path) as made:
        yield made


def start_counter(host, *numbers, words=(), **options):
    return leasing.start_lease(host, *words, harness.PYTHON, "-c", COUNTER, *map(int, numbers), **options)


def counted(running, order=""):
    running.say(order)
    return running.line()


def counted_once(running, number):
    """It comes, and does not come again."""
    harness.eventually(lambda: counted(running) != "")
    for _ in range(20):
        time.sleep(0.01)
        assert counted(running) == f"{int(number)}:1"


def lives(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


def ends(pid):
    harness.eventually(lambda: not lives(pid))


def given_back(etcd):
    harness.eventually(lambda: etcd.parts("web") == [] and etcd.leases() == [])


@pytest.mark.parametrize("words, code", [
    (["sh", "-c", "exit 0"], 0),
    (["sh", "-c", "exit 7"], 7),
    (["sh", "-c", "exit 255"], 255),
    (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
    (["sh", "-c", "kill -KILL $$"], -signal.SIGKILL),
    (["sh", "-c", "kill -SEGV $$"], -signal.SIGSEGV),
    (["sh", "-c", "kill -ABRT $$"], -signal.SIGABRT),
    (["no-such-program"], 127),
    (["/"], 126),
    ([harness.program("static")], None),
    (["--strict", harness.program("static")], 78),
])
def test_exit_status(one, words, code):
    """As without a lease; and nothing is left in etcd."""
    etcd, host = one
    result = leasing.lease(host, *words)
    without = host.tuplebind("run", *words)
    assert (result.code, result.out, result.err) == (without.code, without.out, without.err)
    assert code in (None, result.code)
    given_back(etcd)


def test_streams_and_arguments(one):
    _, host = one
    result = leasing.lease(host, "--", "sh", "-c", 'cat; echo "$0 $1" >&2; pwd', "--lease", "b c", stdin="in",
                           cwd="/usr")
    assert (result.code, result.out, result.err) == (0, "in/usr\n", "--lease b c\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN])
def test_signals_arrive_once(one, number):
    _, host = one
    running = start_counter(host, number)
    running.signal(number)
    counted_once(running, number)
    assert running.end() == 0


def test_signal_ends_both(one):
    etcd, host = one
    running = leasing.start_lease(host, *SLEEP)
    running.signal(signal.SIGTERM)
    assert running.wait() == -signal.SIGTERM
    given_back(etcd)


def test_program_signals_its_group(one):
    """It has had that itself, as all of the group have."""
    _, host = one
    line, environment = host.command(leasing.words(
        host, harness.PYTHON, "-c", COUNTER, int(signal.SIGUSR1)), None, None, {})
    running = harness.Program(line, environment)
    host.programs.append(running)
    assert running.line() == "ready", running.errors()
    assert os.getpgid(leasing.program_of(running)) == running.pid
    counted(running, "os.kill(0, signal.SIGUSR1)")
    counted_once(running, signal.SIGUSR1)
    assert running.end() == 0


@pytest.mark.parametrize("ignored", ["CHLD", "HUP", "INT"])
def test_ignored_signals_stay_ignored(one, ignored):
    _, host = one
    line = " ".join(str(word) for word in leasing.words(host))
    result = host.run("sh", "-c", f"trap '' {ignored}; exec {line} grep SigIgn /proc/self/status")
    plain = host.run("sh", "-c", f"trap '' {ignored}; exec grep SigIgn /proc/self/status")
    assert (result.code, result.out, result.err) == (0, plain.out, "")
    blocked = leasing.lease(host, "grep", "SigBlk", "/proc/self/status")
    assert blocked.out == host.run("grep", "SigBlk", "/proc/self/status").out


class Terminal:
    """A front that leads the foreground group of a terminal, as a shell's child would."""

    def __init__(self, host, *words):
        line, environment = host.command(leasing.words(host, *words, ttl=5), None, None, {})
        # The shell: without one the group would be an orphan, which nobody may stop.
        self.shell, self.master = pty.fork()
        if self.shell == 0:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                os.execvpe(line[0], line, environment)
            while True:
                _, status = os.waitpid(pid, os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    os._exit(os.waitstatus_to_exitcode(status) & 255)
        self.seen = ""
        self.expect("ready")
        [self.front] = leasing.children(self.shell)
        [self.keeper] = leasing.children(self.front)
        [self.program] = leasing.children(self.keeper)

    def expect(self, text):
        def there():
            with contextlib.suppress(OSError):
                self.seen += os.read(self.master, 4096).decode()
            return text in self.seen
        harness.eventually(there)
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text):
        os.write(self.master, text.encode())

    def close(self):
        for pid in (self.front, self.shell):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.shell, 0)
        os.close(self.master)


def state(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def test_terminal(one):
    """^C once, ^Z stops both, and the lease is kept meanwhile; `fg` and `kill -CONT` let both go on."""
    etcd, host = one
    terminal = Terminal(host, harness.PYTHON, "-c", COUNTER, int(signal.SIGINT))
    with contextlib.closing(terminal):
        for count in range(1, 6):
            terminal.type("\x03")
            time.sleep(0.05)
            terminal.type("\n")
            terminal.expect(f"{int(signal.SIGINT)}:{count}\r\n")
        [lease] = etcd.leases()
        for resume, stopped in ((lambda: os.killpg(terminal.front, signal.SIGCONT), 6),  # longer than the TTL
                                (lambda: os.kill(terminal.front, signal.SIGCONT), 0.1),
                                (lambda: os.kill(terminal.program, signal.SIGCONT), 0.1)):
            terminal.type("\x1a")
            harness.eventually(lambda: state(terminal.front) == state(terminal.program) == "T")
            time.sleep(stopped)
            assert etcd.leases() == [lease] and etcd.seconds_left(lease) > 0
            assert state(terminal.front) == state(terminal.program) == "T"
            resume()
            harness.eventually(lambda: state(terminal.front) == state(terminal.program) == "S")
        os.killpg(terminal.front, signal.SIGSTOP)
        harness.eventually(lambda: state(terminal.front) == state(terminal.program) == "T")
        assert state(terminal.keeper) != "T"
        os.killpg(terminal.front, signal.SIGCONT)
        terminal.type("\n")
        terminal.expect(f"{int(signal.SIGINT)}:5\r\n")
    # The front was killed; what it ran without strict goes on until its terminal is gone.
    ends(terminal.program)
    given_back(etcd)


def test_daemon(one):
    """Who makes himself a daemon is not waited for, and keeps the part as long as he lives."""
    etcd, host = one
    started = leasing.lease(
        host, "sh", "-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; exit 3", ttl=5)
    assert (started.code, started.err) == (3, "")
    daemon = int(started.out)
    [part] = etcd.parts("web")
    time.sleep(6)  # longer than the TTL
    assert etcd.parts("web") == [part]
    os.kill(daemon, signal.SIGKILL)
    given_back(etcd)


def test_orphans_of_a_killed_program(one):
    etcd, host = one
    running = leasing.start_lease(host, "sh", "-c", "sleep 1000 & echo ready; wait", ttl=5)
    program = leasing.program_of(running)
    [orphan] = leasing.children(program)
    os.kill(program, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert lives(orphan) and len(etcd.parts("web")) == 1
    os.kill(orphan, signal.SIGKILL)
    given_back(etcd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended_while_it_waits(one, number):
    """Before there is a program: nothing runs, nothing is left."""
    etcd, host = one
    first = leasing.start_lease(host, "--ports", "auto/1", *SLEEP)
    waiting = host.start(*leasing.words(host, "--lease-wait", "1000", "echo", "ran"))
    harness.eventually(lambda: leasing.children(waiting.pid))
    keeper = leasing.keeper_of(waiting)
    time.sleep(0.2)
    waiting.signal(number)
    assert waiting.wait() == -number
    ends(keeper)
    assert len(etcd.leases()) == 1
    first.signal(signal.SIGTERM)
    first.wait()
    given_back(etcd)
    assert waiting.line() is None


def test_front_is_killed(one):
    """Not strict: the program goes on, and its part stays its own."""
    etcd, host = one
    running = leasing.start_lease(host, *SLEEP, ttl=5)
    program = leasing.program_of(running)
    running.signal()
    time.sleep(6)  # longer than the TTL
    assert lives(program) and len(etcd.parts("web")) == 1
    os.kill(program, signal.SIGTERM)
    given_back(etcd)


def test_front_is_killed_strict(one):
    etcd, host = one
    running = leasing.start_lease(host, "--strict", "sh", "-c", "sleep 1000 & echo ready; wait")
    program = leasing.program_of(running)
    [descendant] = leasing.children(program)
    running.signal()
    ends(program)
    ends(descendant)
    given_back(etcd)
    assert "event=lease-given-up" in running.errors()


def test_keeper_is_killed(one):
    """Not strict: said, and the program goes on; its end and its signals come through as before."""
    _, host = one
    running = start_counter(host, signal.SIGUSR1, ttl=5)
    os.kill(leasing.keeper_of(running), signal.SIGKILL)
    harness.eventually(lambda: "error: event=lease-keeper-killed" in running.errors())
    running.signal(signal.SIGUSR1)
    harness.eventually(lambda: counted(running) == f"{int(signal.SIGUSR1)}:1")
    running.say("os._exit(9)")
    assert running.wait() == 9
    assert running.errors().count("\n") == 1


def test_keeper_is_killed_strict(one):
    etcd, host = one
    running = leasing.start_lease(host, "--strict", "sh", "-c", "sleep 1000 & echo ready; wait", ttl=5)
    keeper, program = leasing.keeper_of(running), leasing.program_of(running)
    [descendant] = leasing.children(program)
    os.kill(keeper, signal.SIGKILL)
    assert running.wait() == 125
    assert not lives(program) and not lives(descendant)
    assert running.errors().count("\n") == 1 and "error: event=lease-keeper-killed" in running.errors()
    given_back(etcd)  # runs out


def test_both_are_killed_strict(one):
    _, host = one
    running = leasing.start_lease(host, "--strict", *SLEEP)
    keeper, program = leasing.keeper_of(running), leasing.program_of(running)
    os.kill(running.pid, signal.SIGSTOP)  # or it would be told of the keeper's end
    os.kill(keeper, signal.SIGKILL)
    running.signal()
    ends(program)
