"""`tuplebind config`: the value in force of each variable and where it came from, and what a running
process was started with."""

import re

import harness
import pytest

# Overwrites its environment, as programs do that set a title, and waits.
OVERWRITES = """
import ctypes, sys
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 0, end - start)
print("ready", flush=True)
sys.stdin.read()
"""


def rows(text):
    """(variable, from, value) of each line, by the columns of the head."""
    head, *lines = text.splitlines()
    second, third = head.index("from"), head.index("value")
    assert head.split() == ["variable", "from", "value"]
    found = []
    for line in lines:
        cells = line[:second], line[second:third], line[third:]
        assert all(cell == "" or cell[-1] == " " for cell in cells[:2]), line
        assert cells[2] != "" and cells[2][0] != " ", line
        found.append(tuple(cell.strip() for cell in cells))
    return found


def config(host, *words, **options):
    result = host.tuplebind("config", *words, **options)
    assert (result.code, result.err) == (0, ""), result
    return result.out


def documented():
    """The README's variables and the beginning of each default."""
    table = re.findall(r"^\| (TUPLEBIND_\w+) \| .* \| ([^|]*) \|$",
                       (harness.REPOSITORY / "README.md").read_text(), re.M)
    return {name: re.match(r"`?([^`:]*)", preset)[1] for name, preset in table}


def test_defaults(one_host):
    """Every variable that the README knows, with the default it tells."""
    seen = rows(config(one_host))
    assert [variable for variable, *_ in seen] == list(documented())
    assert {origin for _, origin, _ in seen} == {"default"}
    for variable, _, value in seen:
        assert value.removesuffix(" (1000 ports of 40000-40999)") == documented()[variable]


def test_where_from(one_host, tmp_path):
    path = tmp_path / "conf"
    path.write_text("[tuplebind]\nbalance = pack\nfull = kernel\nskip = 127.0.0.1,\n  127.0.0.2\n")
    seen = {variable: rest for variable, *rest in rows(config(
        one_host, "--balance", "hash", "-c", path, "--strict",
        environment={"TUPLEBIND_FULL": "fail", "TUPLEBIND_LOG": "info", "TUPLEBIND_TABLE": ""}))}
    assert seen["TUPLEBIND_BALANCE"] == ["option", "hash"]
    assert seen["TUPLEBIND_STRICT"] == ["option", "1"]
    assert seen["TUPLEBIND_FULL"] == [f"{path}:3", "kernel"]
    assert seen["TUPLEBIND_SKIP"] == [f"{path}:4", "127.0.0.1,127.0.0.2"]
    assert seen["TUPLEBIND_LOG"] == ["environment", "info"]
    assert seen["TUPLEBIND_TABLE"][0] == "default"
    assert seen["TUPLEBIND_BACKEND"] == ["default", "auto"]


def test_rules(one_host, tmp_path):
    """One a line, each with the line of its section; those of an option or the environment likewise."""
    path = tmp_path / "conf"
    path.write_text("[rule a]\ndest = 10.0.0.1, [::1]:80\naddrs = ::1, 127.0.0.1\n\n"
                    "[rule b]\nskip = yes\ndest = 10.0.0.0/8\n")

    def of_rules(text):
        seen = rows(text)
        first = [variable for variable, *_ in seen].index("TUPLEBIND_RULES")
        last = [variable for variable, *_ in seen].index("TUPLEBIND_SKIP")
        assert {variable for variable, *_ in seen[first + 1:last]} <= {""}
        return [tuple(rest) for _, *rest in seen[first:last]]

    assert of_rules(config(one_host, "-c", path)) == [
        (f"{path}:1", "10.0.0.1=::1, 127.0.0.1"), (f"{path}:1", "[::1]:80=::1, 127.0.0.1"),
        (f"{path}:5", "10.0.0.0/8=skip")]
    text = "10.0.0.1=skip; [::1]:80=::1;;10.0.0.2=skip"
    each = ["10.0.0.1=skip", "[::1]:80=::1", "10.0.0.2=skip"]
    assert of_rules(config(one_host, "-c", path, "--rules", text)) == [("option", rule) for rule in each]
    assert of_rules(config(one_host, environment={"TUPLEBIND_RULES": text})) == \
        [("environment", rule) for rule in each]


def test_one_line_each(one_host, tmp_path):
    """Names and values with line breaks do not break the columns."""
    path = tmp_path / "a\nb"
    path.write_text("[tuplebind]\nlog = info\n")
    seen = rows(config(one_host, "-c", path, "--log-file", "/c\nd\te"))
    assert ("TUPLEBIND_LOG", f"{tmp_path}/a?b:2", "info") in seen
    assert ("TUPLEBIND_LOG_FILE", "option", "/c?d?e") in seen


