"""Bad values, one by one: one clear line, and the program as if tuplebind were not there.

The library speaks first, preloaded by hand; under TUPLEBIND_STRICT=1 the program never starts and
the exit code is 78. `tuplebind run` finds the same faults before it starts anything.
"""

import harness
import pytest

LONG = "x" * 300

# Variable, value, the part that is wrong, something of what is accepted.
BAD = [
    ("addrs", "nonsense", "nonsense", "addresses"),
    ("addrs", "10.0.0.256", "10.0.0.256", "addresses"),
    ("addrs", "127.0.0.1,,127.0.0.2", '""', "addresses"),
    ("addrs", "127.0.0.1,10.0.0.0/33", "10.0.0.0/33", "addresses"),
    ("addrs", "10.0.0.0/-1", "10.0.0.0/-1", "addresses"),
    ("addrs", "127.0.0.9-127.0.0.2", "127.0.0.9-127.0.0.2", "lower to a higher"),
    ("addrs", "127.0.0.9-fd00::1", "127.0.0.9-fd00::1", "one family"),
    ("addrs", "fe80::1%nowhere", "nowhere", "interface"),
    ("addrs", "eth99", "eth99", "interface names"),
    ("addrs", ",", '""', "addresses"),
    ("addrs", LONG, "xxxx", "addresses"),
    ("ports", "0", '"0"', "1-65535"),
    ("ports", "65536", '"65536"', "1-65535"),
    ("ports", "1-70000", "1-70000", "1-65535"),
    ("ports", "40000-30000", "40000-30000", "1-65535"),
    ("ports", "40000-", "40000-", "1-65535"),
    ("ports", "-40000", "-40000", "1-65535"),
    ("ports", "40000,abc", '"abc"', "1-65535"),
    ("ports", "40000;40001", "40000;40001", "1-65535"),
    ("ports", "+40000", "+40000", "1-65535"),
    ("ports", ",", '""', "1-65535"),
    ("protocols", "sctp", "sctp", "tcp"),
    ("protocols", "tcp,,udp", "tcp,,udp", "tcp, udp, or tcp,udp"),
    ("balance", "roundrobin", "roundrobin", "rotate, random, hash, pack"),
    ("balance", "Rotate", "Rotate", "rotate, random, hash, pack"),
    ("rules", "127.0.0.1", "127.0.0.1", "DEST=ADDRS"),
    ("rules", "=127.0.0.1", '""', "ADDRESS"),
    ("rules", "127.0.0.1=", "127.0.0.1=", "addresses"),
    ("rules", "127.0.0.1=127.0.0.2@0", '"0"', "1-65535"),
    ("rules", "127.0.0.1=127.0.0.2@", "127.0.0.2@", "1-65535"),
    ("rules", "127.0.0.1=skip;127.0.0.2=nowhere", "nowhere", "addresses"),
    ("rules", "10.0.0.0/99=skip", "10.0.0.0/99", "ADDRESS"),
    ("skip", "localhost", "localhost", "ADDRESS"),
    ("skip", "127.0.0.1:0", "127.0.0.1:0", "PORT"),
    ("skip", "127.0.0.1:99999", "127.0.0.1:99999", "PORT"),
    ("skip", "127.0.0.0/33", "127.0.0.0/33", "LENGTH"),
    ("skip", "[::1:80", "[::1:80", "bracket"),
    ("skip", "127.0.0.1,,", '""', "ADDRESS"),
    ("full", "wait", "wait", "fail, kernel"),
    ("backend", "early", "early", "auto, late, explicit"),
    ("table", "a/b", "a/b", "A-Z"),
    ("table", "..", '".."', "A-Z"),
    ("table", LONG, "xxxx", "up to"),
    ("table_size", "8X", "8X", "8M"),
    ("table_size", "1K", "1K", "256K"),
    ("table_size", "-8M", "-8M", "8M"),
    ("table_size", "99999999999999999999G", "99999999999999999999G", "16G"),
    ("table_size", "8MB", "8MB", "8M"),
    ("log", "loud", "loud", "off, error, warn, info, debug"),
    ("log_file", "/nonexistent/log", "/nonexistent/log", "No such file"),
    ("log_file", "/dev", '"/dev"', "directory"),
    ("balance", "pack\n\033[31mall is well", "pack??[31mall is well", "rotate, random, hash, pack"),
    ("disable", "yes", "yes", "0, 1"),
    ("strict", "yes", "yes", "0, 1"),
]

each_bad = pytest.mark.parametrize(
    "name, value, part, accepted", BAD, ids=[f"{name}={value[:30]}" for name, value, *_ in BAD])

# Found when the library opens the file, not by the command.
each_bad_for_run = pytest.mark.parametrize(
    "name, value, part, accepted", [bad for bad in BAD if bad[0] != "log_file"],
    ids=[f"{name}={value[:30]}" for name, value, *_ in BAD if name != "log_file"])

PROGRAM = ("sh", "-c", "echo ran; exit 7")


def expect_one_line(err, name, part, accepted):
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert f"TUPLEBIND_{name.upper()}" in err
    assert part in err
    assert accepted in err


@pytest.fixture
def shared_host(one_host):
    """One host for all that only start a program; a table that a test has made goes with it."""
    yield one_host
    one_host.remove_tables()


@each_bad
def test_library_runs_on(shared_host, name, value, part, accepted):
    result = shared_host.run(*PROGRAM, preload=harness.LIBRARY, **{name: value})
    assert (result.code, result.out) == (7, "ran\n")
    expect_one_line(result.err, name, part, accepted)
    assert shared_host.tables() == []


@each_bad
def test_library_strict(shared_host, name, value, part, accepted):
    if name == "strict":
        pytest.skip("the switch itself is what is wrong: not strict")
    result = shared_host.run(*PROGRAM, preload=harness.LIBRARY, strict=1, **{name: value})
    assert (result.code, result.out) == (78, "")
    expect_one_line(result.err, name, part, accepted)


@each_bad_for_run
def test_command_refuses(shared_host, name, value, part, accepted):
    option = [f"--{name.replace('_', '-')}", value]
    environment = {}
    if name in ("strict", "disable"):  # no options with values
        option, environment = [], harness.variables({name: value})
    result = shared_host.tuplebind("run", *option, "--", *PROGRAM, environment=environment)
    assert (result.code, result.out) == (125, "")
    expect_one_line(result.err, name, part, accepted)


def test_connections_are_the_kernel_s(host):
    """After a bad value the program connects as if tuplebind were absent."""
    host.sink("127.0.0.1 8001")
    result, running = host.seed("127.0.0.1", 8001, 5, preload=harness.LIBRARY,
                                addrs="127.0.0.9", ports="nonsense")
    assert (result["opened"], result["error"]) == (5, "none")
    assert {t.laddr for t in host.tuples(8001)} == {"127.0.0.1"}
    assert host.tables() == []
    running.end()
    assert running.errors().count("\n") == 1


def test_several_bad_values_one_line(shared_host):
    """The first fault is told; a program is not greeted with a page of them."""
    result = shared_host.run(*PROGRAM, preload=harness.LIBRARY, ports="x", addrs="y", log="z")
    assert (result.code, result.out) == (7, "ran\n")
    assert result.err.count("\n") == 1


def test_log_off_is_silent(shared_host):
    """Who turns the log off is not told of bad values either."""
    result = shared_host.run(*PROGRAM, preload=harness.LIBRARY, ports="x", log="off")
    assert result == (7, "ran\n", "")
