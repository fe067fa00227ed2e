"""`tuplebind env`: what it prints makes a shell, and systemd, start programs as `tuplebind run` does.

systemd's own reader is asked without a running systemd: its generator for environment.d reads
files of the form of EnvironmentFile= by the same code, and prints what it understood. The one
difference is that it replaces $NAME, which EnvironmentFile= leaves alone; so no value has a $ there.
"""

import re

import harness
import pytest

GENERATOR = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"

CONF = """[tuplebind]
addrs = 127.0.0.2-127.0.0.3,
        lo
strict = no
[rule a]
dest = 127.0.0.1:80, [::1]:80
addrs = 127.0.0.4, 127.0.0.5
ports = 1-2, 3
[rule b]
dest = 10.0.0.0/8
skip = yes
"""
RULES = "127.0.0.1:80=127.0.0.4, 127.0.0.5@1-2, 3;[::1]:80=127.0.0.4, 127.0.0.5@1-2, 3;10.0.0.0/8=skip"
LINES = {"TUPLEBIND_ADDRS": "127.0.0.2-127.0.0.3,lo", "TUPLEBIND_RULES": RULES, "TUPLEBIND_STRICT": "0",
         "LD_PRELOAD": str(harness.LIBRARY)}

# Paths that a careless quoting would spoil.
NASTY = ["/a b", "/it's", "/'", "/''", "/'\"'\"'", '/"x"', "/a\\b", "/a\\", "/x;y", "/`true`", "/%n %%", "/#x",
         "/x # y", "/*?[a]", "/a=b", "/\u00fc\u4e2d", "/tab\tbed", "  /blanks  ", "~", "!!", "-n", "/x\\'y"]
DOLLARS = ["/$HOME", "/${HOME}", "/$(true)", "/$'x'"]


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "tuplebind.conf"
    path.write_text(CONF)
    return path


def ours(output):
    """The variables of tuplebind in the output of `env -0`."""
    return {name: value for name, _, value in (item.partition("=") for item in output.split("\0"))
            if name.startswith("TUPLEBIND_") or name == "LD_PRELOAD"}


def printed(host, *words, **options):
    result = host.tuplebind("env", *words, **options)
    assert (result.code, result.err) == (0, ""), result
    return result.out


def by_shell(host, shell, text, exported=False):
    """What a shell has after an eval of the text; exported: what the programs it starts have."""
    script = 'eval "$1"; exec env -0' if exported else 'set -a; eval "$1"; exec env -0'
    # /bin/env would load the library as well, which may have a bad log file here.
    return ours(host.must(shell, "-c", script, shell, text, environment={"TUPLEBIND_DISABLE": "1"}))


def by_systemd(host, directory, text):
    """What systemd understands."""
    (directory / "environment.d").mkdir(exist_ok=True)
    (directory / "environment.d" / "tuplebind.conf").write_text(text)
    out = host.must("env", "-i", f"XDG_CONFIG_HOME={directory}", "LC_ALL=C", GENERATOR)
    found = {}
    for line in out.splitlines():
        name, _, value = line.partition("=")
        if value.startswith('"'):  # it prints what needs it in quotes, with escapes as in C
            value = re.sub(r"\\(.)", lambda escape: "\t" if escape[1] == "t" else escape[1], value[1:-1])
        found[name] = value
    return {name: value for name, value in found.items() if name.startswith("TUPLEBIND_") or name == "LD_PRELOAD"}


def test_lines(one_host, conf):
    """One a line, in quotes, in the order of the documentation; nothing that is not set."""
    assert printed(one_host, "-c", conf) == "".join(f"{name}='{value}'\n" for name, value in LINES.items())
    assert printed(one_host, "-c", conf, "--export") == \
        "".join(f"export {name}='{value}'\n" for name, value in LINES.items())


def test_nothing_set(one_host):
    assert printed(one_host) == f"LD_PRELOAD='{harness.LIBRARY}'\n"


def test_environment_and_options(one_host, conf):
    """As run: options over the file over the environment."""
    environment = {"TUPLEBIND_ADDRS": "127.0.0.9", "TUPLEBIND_FULL": "kernel", "TUPLEBIND_LOG": ""}
    out = printed(one_host, "--strict", "-c", conf, "--ports", "5-6", environment=environment)
    assert out.splitlines() == [
        "TUPLEBIND_ADDRS='127.0.0.2-127.0.0.3,lo'", "TUPLEBIND_PORTS='5-6'", f"TUPLEBIND_RULES='{RULES}'",
        "TUPLEBIND_FULL='kernel'", "TUPLEBIND_STRICT='1'", f"LD_PRELOAD='{harness.LIBRARY}'"]


def test_empty_option_takes_back(one_host):
    """What an option empties stays empty in an environment that has it."""
    out = printed(one_host, "--ports", "", environment={"TUPLEBIND_PORTS": "1-2"})
    assert out.splitlines()[0] == "TUPLEBIND_PORTS=''"


