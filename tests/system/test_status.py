"""`tuplebind status --json`: the shape that other programs rely on, and numbers that are right."""

import json
import os

import harness
import pytest

TO, PORT, OTHER = "127.0.0.1", 8001, 8002
COUNTERS = ["bound", "late", "explicit", "timewait_reused", "retries", "full", "passed", "reaped",
            "table_full"]


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}", f"{TO} {OTHER}")
    return host


def test_shape(served):
    """Every name, in the order of the contract, and nothing else; one line."""
    steps = served.steps()
    steps.open(TO, PORT)
    out = served.must(harness.COMMAND, "status", "--json")
    assert out.count("\n") == 1
    whole = json.loads(out)
    assert list(whole) == ["version", "tables"]
    assert whole["version"] == served.must(harness.COMMAND, "--version").split()[-1]
    table = served.status()
    assert list(table) == ["name", "netns", "size", "lanes", "claims", "processes", "counters"]
    assert table["name"] == f"{harness.table_user()}.{served.namespace}"
    assert (table["netns"], table["size"]) == (served.namespace, 8 << 20)
    assert list(table["counters"]) == COUNTERS
    assert all(type(value) is int for value in table["counters"].values())
    assert table["processes"] == [{"pid": steps.program.pid, "name": "steps"}]


def numbers(host):
    table = host.status()
    return table["lanes"], table["claims"]


def test_lanes_and_claims(served):
    """A lane for each local address and destination while it holds a connection."""
    steps = served.steps(addrs="127.0.0.2-127.0.0.3")
    steps.socket()
    assert numbers(served) == (0, 0)
    fds = steps.open(TO, PORT, 6)
    assert numbers(served) == (2, 6)
    fds += steps.open(TO, OTHER, 4)
    assert numbers(served) == (4, 10)
    for fd in fds[:6]:
        steps(f"close {fd}")
    assert numbers(served) == (2, 4)
    for fd in fds[6:]:
        steps(f"close {fd}")
    assert numbers(served) == (0, 0)


def test_many_slabs_are_one_lane(served):
    """A lane that needs more than one slab of 512 ports is counted once."""
    served.set_ports(40000, 42999)
    steps = served.steps()
    steps.open(TO, PORT, 700)
    assert numbers(served) == (1, 700)


def test_counters(served):
    served.sysctl("net.ipv4.ip_local_port_range", "40000 40009")
    steps = served.steps(ports="40000-40009,30000-30009", skip=f"{TO}:{OTHER}")
    steps.open(TO, PORT, 20)
    steps.open(TO, OTHER, 3)
    assert steps.connect(steps.socket(), TO, PORT) == "EADDRNOTAVAIL"
    counted = served.status()["counters"]
    assert (counted["bound"], counted["late"], counted["explicit"]) == (20, 10, 10)
    assert (counted["passed"], counted["full"]) == (3, 1)
    assert (counted["retries"], counted["table_full"], counted["timewait_reused"]) == (0, 0, 0)


@pytest.mark.parametrize("backend", ["late", "explicit"])
@pytest.mark.parametrize("stranger", [[], ["--reuseaddr"]], ids=["plain", "reuseaddr"])
def test_retries_count_strangers(served, backend, stranger):
    """A stranger holds half of the lane: each of its tuples is met once, and left to it."""
    served.set_ports(40000, 40019)
    served.seed(TO, PORT, 10, *stranger, preload=None)
    steps = served.steps(backend=backend)
    steps.open(TO, PORT, 10)
    assert len(served.tuples(PORT)) == len(set(served.tuples(PORT))) == 20
    assert steps.connect(steps.socket(), TO, PORT) == "EADDRNOTAVAIL"
    assert served.status()["counters"]["retries"] >= 10
    assert served.status()["counters"]["bound"] == 10


def test_processes(served):
    """Who is attached: listed while it lives, with its name; a child once it connects."""
    first, second = served.steps(), served.steps()
    first.socket()
    second.socket()

    def pids():
        return sorted(process["pid"] for process in served.status()["processes"])

    assert pids() == sorted([first.program.pid, second.program.pid])
    second("fork")
    fd = second("child socket v4")
    assert second(f"child connect {fd} {TO} {PORT}") == "0"
    assert len(pids()) == 3
    first.program.end()
    assert first.program.pid not in pids()
    second.program.signal()
    harness.eventually(lambda: pids() == [])


def test_text_form(served):
    """For people: the same numbers, and the fullest lanes first."""
    steps = served.steps(addrs="127.0.0.2")
    steps.open(TO, PORT, 3)
    steps.open(TO, OTHER, 5)
    lines = served.status_text()
    assert "2 lanes, 8 claims" in lines[2]
    lanes = [line.split() for line in lines if "->" in line]
    assert lanes == [["5", "0", "%", "#.........", "127.0.0.2", "->", f"{TO}:{OTHER}"],
                     ["3", "0", "%", "#.........", "127.0.0.2", "->", f"{TO}:{PORT}"]]


def test_foreign_files_do_not_disturb(served):
    """A file of that name that is no table is told of on stderr; the rest is shown."""
    steps = served.steps()
    steps.open(TO, PORT)
    with open(f"/dev/shm/tuplebind.{harness.table_user()}.{served.namespace}.not-a-table", "w") as file:
        file.write("nothing of the kind" * 1000)
        os.fchmod(file.fileno(), 0o600)
    result = served.tuplebind("status", "--json")
    assert result.code == 0
    ours = [line for line in result.err.splitlines() if f".{served.namespace}" in line]
    assert len(ours) == 1 and "not-a-table" in ours[0]
    mine = [t for t in json.loads(result.out)["tables"] if t["netns"] == served.namespace]
    assert [t["claims"] for t in mine] == [1]


def test_several_tables(served):
    one, two = served.steps(table="one"), served.steps(table="two")
    one.open(TO, PORT, 2)
    two.open(TO, PORT, 3)
    tables = [t for t in json.loads(served.must(harness.COMMAND, "status", "--json"))["tables"]
              if t["netns"] == served.namespace]
    assert [(t["name"].rsplit(".")[-1], t["claims"]) for t in tables] == [("one", 2), ("two", 3)]
