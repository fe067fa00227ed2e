"""The log's events, key by key, and the static probes, seen by a debugger in a running program."""

import collections
import re
import shlex
import subprocess

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
LIBRARY_SOURCES = sorted((harness.REPOSITORY / "lib").glob("*/*.c"))
DOCUMENT = (harness.REPOSITORY / "docs" / "log.md").read_text()


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}")
    return host


def events(text):
    """[(level, {key: value})] of the events in a log; every line must be one."""
    found = []
    for line in text.splitlines():
        head, _, rest = line.partition(": ")
        pid, level = re.fullmatch(r"tuplebind\[(\d+)\] (\w+)", head).groups()
        pairs = [word.partition("=") for word in shlex.split(rest)]
        assert all(equals for _, equals, _ in pairs), line
        keys = {key: value for key, _, value in pairs}
        assert len(keys) == len(pairs) and list(keys)[:2] == ["event", "pid"], line
        assert keys["pid"] == pid
        found.append((level, keys))
    return found


def one(program, name):
    """The keys of the one event of that name that the program has logged."""
    found = [keys for _, keys in events(program.errors()) if keys["event"] == name]
    assert len(found) == 1, found
    return found[0]


def names_in_sources():
    return {name for path in LIBRARY_SOURCES
            for name in re.findall(r'event_begin(?:_limited)?\(\s*&e,\s*LOG_\w+,\s*([^;{]*?)[,)]\s*(?:&|\))',
                                   path.read_text())
            for name in re.findall(r'"([a-z-]+)"', name)}


def test_every_event_is_documented():
    documented = set(re.findall(r"^\| ([a-z-]+) \| (?:error|warn|info|debug)", DOCUMENT, re.M))
    assert len(documented) > 10
    leases = {name for path in (harness.REPOSITORY / "tools" / "lease").glob("*.c")
              for name in re.findall(r'LOG_\w+,\s*"(lease-[a-z-]+)"', path.read_text())}
    assert len(leases) > 5 and names_in_sources() | leases == documented


def test_every_probe_is_documented():
    notes = subprocess.run(["readelf", "-n", harness.LIBRARY], capture_output=True, text=True).stdout
    built = set(re.findall(r"Provider: tuplebind\s+Name: (\w+)", notes))
    documented = set(re.findall(r"^\| (\w+) \| (?:descriptor|claim)", DOCUMENT, re.M))
    assert built == documented == {"claim", "retry", "full", "give_back"}


def test_ports_that_changed_while_it_ran(served):
    """The connect that meets the change is served, on a port of the new range, and tells of it."""
    steps = served.steps(log="info")
    steps.open(TO, PORT)
    served.set_ports(50000, 50999)
    steps.open(TO, PORT, 3)
    told = one(steps.program, "ports-changed")
    assert told["foreign"] == f"{TO}:{PORT}" and "range has changed" in told["reason"]
    ports = [t.lport for t in served.tuples(PORT)]
    # The look that is due once a second may come before the first mismatch.
    assert "local" not in told or int(told["local"].rsplit(":", 1)[1]) in ports
    assert sum(port in served.ports for port in ports) == 3


def test_connects(served):
    """What became of each connect, with the tuple that the kernel shows."""
    steps = served.steps(log="debug", addrs="127.0.0.9")
    fd = steps.open(TO, PORT)[0]
    local = steps(f"name {fd}").split()
    keys = one(steps.program, "connected")
    assert keys == {"event": "connected", "pid": str(steps.program.pid), "fd": str(fd), "protocol": "tcp",
                    "local": f"127.0.0.9:{local[1]}", "foreign": f"{TO}:{PORT}", "bind": "late"}
    refused = steps.socket()
    assert steps.connect(refused, TO, PORT + 1) == "ECONNREFUSED"
    keys = one(steps.program, "failed")
    assert (keys["fd"], keys["error"], keys["foreign"]) == (str(refused), "ECONNREFUSED", f"{TO}:{PORT + 1}")
    assert one(steps.program, "attached")["program"] == "steps"