@pytest.mark.parametrize("ports, shown", [
    (None, "auto (997 ports of 40000-40999)"),
    ("auto", "auto (997 ports of 40000-40999)"),
    ("auto/4:1", "auto/4:1 (249 ports of 40000-40999)"),
    ("1-10,5-20", "1-10,5-20 (20 ports)"),
    ("40010-40011", "40010-40011 (2 ports)"),
    ("65535", "65535 (1 port)"),
])
def test_ports(host, ports, shown):
    """What the kernel offers here, less what is reserved."""
    host.sysctl("net.ipv4.ip_local_reserved_ports", "40010-40012")
    option = ["--ports", ports] if ports else []
    assert {variable: value for variable, _, value in rows(config(host, *option))}["TUPLEBIND_PORTS"] == shown


def test_whole_range_of_ports(host):
    host.set_ports(1024, 65535)
    assert "auto (64512 ports of 1024-65535)" in config(host)


# A running process.

def test_process(host):
    program = host.steps(addrs="127.0.0.9", rules="127.0.0.1=skip;127.0.0.2=127.0.0.3").program
    assert program  # is loaded when it answers
    harness.Steps(program).socket()
    first, rest = config(host, "--pid", program.pid, environment={"TUPLEBIND_LOG": "off"}).split("\n", 1)
    [table] = host.tables()
    assert first == f"process {program.pid} has {harness.LIBRARY} loaded, with table {table}"
    seen = {variable: tuple(cells) for variable, *cells in rows(rest) if variable}
    assert seen["TUPLEBIND_ADDRS"] == ("environment", "127.0.0.9")
    assert seen["TUPLEBIND_RULES"] == ("environment", "127.0.0.1=skip")
    assert seen["TUPLEBIND_LOG"] == ("default", "warn")
    assert seen["TUPLEBIND_PORTS"] == ("default", "auto (1000 ports of 40000-40999)")


def test_process_of_another_namespace(host, one_host):
    """Its ports are not those of here."""
    program = host.steps().program
    harness.Steps(program).socket()
    assert re.search("PORTS +default +auto\n", config(one_host, "--pid", program.pid))


def test_stranger(host):
    program = host.steps(preload=None, addrs="127.0.0.9").program
    harness.Steps(program).socket()
    first, rest = config(host, "--pid", program.pid).split("\n", 1)
    assert first == f"process {program.pid} has no tuplebind loaded"
    assert ("TUPLEBIND_ADDRS", "environment", "127.0.0.9") in rows(rest)


@pytest.mark.parametrize("settings, told", [
    ({"disable": 1}, "with no table: it runs without tuplebind"),
    ({"ports": "nonsense"}, "with no table: it runs without tuplebind"),
    ({"table": "private"}, "with a private table or none"),
    ({"table": "mine"}, ".mine"),
])
def test_what_the_library_does_there(host, settings, told):
    program = host.steps(preload=harness.LIBRARY, **settings).program
    harness.Steps(program).socket()
    first = config(host, "--pid", program.pid).split("\n")[0]
    assert first.startswith(f"process {program.pid} has {harness.LIBRARY} loaded, with ")
    assert first.endswith(told)


def test_environment_written_over(host):
    program = host.start(harness.PYTHON, "-c", OVERWRITES, preload="run")
    assert program.line() == "ready", program.errors()
    result = host.tuplebind("config", "--pid", program.pid)
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert "written over its environment" in result.err


def test_process_that_may_not_be_looked_at(host):
    result = host.run("setpriv", "--bounding-set", "-all", harness.COMMAND, "config", "--pid", host.anchor.pid)
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert f"/proc/{host.anchor.pid}/environ" in result.err and "Permission denied" in result.err


@pytest.mark.parametrize("words, environment, part", [
    (["--pid", "0"], {}, '"0" is not a process id'),
    (["--pid", "-1"], {}, '"-1" is not a process id'),
    (["--pid", "1x"], {}, '"1x" is not a process id'),
    (["--pid", "99999999999999999999"], {}, "is not a process id"),
    (["--pid", "2147483647"], {}, "there is no process 2147483647"),
    (["--pid"], {}, "--pid wants a value"),
    (["--pid", "1", "--log", "info"], {}, "no other option"),
    (["-c", "/nonexistent", "--pid", "1"], {}, "no other option"),
    (["--skip", "x"], {}, 'TUPLEBIND_SKIP: "x"'),
    ([], {"TUPLEBIND_TABLE": "a/b"}, 'TUPLEBIND_TABLE: "a/b"'),
    (["1"], {}, '"1" is too much'),
    (["--nonsense"], {}, "--nonsense is not an option; see tuplebind config --help"),
])
def test_refused(one_host, words, environment, part):
    result = one_host.tuplebind("config", *words, environment=environment)
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert part in result.err
