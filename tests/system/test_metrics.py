"""`tuplebind metrics`: a real parser reads it, its numbers are the kernel's, and what goes with it (units of
systemd, alerts, dashboard) speaks of metrics that there are."""

import json
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import threading

import harness
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

TO, PORT, OTHER = "127.0.0.1", 8001, 8002
DIST = harness.REPOSITORY / "dist"
COUNTERS = ["bound", "late", "explicit", "timewait_reused", "retries", "full", "passed", "reaped", "table_full"]


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}", f"{TO} {OTHER}", f"::1 {PORT}")
    return host


def parse(text):
    """{name: [(labels, value)]}; the parser refuses doubles, wrong types and wrong order."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def of(host, text, table=None):
    """The samples of this host's one table: {name: [(other labels, value)]}."""
    wanted = table or f"{harness.table_user()}.{host.namespace}"
    mine = {}
    for name, samples in parse(text).items():
        for labels, value in samples:
            if labels.get("table") == wanted:
                mine.setdefault(name, []).append(({k: v for k, v in labels.items() if k != "table"}, value))
    return mine


def metrics(host, *words, **options):
    return of(host, host.must(harness.COMMAND, "metrics", *words), **options)


def one(samples, name):
    [(labels, value)] = samples["tuplebind_" + name]
    assert labels == {}
    return value