def test_retry(served):
    """A tuple that a stranger has."""
    served.set_ports(40000, 40001)
    stranger = served.steps(preload=None)
    fd = stranger.socket()
    assert stranger(f"bind {fd} 127.0.0.1 40000") == "0" and stranger.connect(fd, TO, PORT) == "0"
    steps = served.steps(log="debug", addrs=TO)
    steps.open(TO, PORT)
    again = steps.socket()
    assert steps.connect(again, TO, PORT) == "EADDRNOTAVAIL"
    assert one(steps.program, "retry")["local"] == f"{TO}:40000"
    keys = one(steps.program, "full")
    assert (keys["fd"], keys["reason"], keys["then"]) == (str(again), "no tuple left", "EADDRNOTAVAIL")


@pytest.mark.parametrize("order, settings, reason", [
    ([], {"skip": TO}, "skipped by the settings"),
    (["bind {fd} 127.0.0.1 40005"], {}, "the program has chosen its port"),
    ([], {"full": "kernel", "ports": "40000"}, "no tuple left"),
    ([], {"addrs": "127.0.0.9", "table_size": "256K"}, None),
], ids=["skip", "bound", "full", "served"])
def test_passed(served, order, settings, reason):
    steps = served.steps(log="debug", **settings)
    for number in range(2):
        fd = steps.socket()
        if number == 1:
            for line in order:
                assert steps(line.format(fd=fd)) == "0"
        assert steps.connect(fd, TO, PORT) == "0"
    passed = [keys for _, keys in events(steps.program.errors()) if keys["event"] == "passed"]
    assert all(keys["reason"] == reason for keys in passed)
    assert bool(passed) == (reason is not None)
    if passed:
        assert passed[-1]["fd"] == str(fd)


def test_untold(served):
    """Over the limit: a line says how many there would have been. (The clock cannot be moved: see test_event.c.)"""
    result, running = served.seed(TO, PORT, 300, ports="40000-40002")
    assert result["error"] == "EADDRNOTAVAIL"
    running.end()
    assert [keys["event"] for _, keys in events(running.errors())] == ["full"]


def test_debug_has_a_limit(served):
    """Refused connects as fast as they go: some lines are left out, and a later one says how many."""
    script = f"""
import socket, time
for number in range(40001):
    if number == 40000:
        time.sleep(1.1)
    with socket.socket() as s:
        s.connect_ex(("{TO}", {PORT + 1}))
"""
    running = served.start(harness.PYTHON, "-c", script, preload="run", log="debug")
    assert running.end() == 0
    told = [keys for _, keys in events(running.errors()) if keys["event"] == "failed"]
    untold = sum(int(keys.get("untold", 0)) for keys in told)
    assert len(told) + untold == 40001


PROBES = """
set confirm off
set pagination off
set breakpoint pending on
{breaks}
continue
"""


def test_probes_in_a_running_program(served, tmp_path):
    """gdb breaks at each probe of a program that runs already, and reads the arguments."""
    steps = served.steps(ports="40000-40000", addrs="127.0.0.9")
    one_fd, other_fd = steps.socket(), steps.socket()
    formats = {"claim": (r"claim %d %d %#lx", "$_probe_arg0, $_probe_arg2, $_probe_arg3"),
               "full": (r"full %d %d", "$_probe_arg0, $_probe_arg2"),
               "give_back": (r"give_back %#lx", "$_probe_arg0")}
    breaks = "".join(f"break -probe-stap tuplebind:{name}\ncommands\nsilent\n"
                     f'printf "{form}\\n", {arguments}\ncontinue\nend\n'
                     for name, (form, arguments) in formats.items())
    script = tmp_path / "script"
    script.write_text(PROBES.format(breaks=breaks + 'printf "ready\\n"\n'))
    gdb = harness.Program(["gdb", "-q", "-nx", "-batch", "-p", str(steps.program.pid), "-x", str(script)],
                          harness.clean_environment())
    served.programs.append(gdb)
    while (line := gdb.line()) != "ready":
        assert line is not None, gdb.errors()
    assert steps.connect(one_fd, TO, PORT) == "0"
    assert steps.connect(other_fd, TO, PORT) == "EADDRNOTAVAIL"
    assert steps(f"close {one_fd}") == "0"
    steps.program.end()
    seen = []
    while (line := gdb.line()) is not None:
        seen.append(line.split())
    said = collections.defaultdict(list)
    for word, *rest in seen:
        said[word].append(rest)
    assert said["claim"][0][:2] == [str(one_fd), "40000"], seen
    assert said["full"] == [[str(other_fd), str(PORT)]], seen
    assert said["give_back"][0] == said["claim"][0][2:], seen
