"""The library as a guest: what it exports and needs, its place among other preloads, its log."""

import glob
import os
import re
import subprocess

import harness
import pytest

TO, PORT = "127.0.0.1", 8001

# What it takes over. A name more would be one more that programs could trip over.
EXPORTS = {"socket", "bind", "getsockname", "connect", "sendto", "sendmsg", "sendmmsg", "close", "close_range",
           "closefrom", "dup", "dup2", "dup3", "fcntl", "fcntl64", "_Fork", "setsockopt",
           "setns", "unshare", "mlockall"}


def output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout


def test_exports_only_what_it_takes_over():
    lines = output("nm", "-D", "--defined-only", str(harness.LIBRARY)).splitlines()
    symbols = [line.split()[-1].split("@")[0] for line in lines]
    assert sorted(symbols) == sorted(EXPORTS)


def test_needs_nothing_but_libc():
    needed = re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", str(harness.LIBRARY)))
    needed = [name for name in needed if not re.match(r"lib(asan|tsan|ubsan)", name)]
    assert [name for name in needed if not name.startswith("ld-linux")] == ["libc.so.6"]


def test_is_hardened():
    """Bound at start, so nothing is looked up in the middle of a connect(); no writable code."""
    dynamic = output("readelf", "-dlW", str(harness.LIBRARY))
    assert "NOW" in dynamic and "TEXTREL" not in dynamic
    assert not re.search(r"GNU_STACK.*RWE", dynamic)


# Cancellation points (pthreads(7)) of those that libraries like this one use.
CANCELLED = {"read", "write", "readv", "writev", "pread", "pread64", "pwrite", "pwrite64", "open", "open64", "openat",
             "openat64", "creat", "poll", "ppoll", "select", "pselect", "epoll_wait", "nanosleep", "clock_nanosleep",
             "sleep", "usleep", "recv", "recvfrom", "recvmsg", "send", "accept", "accept4", "wait", "waitpid", "fsync",
             "sigtimedwait", "sigwait", "sigwaitinfo", "pause", "system"}


def test_calls_nothing_that_it_takes_over():
    """Or it would be its own guest, with a socket it takes for the program's; nor what ends a thread in the middle of
    its work. What it needs of these it asks the kernel for."""
    used = {name.split("@")[0] for words in (["-u", harness.BUILD / "lib" / "libtuplebind-core.a"], ["-Du", harness.LIBRARY])
            for name in output("nm", "--format=just-symbols", *map(str, words)).split()}
    assert "getsockopt" in used and used & (EXPORTS | CANCELLED) == set()


# Other preloads

@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}", f"{TO} 8002")
    return host


def chain(*items):
    return ":".join(str(item) for item in items)


ORDERS = {
    "before": chain(harness.program("counting.so"), harness.LIBRARY),
    "behind": chain(harness.LIBRARY, harness.program("counting.so")),
}


@pytest.mark.parametrize("backend", ["late", "explicit"])
@pytest.mark.parametrize("preload", ORDERS.values(), ids=ORDERS.keys())
def test_other_preload_sees_the_calls(served, tmp_path, preload, backend):
    """Both do their work: the other one counts each call once, ours gives each socket a tuple."""
    counts = tmp_path / "counts"
    steps = served.steps(preload=preload, backend=backend, addrs="127.0.0.9",
                         environment={"COUNTING_FILE": str(counts)})
    fds = steps.open(TO, PORT, 7)
    assert {t.laddr for t in served.tuples(PORT)} == {"127.0.0.9"}
    assert served.claims() == served.tuples(PORT)
    for fd in fds[:5]:
        assert steps(f"close {fd}") == "0"
    assert served.claims() == served.tuples(PORT)
    steps.program.end()
    connects, closes = re.findall(r"\d+", counts.read_text())
    assert int(connects) == 7
    assert int(closes) >= 5


@pytest.fixture
def wrapper(served):
    """mptcpize's library, which makes of each socket one of Multipath TCP."""
    found = glob.glob("/usr/lib/*/mptcpize/libmptcpwrap.so*")
    if not found:
        pytest.skip("mptcpize is not installed")
    if not served.steps(preload=None)("socket mptcp").isdigit():
        pytest.skip("this kernel has no MPTCP")
    return found[0]


def expect_multipath(host, steps):
    [fd] = steps.open(TO, PORT)
    assert {t.laddr for t in host.tuples(PORT)} == {"127.0.0.9"}
    assert host.claims(PORT) == host.tuples(PORT) and host.status()["counters"]["bound"] == 1
    assert "127.0.0.9" in host.must("ss", "-HanM", "dport", f":{PORT}")
    assert steps(f"close {fd}") == "0"


@pytest.mark.parametrize("order", ["before", "behind"])
def test_multipath_wrapper(served, wrapper, order):
    items = (wrapper, harness.LIBRARY) if order == "before" else (harness.LIBRARY, wrapper)
    expect_multipath(served, served.steps(preload=chain(*items), addrs="127.0.0.9"))


def test_multipath_launcher_in_front(served, wrapper):
    expect_multipath(served, harness.Steps(served.start(
        "mptcpize", "run", harness.COMMAND, "run", "--addrs", "127.0.0.9", harness.program("steps"))))


