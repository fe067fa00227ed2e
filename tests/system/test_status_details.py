"""`tuplebind status` with all it knows: every number against the kernel's sockets, and tables that lie.

The keys are those of docs/status-json.md.
"""

import collections
import json
import os
import pty
import re
import struct
import time

import harness
import pytest

TO, PORT, OTHER = "127.0.0.1", 8001, 8002
CONTRACT = ["name", "netns", "size", "lanes", "claims", "processes", "counters"]
DETAILS = ["passed_by", "here", "created", "age", "slabs", "slabs_used", "strays", "ports", "ports_from",
           "local_address_count", "destination_count", "fullest_lanes", "local_addresses", "destinations"]
REASONS = ["skipped", "bound", "special", "namespace", "helpless", "full"]
SLABS_AT, SIZE_AT, SLAB = 12, 16, 128
LONG = "fd07:1111:2222:3333:4444:5555:6666:"


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}", f"{TO} {OTHER}", f"::1 {PORT}")
    return host


def details(host, *words, seen_from=None):
    """This host's one table, from `status --json --details`."""
    out = (seen_from or host).must(harness.COMMAND, "status", "--json", "--details", *words)
    tables = [t for t in json.loads(out)["tables"] if t["netns"] == host.namespace]
    assert len(tables) == 1, tables
    return tables[0]


def table_path(host):
    [path] = host.tables()
    return path


def test_every_number_is_the_kernels(served):
    """Lanes, addresses and destinations add up to what ss lists, over both families and protocols."""
    steps = served.steps(addrs="127.0.0.2-127.0.0.4,::1", protocols="tcp,udp")
    steps.open(TO, PORT, 9)
    steps.open(TO, OTHER, 4)
    steps.open("::1", PORT, 2, kind="v6")
    steps.open(TO, PORT, 3, kind="udp")
    table = details(served)
    assert list(table) == CONTRACT + DETAILS
    sockets = [(protocol, t) for protocol in ("tcp", "udp") for port in (PORT, OTHER)
               for t in served.tuples(port, protocol=protocol)]
    assert table["claims"] == len(sockets) == 18
    by_lane = collections.Counter((p, t.laddr, t.faddr, t.fport) for p, t in sockets)
    assert table["lanes"] == len(by_lane)
    assert {(x["protocol"], x["laddr"], x["faddr"], x["fport"]): x["claims"]
            for x in table["fullest_lanes"]} == by_lane
    by_laddr = collections.Counter(t.laddr for _, t in sockets)
    assert {x["laddr"]: x["claims"] for x in table["local_addresses"]} == by_laddr
    assert table["local_address_count"] == len(by_laddr)
    by_destination = collections.Counter((p, t.faddr, t.fport) for p, t in sockets)
    assert {(x["protocol"], x["faddr"], x["fport"]): x["claims"]
            for x in table["destinations"]} == by_destination
    assert table["destination_count"] == len(by_destination)
    for kind in ("fullest_lanes", "local_addresses", "destinations"):
        claims = [x["claims"] for x in table[kind]]
        assert claims == sorted(claims, reverse=True)
        assert all(x["outside"] == x["scope"] == 0 for x in table[kind])
    for x in table["local_addresses"]:
        assert x["lanes"] == sum(lane[1] == x["laddr"] for lane in by_lane)
        assert x["fullest"] == max(n for lane, n in by_lane.items() if lane[1] == x["laddr"])
    for x in table["destinations"]:
        lanes = {lane: n for lane, n in by_lane.items()
                 if (lane[0], *lane[2:]) == (x["protocol"], x["faddr"], x["fport"])}
        assert (x["lanes"], x["fullest"]) == (len(lanes), max(lanes.values()))
        assert x["capacity"] == 1000 * len(lanes)
    assert list(table["fullest_lanes"][0]) == ["laddr", "faddr", "fport", "protocol", "scope", "claims",
                                               "outside", "capacity"]
    assert list(table["local_addresses"][0]) == ["laddr", "scope", "claims", "outside", "lanes", "fullest"]
    assert list(table["destinations"][0]) == ["faddr", "fport", "protocol", "scope", "claims", "outside",
                                              "lanes", "fullest", "capacity"]