def test_same_as_run(one_host, conf):
    """A shell that evaluates the lines starts programs with the environment of `tuplebind run`."""
    environment = {"TUPLEBIND_ADDRS": "127.0.0.9", "TUPLEBIND_FULL": "kernel"}
    run = one_host.must(harness.COMMAND, "run", "-c", conf, "env", "-0", environment=environment)
    evaluated = one_host.must("sh", "-c", 'eval "$("$0" env --export -c "$1")"; exec env -0',
                              harness.COMMAND, conf, environment=environment)
    assert ours(evaluated) == ours(run) == LINES | {"TUPLEBIND_FULL": "kernel"}


def test_other_preloads_are_kept(one_host):
    other = harness.program("counting.so")
    out = one_host.must("env", f"LD_PRELOAD={other}", harness.COMMAND, "env")
    assert out == f"LD_PRELOAD='{harness.LIBRARY}:{other}'\n"
    out = one_host.must("env", f"LD_PRELOAD={harness.LIBRARY}:{other}", harness.COMMAND, "env")
    assert out == f"LD_PRELOAD='{harness.LIBRARY}:{other}'\n"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_evaluated(one_host, conf, shell):
    plain, exported = printed(one_host, "-c", conf), printed(one_host, "-c", conf, "--export")
    rest = {"TUPLEBIND_DISABLE": "1"}
    assert by_shell(one_host, shell, plain) == by_shell(one_host, shell, exported, exported=True) == LINES | rest
    # Without "export" the shell has them, and what it starts does not.
    assert by_shell(one_host, shell, plain, exported=True) == rest


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("value", NASTY + DOLLARS)
def test_quoting_for_shells(one_host, shell, value):
    text = printed(one_host, "--log-file", value)
    assert by_shell(one_host, shell, text)["TUPLEBIND_LOG_FILE"] == value


def test_read_by_systemd(one_host, conf, tmp_path):
    assert by_systemd(one_host, tmp_path, printed(one_host, "-c", conf)) == LINES


@pytest.mark.parametrize("value", NASTY)
def test_quoting_for_systemd(one_host, tmp_path, value):
    text = printed(one_host, "--log-file", value)
    assert by_systemd(one_host, tmp_path, text)["TUPLEBIND_LOG_FILE"] == value


@pytest.mark.parametrize("value", [r"/a\nb", r"/a\rb", r"/a\033b", r"/a\177", r"/\377", r"/\303", r"/\355\240\200"])
def test_what_systemd_does_not_take(one_host, value):
    """Line breaks, control characters, bytes that are not UTF-8: told, and nothing printed of it."""
    result = one_host.run("sh", "-c", 'exec "$0" env --log-file "$(printf "$1.")"', harness.COMMAND, value)
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert "TUPLEBIND_LOG_FILE" in result.err and "accepted" in result.err
    # run has no such trouble.
    assert one_host.run("sh", "-c", 'exec "$0" run --disable --log-file "$(printf "$1.")" true',
                        harness.COMMAND, value).code == 0


def test_connections(host, tmp_path):
    """A program that the shell starts then connects from the pool."""
    conf = tmp_path / "conf"
    conf.write_text("[tuplebind]\naddrs = 127.0.0.9\n[rule x]\ndest = 127.0.0.1:8002\naddrs = 127.0.0.7\n")
    host.sink("127.0.0.1 8001", "127.0.0.1 8002")
    steps = harness.Steps(host.start("sh", "-c", 'eval "$("$0" env --export -c "$1")"; exec "$2"',
                                     harness.COMMAND, conf, harness.program("steps")))
    steps.open("127.0.0.1", 8001)
    steps.open("127.0.0.1", 8002)
    assert {t.laddr for t in host.tuples(8001)} == {"127.0.0.9"}
    assert {t.laddr for t in host.tuples(8002)} == {"127.0.0.7"}


@pytest.mark.parametrize("words, environment, part", [
    (["--ports", "x"], {}, "TUPLEBIND_PORTS: \"x\""),
    ([], {"TUPLEBIND_BALANCE": "x"}, "TUPLEBIND_BALANCE: \"x\""),
    (["--nonsense"], {}, "--nonsense is not an option; see tuplebind env --help"),
    (["--ports"], {}, "--ports wants a value"),
    (["too", "much"], {}, "\"too\" is too much"),
    (["-c", "/nonexistent"], {}, "/nonexistent: cannot be read"),
])
def test_refused(one_host, words, environment, part):
    result = one_host.tuplebind("env", *words, environment=environment)
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert part in result.err


def test_help(one_host):
    """One screen."""
    for command in ("run", "env", "config"):
        result = one_host.tuplebind(command, "--help")
        assert (result.code, result.err) == (0, "")
        assert result.out.count("\n") <= 32
        assert max(map(len, result.out.splitlines())) <= 100
        options = set(re.findall(r"--([a-z-]+)", result.out))
        assert {"config", "addrs", "ports", "strict", "disable", "table-size"} <= options


def test_output_that_cannot_be_written(one_host):
    for command in ("env", "config"):
        result = one_host.run("sh", "-c", f'exec "$0" {command} >/dev/full', harness.COMMAND)
        assert (result.code, result.err.count("\n")) == (125, 1) and "No space" in result.err