def test_multipath_launcher_behind(served, wrapper):
    """It sets LD_PRELOAD anew, so what it starts is not served: which is said, and refused if strict."""
    steps = harness.Steps(served.start(harness.COMMAND, "run", "mptcpize", "run", harness.program("steps")))
    steps.open(TO, PORT)
    [line] = steps.program.errors().splitlines()
    assert "cannot be taken over" in line and "mptcpize run tuplebind run PROGRAM" in line
    result = served.run(harness.COMMAND, "run", "--strict", "mptcpize", "run", harness.program("steps"))
    assert (result.code, result.out) == (78, "") and "not started, strict" in result.err


def test_other_preload_by_run(served, tmp_path):
    """What LD_PRELOAD had before `tuplebind run` is loaded too."""
    counts = tmp_path / "counts"
    result = served.run("env", f"LD_PRELOAD={harness.program('counting.so')}", harness.COMMAND, "run",
                        "bash", "-c", f"exec 3<>/dev/tcp/{TO}/{PORT}",
                        environment={"COUNTING_FILE": str(counts)}, addrs="127.0.0.9")
    assert (result.code, result.err) == (0, "")
    assert "connect 1 " in counts.read_text()
    assert served.status()["counters"]["bound"] == 1


def test_missing_other_preload_is_not_our_problem(served):
    """The loader complains about it; ours works."""
    steps = served.steps(preload=chain("/nonexistent.so", harness.LIBRARY), addrs="127.0.0.9")
    steps.open(TO, PORT)
    assert [t.laddr for t in served.claims()] == ["127.0.0.9"]


def test_calls_before_and_after_us(served):
    """Another library's constructor connects before ours has started, its destructor after ours has
    ended: those connections are the kernel's, and all goes well."""
    served.departures_expected = True
    result = served.run("bash", "-c", "exit 7", preload=chain(harness.LIBRARY, harness.program("early.so")),
                        environment={"EARLY_PORT": str(PORT)}, addrs="127.0.0.9")
    assert (result.code, result.err) == (7, "")
    assert len(served.sockets(PORT, server=True)) == 2
    served.reap()
    assert served.claims() == []


# The log

def received(host):
    """What the servers have got, in bytes, over all connections to them."""
    return sum(s.received for port in (PORT, 8002) for s in host.sockets(port, server=True))


@pytest.mark.parametrize("how", ["socket", "dup2"])
def test_nothing_is_logged_into_a_connection(served, how):
    """The program closes its stderr and the next socket gets number 2: at the noisiest level, with a
    full pool to warn of, the peer gets what the program wrote and not a byte more."""
    steps = served.steps(log="debug", ports="40000-40001")
    if how == "socket":
        assert steps("close 2") == "0"
        fd = steps.socket()
    else:
        fd = int(steps(f"dup2 {steps.socket()} 2"))
    assert fd == 2
    assert steps.connect(fd, TO, PORT) == "0"
    for port in (PORT, 8002, 8999):
        for _ in range(3):
            steps.connect(steps.socket(), TO, port)
    assert served.status()["counters"]["full"] > 0
    assert received(served) == 0
    assert steps("write 2 hello") == "5"
    assert received(served) == 5


def test_log_goes_on_where_stderr_is_a_pipe(served):
    """The same calls with stderr left as it was are logged: the test above is not silent for nothing."""
    steps = served.steps(log="debug", ports="40000-40001")
    for _ in range(3):
        steps.connect(steps.socket(), TO, PORT)
    errors = steps.program.errors()
    assert "connected" in errors and "no tuple left" in errors


def test_log_file_reused_as_socket(served, tmp_path):
    """The log's own descriptor, closed by the program and used for a connection."""
    steps = served.steps(log="debug", log_file=tmp_path / "log", ports="40000-40001")
    assert steps("close_range 3 100000") == "0"
    log = 512  # where it is kept out of the way
    fd = int(steps(f"dupfd {steps.socket()} {log}"))
    assert fd == log
    assert steps.connect(fd, TO, PORT) == "0"
    for _ in range(3):
        steps.connect(steps.socket(), TO, PORT)
    assert served.status()["counters"]["full"] > 0
    assert received(served) == 0


def test_closed_reader_of_the_log(served, tmp_path):
    """stderr is a pipe that nobody reads any more: no SIGPIPE for a program that writes nothing."""
    alive = tmp_path / "alive"
    script = f"read; exec 3<>/dev/tcp/{TO}/{PORT}; echo yes >{alive}"
    reader, writer = os.pipe()
    running = served.start("bash", "-c", 'exec "$@" 2>&"$0"', str(writer), harness.COMMAND, "run",
                           "bash", "-c", script, log="debug", pass_fds=[writer])
    os.close(writer)
    os.close(reader)
    running.say("")
    assert running.wait() == 0
    assert alive.read_text() == "yes\n"
    assert served.status()["counters"]["bound"] == 1


@pytest.mark.parametrize("disable", ["", "1"])
def test_fork_without_handlers(served, disable):
    """_Fork() makes a child, with the library at work and without."""
    script = "import ctypes, os\npid = ctypes.CDLL(None)._Fork()\n" \
             "os._exit(7) if pid == 0 else print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    result = served.run(harness.PYTHON, "-c", script, preload=harness.LIBRARY, disable=disable)
    assert result == (0, "7\n", ""), result