def test_the_rest_of_a_table(served):
    before = int(time.time())
    steps = served.steps(skip=f"{TO}:{OTHER}")
    steps.open(TO, PORT, 700)
    steps.open(TO, OTHER, 5)
    table = details(served)
    after = int(time.time())
    assert before - 1 <= table["created"] <= after
    assert 0 <= table["age"] <= after - before + 1
    assert table["here"] is True
    header = int.from_bytes(open(table_path(served), "rb").read(16)[SLABS_AT:], "little")
    assert table["slabs"] == (os.stat(table_path(served)).st_size - header) // SLAB
    assert 2 <= table["slabs_used"] <= 700
    assert (table["ports"], table["ports_from"]) == (1000, "kernel")
    assert list(table["passed_by"]) == REASONS
    assert table["passed_by"] == dict.fromkeys(REASONS, 0) | {"skipped": 5}
    pid = steps.program.pid
    [process] = table["processes"]
    assert list(process) == ["pid", "name", "foreign", "since", "files"]
    assert (process["pid"], process["name"], process["foreign"]) == (pid, "steps", False)
    assert before - 2 <= process["since"] <= after + 1
    assert process["files"] == len(os.listdir(f"/proc/{pid}/fd"))


def test_strays_count_the_killed(served):
    steps = served.steps()
    steps.open(TO, PORT)
    before = details(served)["strays"]
    steps.program.signal()
    assert details(served)["processes"] == []
    other = served.steps()
    other.open(TO, PORT)
    assert details(served)["strays"] > before


class TestCapacity:
    """How many ports a lane can have, and claims on others."""

    @staticmethod
    def lane(table):
        [lane] = table["fullest_lanes"]
        return lane["claims"], lane["outside"], lane["capacity"]

    def test_reserved_ports_do_not_count(self, served):
        served.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40099")
        served.steps().open(TO, PORT, 3)
        assert self.lane(details(served)) == (3, 0, 900)

    def test_of_the_processes(self, served):
        """Those of all processes, whoever has the claims."""
        steps = served.steps(ports="30000-30009,40000-40009")
        steps.open(TO, PORT, 20)
        table = details(served)
        assert (table["ports"], table["ports_from"]) == (20, "processes")
        assert self.lane(table) == (20, 0, 20)
        other = served.steps(ports="30005-30014")
        other.socket()
        assert details(served)["ports"] == 25
        plain = served.steps()
        plain.socket()
        assert (details(served)["ports"], details(served)["ports_from"]) == (1015, "processes")

    def test_given(self, served):
        served.steps(ports="40000-40009").open(TO, PORT, 10)
        table = details(served, "--ports", "40000-40004,50000")
        assert (table["ports"], table["ports_from"]) == (6, "option")
        assert self.lane(table) == (10, 5, 6)
        assert details(served, "--ports", "auto/4:1")["ports"] == 250

    def test_a_rules_ports_are_told_apart(self, served):
        """A rule has ports of its own, which nothing here knows of."""
        served.steps(rules=f"{TO}:{OTHER}=127.0.0.2@50000-50009").open(TO, OTHER, 10)
        table = details(served)
        assert self.lane(table) == (10, 10, 1000)
        assert table["destinations"][0]["fullest"] == 0
        shown = "\n".join(served.status_text())
        assert "10 of them on ports that do not count" in shown

    def test_another_namespaces_kernel_is_not_known(self, served):
        elsewhere = harness.Host()
        with harness.contextlib.closing(elsewhere):
            steps = served.steps()
            steps.open(TO, PORT, 3)
            table = details(served, seen_from=elsewhere)
            assert (table["here"], table["ports"], table["ports_from"]) == (False, 0, "unknown")
            [lane] = table["fullest_lanes"]
            assert (lane["claims"], lane["outside"]) == (3, 0) and "capacity" not in lane
            assert details(served, "--ports", "1000-1999", seen_from=elsewhere)["ports"] == 1000

    def test_an_overwritten_environment_says_nothing(self, served):
        """As of a program that shows a title in ps: then it is the kernel's range."""
        code = ("import ctypes, re, socket, sys\n"
                "c = socket.create_connection(('127.0.0.1', 8001))\n"
                "stat = open('/proc/self/stat').read().rsplit(')', 1)[1].split()\n"
                "start, end = int(stat[47]), int(stat[48])\n"
                "ctypes.memset(start, ord('x'), end - start)\n"
                "print('ready', flush=True)\n"
                "sys.stdin.read()\n")
        running = served.start(harness.PYTHON, "-c", code, preload="run", ports="40000-40009")
        assert running.line() == "ready", running.errors()
        table = details(served)
        assert (table["ports"], table["ports_from"]) == (1000, "kernel")