def test_numbers(served):
    """The same as the kernel's sockets, and as status --json."""
    steps = served.steps(addrs="127.0.0.2-127.0.0.3,::1", protocols="tcp,udp", skip=f"{TO}:{OTHER}")
    steps.open(TO, PORT, 20)
    steps.open("::1", PORT, 3, kind="v6")
    steps.open(TO, PORT, 2, kind="udp")
    steps.open(TO, OTHER, 5)
    got = metrics(served)
    sockets = [(protocol, t) for protocol in ("tcp", "udp") for t in served.tuples(PORT, protocol=protocol)]
    assert one(got, "claims") == len(sockets) == 25
    status = served.status()
    assert one(got, "lanes") == status["lanes"]
    assert one(got, "processes") == 1
    assert one(got, "table_size_bytes") == status["size"]
    for counter in COUNTERS:
        assert one(got, f"{counter}_total") == status["counters"][counter]
    assert {labels["reason"]: value for labels, value in got["tuplebind_passed_by_total"]} == \
        dict.fromkeys(["bound", "special", "namespace", "helpless", "full"], 0) | {"skipped": 5}
    assert got["tuplebind_ports"] == [({"from": "kernel"}, 1000)]
    lanes = {}
    for protocol, t in sockets:
        endpoint = f"[{t.faddr}]:{t.fport}" if ":" in t.faddr else f"{t.faddr}:{t.fport}"
        lanes[t.laddr, endpoint, protocol] = lanes.get((t.laddr, endpoint, protocol), 0) + 1
    assert {(x["laddr"], x["destination"], x["protocol"]): value
            for x, value in got["tuplebind_lane_claims"]} == lanes
    assert {(x["laddr"], x["destination"], x["protocol"]): value
            for x, value in got["tuplebind_lane_fill_ratio"]} == {lane: n / 1000 for lane, n in lanes.items()}
    for laddr in {lane[0] for lane in lanes}:
        mine = [n for lane, n in lanes.items() if lane[0] == laddr]
        labels = {"laddr": laddr}
        assert (labels, sum(mine)) in got["tuplebind_local_address_claims"]
        assert (labels, len(mine)) in got["tuplebind_local_address_lanes"]
        assert (labels, max(mine) / 1000) in got["tuplebind_local_address_fill_ratio"]
    for destination in {lane[1:] for lane in lanes}:
        mine = [n for lane, n in lanes.items() if lane[1:] == destination]
        labels = dict(zip(("destination", "protocol"), destination))
        assert (labels, sum(mine)) in got["tuplebind_destination_claims"]
        assert (labels, len(mine)) in got["tuplebind_destination_lanes"]
        assert (labels, sum(mine) // len(mine) / 1000) in \
            [(x, int(v * 1000) / 1000) for x, v in got["tuplebind_destination_fill_ratio"]]
    assert one(got, "local_addresses") == len({lane[0] for lane in lanes})
    assert one(got, "destinations") == len({lane[1:] for lane in lanes})


def test_bounded(served):
    """The fullest of each, not those with most claims; how many there are shows all the same."""
    served.sink(*(f"127.0.0.1 {port}" for port in range(9000, 9030)))
    served.set_ports(40000, 40009)
    wide = served.steps(addrs="127.0.1.1-127.0.1.60")
    wide.open(TO, PORT, 180)
    for port in range(9000, 9030):
        wide.open(TO, port, 1)
    narrow = served.steps(addrs="127.0.0.2")
    narrow.open(TO, OTHER, 10)
    got = metrics(served)
    assert (len(got["tuplebind_lane_claims"]), one(got, "lanes")) == (20, 91)
    assert (len(got["tuplebind_local_address_claims"]), one(got, "local_addresses")) == (50, 61)
    assert (len(got["tuplebind_destination_claims"]), one(got, "destinations")) == (20, 32)
    got = metrics(served, "--lanes", "1", "--addresses", "1", "--destinations", "1")
    full = {"destination": f"{TO}:{OTHER}", "protocol": "tcp"}
    assert got["tuplebind_lane_fill_ratio"] == [({"laddr": "127.0.0.2"} | full, 1)]
    assert got["tuplebind_local_address_fill_ratio"] == [({"laddr": "127.0.0.2"}, 1)]
    assert got["tuplebind_destination_fill_ratio"] == [(full, 1)]
    got = metrics(served, "--lanes", "0", "--addresses", "0", "--destinations", "0")
    assert not any(name.startswith(("tuplebind_lane_", "tuplebind_local_address_", "tuplebind_destination_"))
                   for name in got)


def test_another_namespaces_ports_are_not_guessed(served):
    with harness.contextlib.closing(harness.Host()) as elsewhere:
        served.steps().open(TO, PORT, 3)
        got = of(served, elsewhere.must(harness.COMMAND, "metrics"))
        assert "tuplebind_ports" not in got and "tuplebind_lane_fill_ratio" not in got
        assert got["tuplebind_lane_claims"][0][1] == 3


def test_no_tables(host, tmp_path):
    """Whatever tables others have: it parses, and none of it is ours."""
    assert metrics(host) == {}
    assert "tuplebind_tables" in parse(host.must(harness.COMMAND, "metrics"))


def test_names_do_not_break_it(served):
    """Two names that look alike are two tables."""
    served.steps().open(TO, PORT, 3)
    [path] = served.tables()
    data = open(path, "rb").read()
    for name in ('a"b', "a\\b", "a\nb", "a\x01b", "ä%b"):
        with open(f"{path}.{name}", "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
    text = served.must(harness.COMMAND, "metrics")
    ids = {labels["table"] for labels, _ in parse(text)["tuplebind_claims"]
           if labels["table"].startswith(f"{harness.table_user()}.{served.namespace}.")}
    assert {i.split(".")[-1] for i in ids} == {"a%22b", "a%5Cb", "a%0Ab", "a%01b", "%C3%A4%25b"}


def test_noise(served):
    """Numbers that a table of noise has are still one sample each."""
    served.steps().open(TO, PORT, 3)
    [path] = served.tables()
    with open(path, "r+b") as file:
        [first] = struct.unpack("I", file.read(16)[12:])
        file.seek(4096)
        file.write(os.urandom(first - 4096))
        file.seek(first)
        file.write(os.urandom(os.stat(path).st_size - first))
    assert one(metrics(served), "claims") == 0


def test_unreadable_tables_are_counted(served):
    before = parse(served.tuplebind("metrics").out)["tuplebind_tables_unreadable"][0][1]
    served.steps().open(TO, PORT)
    with open(served.tables()[0] + ".none", "w") as file:
        file.write("x" * 1000)
        os.fchmod(file.fileno(), 0o600)
    result = served.tuplebind("metrics")
    assert result.code == 0
    assert parse(result.out)["tuplebind_tables_unreadable"][0][1] > before - 1
    assert sum(f".{served.namespace}.none" in line for line in result.err.splitlines()) == 1


class TestFile:
    """--output, for the textfile collector."""

    def test_replaced_in_one_step(self, served, tmp_path):
        """A reader never meets half a file."""
        served.steps().open(TO, PORT, 3)
        file = tmp_path / "tuplebind.prom"
        served.must(harness.COMMAND, "metrics", "--output", file)
        first = file.open()
        assert one(of(served, file.read_text()), "claims") == 3
        seen, stop = [], threading.Event()

        def read():
            while not stop.is_set():
                seen.append(file.read_text().endswith("# EOF\n"))

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            assert served.must(harness.COMMAND, "metrics", "--output", file) == ""
        stop.set()
        reader.join()
        assert seen and all(seen)
        assert os.fstat(first.fileno()).st_ino != file.stat().st_ino  # held open: its number is not given anew
        assert os.listdir(tmp_path) == ["tuplebind.prom"]

    def test_rights(self, served, tmp_path):
        """As of any new file: node_exporter is another user."""
        file = tmp_path / "tuplebind.prom"
        for mask, mode in (("022", 0o644), ("077", 0o600)):
            served.must("sh", "-c", f'umask {mask}; "$0" metrics --output "$1"', harness.COMMAND, file)
            assert stat.S_IMODE(file.stat().st_mode) == mode

    def test_node_exporter_can_read_it(self, served, tmp_path):
        """It knows the older text format only: no types but these, no exemplars, no timestamps."""
        served.steps().open(TO, PORT, 3)
        file = tmp_path / "tuplebind.prom"
        served.must(harness.COMMAND, "metrics", "--output", file)
        text = file.read_text()
        assert set(re.findall(r"^# TYPE \S+ (\S+)$", text, re.MULTILINE)) == {"counter", "gauge"}
        assert all(line.startswith(("# TYPE ", "# HELP ", "tuplebind_")) or line == "# EOF"
                   for line in text.splitlines())
        assert all(len(line.rsplit("}", 1)[-1].split()) <= 2 for line in text.splitlines()
                   if line.startswith("tuplebind_"))
        if shutil.which("promtool") is not None:  # which has node_exporter's parser
            done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                                  timeout=harness.LIMIT, text=True, check=False)
            assert "error" not in done.stderr + done.stdout, done

    def test_nowhere_to_write(self, served, tmp_path):
        result = served.tuplebind("metrics", "--output", tmp_path / "none" / "x.prom")
        assert (result.code, result.out) == (125, "")
        assert [line for line in result.err.splitlines() if "--output" in line] == [
            f"tuplebind: metrics: --output {tmp_path}/none/x.prom: No such file or directory; its folder must "
            "exist and be writable"]

    def test_a_full_disk_leaves_the_old_file(self, served, tmp_path):
        file = tmp_path / "small" / "x.prom"
        file.parent.mkdir()
        done = served.run("unshare", "--mount", "sh", "-c",
                          'mount -t tmpfs -o size=4k none "$1" && echo old >"$1/x.prom" && '
                          '"$0" metrics --output "$1/x.prom"; echo $? $(ls "$1") $(cat "$1/x.prom")',
                          harness.COMMAND, file.parent)
        assert done.out == "125 x.prom old\n", done
        assert "No space left" in done.err


class TestHttp:
    """--http, as systemd starts it: one connection on stdin and stdout."""

    @staticmethod
    def serve(host):
        """A connection to a `metrics --http` of its own, and that program."""
        ours, theirs = socket.socketpair()
        line, environment = host.command([harness.COMMAND, "metrics", "--http"], None, None, {})
        running = subprocess.Popen(line, env=environment, stdin=theirs, stdout=theirs,
                                   stderr=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(harness.LIMIT)
        return ours, running

    def ask(self, host, request, wait=True):
        """(status line, headers, body)"""
        ours, running = self.serve(host)
        with ours:
            ours.sendall(request)
            got = b""
            while part := ours.recv(65536):
                got += part
        assert running.wait(harness.LIMIT) == 0
        head, body = got.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert headers["Connection"] == "close"
        return first, headers, body.decode()

    def test_get(self, served):
        served.steps().open(TO, PORT, 3)
        for target in (b"/metrics", b"/", b"/metrics?x=y"):
            first, headers, body = self.ask(served, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first == "HTTP/1.1 200 OK"
            assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
            assert int(headers["Content-Length"]) == len(body)
            assert one(of(served, body), "claims") == 3

    def test_head(self, served):
        first, headers, body = self.ask(served, b"HEAD /metrics HTTP/1.0\r\n\r\n")
        assert (first, body) == ("HTTP/1.1 200 OK", "") and int(headers["Content-Length"]) > 100

    @pytest.mark.parametrize("request_bytes, status", [
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xff" + b"\x00" * 100 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20000 + b"\r\n\r\n", 431),
        (b"G" * 8192, 431),
    ], ids=["path", "method", "no version", "no slash", "nothing", "noise", "long", "no end"])
    def test_refused(self, served, request_bytes, status):
        first, headers, body = self.ask(served, request_bytes)
        assert first.startswith(f"HTTP/1.1 {status} ")
        assert headers["Content-Type"] == "text/plain" and len(body) == int(headers["Content-Length"])

    def test_who_says_nothing_is_not_waited_for(self, served):
        first, _, _ = self.ask(served, b"GET /metr")
        assert first.startswith("HTTP/1.1 408 ")

    def test_who_goes_is_no_failure(self, served):
        ours, running = self.serve(served)
        ours.close()
        assert running.wait(harness.LIMIT) == 0

    def test_who_does_not_read_is_not_waited_for(self, served):
        """A socket that takes nothing more: given up, not hung on."""
        ours, theirs = socket.socketpair()
        with ours:
            theirs.setblocking(False)
            with harness.contextlib.suppress(BlockingIOError):
                while True:
                    theirs.send(b"x" * 65536)
            theirs.setblocking(True)
            line, environment = served.command([harness.COMMAND, "metrics", "--http"], None, None, {})
            running = subprocess.Popen(line, env=environment, stdin=theirs, stdout=theirs,
                                       stderr=subprocess.DEVNULL)
            theirs.close()
            ours.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert running.wait(harness.LIMIT) == 0

    def test_curl(self, served):
        """Through an inetd, as of systemd's units."""
        served.steps().open(TO, PORT, 3)
        served.start("socat", f"TCP-LISTEN:9477,bind={TO},reuseaddr,fork", f"EXEC:{harness.COMMAND} metrics --http")
        harness.eventually(lambda: served.run("curl", "-sf", f"http://{TO}:9477/metrics").code == 0)
        got = of(served, served.must("curl", "-sf", f"http://{TO}:9477/metrics"))
        assert one(got, "claims") == 3


@pytest.mark.parametrize("words, said", [
    (["--http", "--output", "x"], "--output and --http do not go together"),
    (["--lanes", "x"], '--lanes: "x" is not a number'),
    (["--addresses", "-1"], '--addresses: "-1" is not a number'),
    (["--destinations"], "--destinations wants a value"),
    (["--ports", "0"], "--ports: "),
    (["much"], '"much" is too much'),
])
def test_bad_options(host, words, said):
    result = host.tuplebind("metrics", *words)
    assert (result.code, result.out) == (125, "")
    assert result.err.count("\n") == 1 and said in result.err and "metrics --help" in result.err


def test_stdout_that_takes_nothing(host):
    result = host.run("sh", "-c", '"$0" metrics >/dev/full', harness.COMMAND)
    assert result.code == 125
    assert "tuplebind: metrics: No space left on device" in result.err


class TestWhatGoesWithIt:
    """dist/: of metrics that there are."""

    @pytest.fixture
    def names(self, served):
        served.steps().open(TO, PORT, 3)
        return set(metrics(served)) | set(parse(served.must(harness.COMMAND, "metrics")))

    def test_dashboard(self, names):
        board = json.loads((DIST / "monitoring" / "tuplebind-dashboard.json").read_text())
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 5
        asked = {name for panel in board["panels"] for target in panel["targets"]
                 for name in re.findall(r"tuplebind_\w+", target["expr"])}
        asked |= set(re.findall(r"tuplebind_\w+", json.dumps(board["templating"])))
        assert len(asked) > 10 and asked <= names
        spots = [(p["gridPos"]["x"] + dx, p["gridPos"]["y"] + dy) for p in board["panels"]
                 for dx in range(p["gridPos"]["w"]) for dy in range(p["gridPos"]["h"])]
        assert len(spots) == len(set(spots)) and max(x for x, _ in spots) < 24

    def test_alerts(self, names):
        rules = yaml.safe_load((DIST / "monitoring" / "tuplebind-alerts.yml").read_text())
        asked = {name for group in rules["groups"] for rule in group["rules"]
                 for name in re.findall(r"tuplebind_\w+", rule["expr"])}
        assert asked and asked <= names

    def test_alerts_fire_when_they_should(self):
        if shutil.which("promtool") is None:
            pytest.skip("promtool is not installed (scripts/test --programs)")
        for words in (["check", "rules", "tuplebind-alerts.yml"], ["test", "rules", "tuplebind-alerts-test.yml"]):
            done = subprocess.run(["promtool", *words], cwd=DIST / "monitoring", capture_output=True,
                                  timeout=harness.LIMIT, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    def test_units(self, tmp_path):
        """systemd takes them; only the command stands elsewhere here."""
        units = [tmp_path / unit.name.replace("@", "@1") for unit in (DIST / "systemd").glob("tuplebind-metrics*")]
        assert len(units) == 4
        for unit in (DIST / "systemd").glob("tuplebind-metrics*"):
            text = unit.read_text().replace("/usr/local/bin/tuplebind", str(harness.COMMAND))
            (tmp_path / unit.name).write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *(tmp_path / u.name for u in
                                                              (DIST / "systemd").glob("tuplebind-metrics*"))],
                              capture_output=True, timeout=harness.LIMIT, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "tuplebind" in line]
        assert done.returncode == 0 and ours == [], done.stderr

    def test_documented(self, names):
        text = (harness.REPOSITORY / "docs" / "metrics.md").read_text()
        told = {f"tuplebind_{name}" for name in re.findall(r"`tuplebind_(\w+)`", text)}
        assert told == names