def test_lists_are_limited(served):
    served.steps(addrs="127.0.0.2-127.0.0.7").open(TO, PORT, 12)
    table = details(served, "--lanes", "4")
    assert [len(table[kind]) for kind in ("fullest_lanes", "local_addresses", "destinations")] == [4, 4, 1]
    assert (table["lanes"], table["local_address_count"]) == (6, 6)
    assert len(details(served)["fullest_lanes"]) == 6
    assert sum("->" in line for line in served.status_text("--lanes", "2")) == 2
    assert served.status_text("--lanes", "2").count("            and 4 more") == 2
    assert not any("->" in line for line in served.status_text("--lanes", "0"))


def test_text_shows_the_same_numbers(served):
    served.set_ports(40000, 40019)
    steps = served.steps(addrs="127.0.0.2-127.0.0.3")
    steps.open(TO, PORT, 40)
    steps.open(TO, OTHER, 3)
    assert steps.connect(steps.socket(), TO, PORT) == "EADDRNOTAVAIL"
    lines = [line.split() for line in served.status_text()]
    assert lines[2][:4] == ["4", "lanes,", "43", "claims,"]
    full = [line for line in lines if "->" in line]
    assert full[:2] == [["20", "100", "%", "##########", f"127.0.0.{i}", "->", f"{TO}:{PORT}"]
                        for i in (2, 3)]
    assert full[2] in [["2", "10", "%", "#.........", f"127.0.0.{i}", "->", f"{TO}:{OTHER}"]
                       for i in (2, 3)]
    assert ["40", "100", "%", "##########", "2", f"{TO}:{PORT}"] in lines
    assert ["3", "7", "%", "#.........", "2", f"{TO}:{OTHER}"] in lines
    laddr = full[2][4]  # which one the third connection is from
    assert ["22", "2", "100", "%", laddr] in lines
    assert ["21", "2", "100", "%", {"127.0.0.2": "127.0.0.3", "127.0.0.3": "127.0.0.2"}[laddr]] in lines
    assert ["1", "full"] in [line[:2] for line in lines]
    assert [str(steps.program.pid)] in [line[:1] for line in lines if line[-1:] == ["steps"]]


def test_this_namespace_comes_first(two_hosts):
    """Whichever of the two namespaces has the lower number."""
    for host in two_hosts:
        host.steps().socket()
    for host in two_hosts:
        assert json.loads(host.must(harness.COMMAND, "status", "--json"))["tables"][0]["netns"] == host.namespace
        assert host.must(harness.COMMAND, "status").startswith(f"{harness.table_user()}.{host.namespace}\n")


def test_eighty_columns(two_hosts):
    """Also with the longest addresses, on two lines then."""
    client, server = two_hosts
    client.add_addresses(LONG + "1001/64", device="wire")
    server.add_addresses(LONG + "1002/64", device="wire")
    server.sink(f"{LONG}1002 65000")
    steps = client.steps(addrs=LONG + "1001", table="x" * 64, protocols="tcp,udp")
    steps.open(LONG + "1002", 65000, kind="v6")
    steps.open(LONG + "1002", 65000, kind="udp6")
    out = client.must(harness.COMMAND, "status", "--ports", "1-65535")
    tables = re.split(r"\n\n(?=\S)", out)
    [mine] = [table for table in tables if table.startswith("x" * 64 + "\n")]
    assert f" -> [{LONG}1002]:65000\n" in mine and f" -> [{LONG}1002]:65000 (udp)\n" in mine
    assert max(len(line) for line in mine.splitlines()) <= 80


def on_a_terminal(host, *words, **environment):
    """What a program writes on a terminal."""
    ours, theirs = pty.openpty()
    line, variables = host.command([harness.COMMAND, *words], None, environment, {})
    process = harness.subprocess.Popen(line, env=variables, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    out = b""
    try:
        while got := os.read(ours, 65536):
            out += got
    except OSError:
        pass  # its last holder has gone
    os.close(ours)
    assert process.wait(harness.LIMIT) == 0, out
    return out.decode()


def test_colours_on_a_terminal_only(served):
    served.set_ports(40000, 40009)
    steps = served.steps()
    steps.open(TO, PORT, 10)
    shown = on_a_terminal(served, "status", TERM="xterm")
    assert "\x1b[1;31m100 %" in shown
    for environment in ({"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": ""}):
        assert "\x1b" not in on_a_terminal(served, "status", **environment)
    assert "\x1b[1;31m" in on_a_terminal(served, "status", TERM="xterm", NO_COLOR="")
    assert "\x1b" not in on_a_terminal(served, "status", "--json", TERM="xterm")
    assert "\x1b" not in served.must(harness.COMMAND, "status", environment={"TERM": "xterm"})
    uncoloured = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
    assert "100 % ##########" in uncoloured


@pytest.mark.parametrize("words, said", [
    (["--details"], "--details goes with --json"),
    (["--ports", "70000"], "--ports: "),
    (["--ports"], "--ports wants a value"),
    (["--lanes", "many"], '"many" is not a number'),
])
def test_bad_options(host, words, said):
    result = host.tuplebind("status", *words)
    assert (result.code, result.out) == (125, "")
    assert result.err.count("\n") == 1 and said in result.err and "status --help" in result.err


class TestHostile:
    """What is in the table, and what it is called, is anybody's who has the same user."""

    @staticmethod
    def patch(path, offset, data):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    @staticmethod
    def live_slabs(path):
        """Offsets of the slabs in use."""
        data = open(path, "rb").read()
        [first] = struct.unpack_from("I", data, SLABS_AT)
        return [at for at in range(first, len(data), SLAB) if data[at] & 3 == 3]

    def test_a_slab_that_is_not_in_its_place_does_not_count(self, served):
        served.steps().open(TO, PORT, 3)
        path = table_path(served)
        slabs = self.live_slabs(path)
        for at in slabs:
            self.patch(path, at + 16, os.urandom(40))
        table = details(served)
        assert slabs and (table["lanes"], table["claims"], table["slabs_used"]) == (0, 0, 0)

    def test_a_slab_that_is_being_taken_over(self, served):
        """Words that are all ones are the recycler's then, no claims."""
        served.steps().open(TO, PORT, 3)
        path = table_path(served)
        [at, *_] = self.live_slabs(path)
        before = details(served)["claims"]
        claims = open(path, "rb").read()[at + 64:at + SLAB]
        empty = next(w for w in range(8) if claims[w * 8:w * 8 + 8] == bytes(8))
        self.patch(path, at + 64 + empty * 8, b"\xff" * 8)
        assert details(served)["claims"] == before + 64
        self.patch(path, at + 8, struct.pack("I", 1))
        assert details(served)["claims"] == before

    def test_noise(self, served):
        """Everything behind the identity and what it seals is noise: numbers, but numbers."""
        served.steps().open(TO, PORT, 3)
        path = table_path(served)
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            [first] = struct.unpack_from("I", file.read(16), SLABS_AT)
        for _ in range(3):
            self.patch(path, 4096, os.urandom(first - 4096))
            self.patch(path, 72, os.urandom(24))  # reaper, strays, processes_used, turns
            self.patch(path, first, os.urandom(size - first))
            for words in (["--json"], ["--json", "--details"], []):
                result = served.tuplebind("status", *words)
                assert result.code == 0, result
                if words:
                    json.loads(result.out)

    def test_a_hole_is_not_filled(self, served):
        """A large file with nothing in it is no table, and takes no memory by being looked at."""
        served.steps().open(TO, PORT, 3)
        path = table_path(served) + ".hole"
        with open(table_path(served), "rb") as file:
            head = bytearray(file.read(4096 * 128))
        [first] = struct.unpack_from("I", head, SLABS_AT)
        struct.pack_into("Q", head, SIZE_AT, 8 << 30)
        with open(path, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(head[:first])
            file.truncate(8 << 30)
        blocks = os.stat(path).st_blocks
        result = served.tuplebind("status", "--json", "--details")
        [line] = [line for line in result.err.splitlines() if path in line]
        assert result.code == 0 and "has holes" in line
        assert "hole" not in [t["name"] for t in json.loads(result.out)["tables"]]
        assert os.stat(path).st_blocks == blocks

    def test_a_name_that_breaks_json(self, served):
        served.steps().open(TO, PORT, 3)
        path = f'{table_path(served)}.a"b\\\n\x1b[31m'
        with open(table_path(served), "rb") as source, open(path, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(source.read())
        out = served.must(harness.COMMAND, "status", "--json")
        assert [t["name"] for t in json.loads(out)["tables"] if t["netns"] == served.namespace][-1] \
            .endswith("a?b???[31m")
        assert "\x1b" not in served.must(harness.COMMAND, "status")
