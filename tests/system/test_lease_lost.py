"""Leases that are lost, parts that are given back, and the tuples: no two hosts have one at a time."""

import contextlib
import ctypes
import http.server
import json
import os
import random
import signal
import threading
import time

import harness
import leasing
import pytest
import storms
from test_lease import READY, refused
from test_lease_process import given_back, lives

# Answers SIGTERM as told, and writes down until when it lived.
STAMPS = """
import signal, sys, time
def stop(*_):
    print("asked to stop", flush=True)
    sys.argv[2] == "obeys" and sys.exit(0)
signal.signal(signal.SIGTERM, stop)
with open(sys.argv[1], "w") as file:
    print("ready", flush=True)
    while True:
        file.seek(0)
        file.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.3f} ")
        file.flush()
        time.sleep(0.01)
"""

TO, PORT = "10.8.0.9", 8001


@pytest.fixture
def one(tmp_path):
    with leasing.ground(tmp_path) as made:
        yield made


@pytest.fixture
def two(tmp_path):
    with leasing.ground(tmp_path, 2) as made:
        yield made


def lines(running, what):
    return [line for line in running.errors().splitlines() if what in line]


def told(running, what, count=1):
    harness.eventually(lambda: len(lines(running, what)) >= count)
    assert len(lines(running, what)) == count, running.errors()


# Given back, or left to run out.

def test_sockets_that_linger_keep_the_part(one):
    """A tuple in TIME_WAIT is not to be another host's, however short the TTL was."""
    etcd, host = one
    storms.echo(host, f"127.0.0.1 {PORT}")
    result = leasing.lease(host, "--ports", "auto/4", "--log", "info",
                           harness.program("churn"), "127.0.0.1", PORT, 20, 20, ttl=5)
    assert json.loads(result.out)["done"] == 20
    assert "20 sockets linger" in result.err
    [(_, key)] = [item for item in etcd.keys("web").items() if item[0] != "count"]
    assert etcd.leases() == [key.lease] and etcd.seconds_left(key.lease) > 50


@pytest.mark.parametrize("kind, lingers", [("listener", False), ("connected", True), ("other part", False),
                                           ("udp listener", False), ("udp connected", True)])
def test_sockets_of_others(one, kind, lingers):
    """What any program has on the part's ports counts, but for listeners."""
    etcd, host = one
    host.sink(f"127.0.0.1 {PORT}")
    running = leasing.start_lease(host, "--ports", "40000-40007/2", *READY)
    [part] = etcd.parts("web")
    port = 40000 + (part - 1 if kind != "other part" else 2 - part)
    script = f"""
import socket, sys
udp = {kind.startswith("udp")}
s = socket.socket(type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
s.bind(("127.0.0.1", {port}))
if {"listener" not in kind}: s.connect(("127.0.0.1", {PORT}))
elif not udp: s.listen()
print("ready", flush=True)
sys.stdin.read()
"""
    stranger = host.start(harness.PYTHON, "-c", script)
    assert stranger.line() == "ready", stranger.errors()
    assert running.end() == 0
    assert etcd.parts("web") == ([part] if lingers else [])


def test_given_back_while_etcd_is_away(one):
    """The end is not held up for long, and what is left in etcd runs out."""
    etcd, host = one
    running = leasing.start_lease(host, *READY, ttl=5)
    etcd.running.signal(signal.SIGSTOP)
    assert running.end() == 0
    told(running, "event=lease-not-given-back")
    etcd.running.signal(signal.SIGCONT)
    given_back(etcd)


# Lost.

def test_etcd_forgets(one):
    """Not strict: told, the program goes on, and has the same part again."""
    etcd, host = one
    running = leasing.start_lease(host, "--ports", "auto/8", *READY, ttl=6)
    program, parts = leasing.program_of(running), etcd.parts("web")
    etcd.forget()
    told(running, "error: event=lease-lost")
    assert "event=lease-lost" in running.errors() and "goes on" in running.errors()
    told(running, "event=lease-regained")
    assert etcd.parts("web") == parts and lives(program)
    assert etcd.keys("web")["count"].value == "8"
    assert running.end() == 0
    given_back(etcd)


def test_part_is_another_ones_now(one):
    """Not taken from him; said once, and taken when he has left."""
    etcd, host = one
    running = leasing.start_lease(host, "--ports", "auto/8", *READY, ttl=5)
    [part] = etcd.parts("web")
    key = f"/tuplebind/web/parts/{part}"
    etcd.put(key, '{"host":"other","pid":7}')
    told(running, "event=lease-lost")
    told(running, f"{part} by other (pid 7)")
    time.sleep(3)  # several attempts
    told(running, f"{part} by other (pid 7)")
    assert etcd.keys("web")[f"parts/{part}"].lease == 0
    etcd.delete(key)
    told(running, "event=lease-regained")
    assert running.end() == 0
    given_back(etcd)


def test_number_of_parts_is_another_now(one):
    etcd, host = one
    running = leasing.start_lease(host, "--ports", "auto/8", *READY, ttl=5)
    etcd.delete(f"/tuplebind/web/parts/{etcd.parts('web')[0]}")
    etcd.put("/tuplebind/web/count", "4")
    told(running, "4 parts, not 8")
    time.sleep(1)
    told(running, "4 parts, not 8")
    assert running.end() == 0
    given_back(etcd)


@pytest.mark.parametrize("how", ["hangs", "is down"])
def test_etcd_is_away(one, tmp_path, how):
    etcd, host = one
    running = leasing.start_lease(host, *READY, ttl=5, log_file=tmp_path / "log")
    [part] = etcd.parts("web")
    if how == "hangs":
        etcd.running.signal(signal.SIGSTOP)
    else:
        etcd.kill()
    log = tmp_path / "log"
    harness.eventually(lambda: 'reason="not renewed for 3 s: ' in log.read_text())
    if how == "hangs":
        etcd.running.signal(signal.SIGCONT)
    else:
        etcd.start()
    harness.eventually(lambda: "event=lease-regained" in log.read_text())
    assert etcd.parts("web") == [part]
    assert log.read_text().count("error: ") == 1 and running.errors() == ""
    assert running.end() == 0
    given_back(etcd)


def test_short_absence_is_no_loss(one):
    etcd, host = one
    running = leasing.start_lease(host, *READY, ttl=15, log="info")
    before = etcd.leases()
    etcd.kill()
    harness.eventually(lambda: lines(running, "event=lease-not-renewed"))
    etcd.start()
    harness.eventually(lambda: etcd.seconds_left(before[0]) < 13)
    harness.eventually(lambda: etcd.seconds_left(before[0]) >= 13)
    assert etcd.leases() == before and not lines(running, "error: ")
    assert running.end() == 0


@pytest.mark.parametrize("how", ["obeys", "does not"])
def test_strict_stops_before_the_lease_runs_out(one, tmp_path, how):
    etcd, host = one
    ttl = 12
    stamps = tmp_path / "stamps"
    running = leasing.start_lease(host, "--strict", harness.PYTHON, "-c", STAMPS, stamps, how, ttl=ttl)
    etcd.running.signal(signal.SIGSTOP)
    stopped = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert running.wait() == 125
    assert running.line() == "asked to stop"
    # What etcd granted last it did before it was stopped.
    last = float(stamps.read_text().split()[0])
    assert last < stopped + ttl
    if how != "obeys":
        assert last > stopped + ttl / 3, "it was not given its time"
    told(running, "event=lease-lost")
    assert "TUPLEBIND_STRICT" in running.errors()


def test_strict_stops_when_etcd_forgets(one):
    etcd, host = one
    running = leasing.start_lease(host, "--strict", "sh", "-c", "sleep 1000 & echo ready; wait", ttl=5)
    [descendant] = leasing.children(leasing.program_of(running))
    etcd.forget()
    assert running.wait() == 125
    harness.eventually(lambda: not lives(descendant))
    assert etcd.leases() == []


# Servers that are no etcd, or not the one they were.

def serve(host, handler):
    """An HTTP server on the host of a test, run by this process."""
    namespace = os.open(f"/proc/{host.anchor.pid}/ns/net", os.O_RDONLY)
    made = []

    def run():
        assert ctypes.CDLL(None).setns(namespace, 0) == 0  # os.setns() is Python 3.12's
        made.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        made[0].serve_forever(poll_interval=0.05)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    harness.eventually(lambda: made)
    os.close(namespace)
    return made[0], thread


class Junk(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        for_head, body = self.server.answer
        self.wfile.write(b"HTTP/1.1 " + for_head + b"\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            for chunk in body if not isinstance(body, bytes) else [body]:
                self.wfile.write(chunk)
        self.close_connection = True

    def log_message(self, *_):
        pass


HEADER = b'"header":{"revision":"1"}'
LONG = [b" " * 65536] * 1000


@pytest.mark.parametrize("head, body, part", [
    (b"200 OK", b"", "not etcd's JSON"),
    (b"200 OK", b"<html>\x1b[31m\r\n", "<html>"),
    (b"200 OK", b"[]", "not etcd's JSON"),
    (b"200 OK", b"{", "not etcd's JSON"),
    (b"200 OK", b"[" * 100000, "not etcd's JSON"),
    (b"200 OK", b"{}", "but not etcd's"),
    (b"200 OK", b'{"result":7}', "but not etcd's"),
    (b"200 OK", b"{" + HEADER + b"}", "does not stay written"),
    (b"200 OK", b"{" + HEADER + b',"kvs":7}', "does not stay written"),
    (b"200 OK", b"{" + HEADER + b',"kvs":[7,{},{"key":7},{"key":"!"},{"key":"////","value":{}}]}',
     "does not stay written"),
    (b"200 OK", b"{" + HEADER + b',"kvs":[{"key":"L3R1cGxlYmluZC93ZWIvY291bnQ=","value":"OA=="}]}', "lease"),
    (b"200 OK", LONG, "too long"),
    (b"302 Found\r\nLocation: http://127.0.0.1:2379/", b"{}", "HTTP 302"),
    (b"400 Bad Request", b'{"error":"etcdserver: user name is empty","code":3}', "user name is empty"),
    (b"404 Not Found", b"Not Found\n", "HTTP 404"),
    (b"500 Oops", b'{"error":{"x":1}}', "HTTP 500"),
], ids=lambda value: value.decode(errors="replace")[:30] if isinstance(value, bytes) else "")
def test_junk(host, head, body, part):
    server, thread = serve(host, Junk)
    server.answer = head, body
    try:
        url = f"etcd://127.0.0.1:{server.server_port}/web"
        refused(host.run(harness.COMMAND, "run", "--lease", url, "echo", "ran"), part)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Relay(http.server.BaseHTTPRequestHandler):
    """Hands on to etcd, but not all."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = self.path.split("/v3/")[1]
        is_part = asked == "kv/txn" and leasing.encode("/tuplebind/web/parts/")[:24] in body.split("success")[-1]
        answer = json.dumps(self.server.etcd.call(asked, **json.loads(body), may_fail=False)).encode()
        if is_part and not self.server.spoilt:
            self.server.spoilt = True
            answer = b"spoilt"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_answer_is_lost(one):
    """The part may have been taken and may not: either way nothing is left."""
    etcd, host = one
    server, thread = serve(host, Relay)
    server.etcd, server.spoilt = etcd, False
    try:
        url = f"etcd://127.0.0.1:{server.server_port}/web"
        refused(host.run(harness.COMMAND, "run", "--lease", url, "echo", "ran"), "spoilt")
        assert server.spoilt and etcd.leases() == [] and etcd.parts("web") == []
        assert host.run(harness.COMMAND, "run", "--lease", url, "echo", "ran").out == "ran\n"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nobody_there(host):
    refused(host.run(harness.COMMAND, "run", "--lease", "etcd://127.0.0.1/web", "echo", "ran"),
            "http://127.0.0.1:2379")
    refused(host.run(harness.COMMAND, "run", "--lease", "etcd://no-such-host.invalid/web", "echo", "ran"),
            "no-such-host.invalid")


def test_nobody_answers(host):
    """A server that accepts and is silent costs some seconds, no more."""
    host.sink("127.0.0.1 2379")
    refused(host.run(harness.COMMAND, "run", "--lease", "etcd://127.0.0.1/web", "--lease-ttl", "5", "echo", "ran"),
            "http://127.0.0.1:2379")


# The tuples.

class Watch:
    """Looks at the tuples of several hosts that share an address for as long as it runs.

    A tuple counts as shared when one host has it before and after it was seen on another.
    """

    def __init__(self, *hosts):
        self.hosts = hosts
        self.shared, self.rounds, self.seen = set(), 0, [0] * len(hosts)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def look(self, host):
        return set(host.tuples(PORT))

    def run(self):
        before = self.look(self.hosts[0])
        while not self.over.is_set():
            other = self.look(self.hosts[1])
            after = self.look(self.hosts[0])
            self.shared |= before & other & after
            self.seen = [self.seen[0] + len(after), self.seen[1] + len(other)]
            self.rounds += 1
            before = after

    def end(self):
        self.over.set()
        self.thread.join()
        assert self.rounds > 3 and min(self.seen) > 0, (self.rounds, self.seen)
        return self.shared


def start_full(host, *options):
    """A program that opens every connection to TO it can and keeps them. (How many it was given)"""
    running = host.start(*leasing.words(host, "--ports", "auto/32", "--addrs", leasing.SHARED, "--strict", *options,
                                        harness.program("seed"), "--hold", TO, PORT, 100000, ttl=6))
    return running


def served(host):
    host.add_addresses(TO)
    host.sink(f"{TO} {PORT}")


def test_shared_without_parts(two):
    """What the leases are for: full hosts that share an address have the same tuples."""
    _, host, other = two
    for each in host, other:
        served(each)
        each.seed(TO, PORT, 2000, addrs=leasing.SHARED)
    assert len(set(host.tuples(PORT)) & set(other.tuples(PORT))) == len(host.ports)


def test_no_tuple_is_shared(two):
    """Full hosts, started, ended, killed and cut off from etcd at random."""
    etcd, host, other = two
    for each in host, other:
        served(each)
    watch = Watch(host, other)
    fates, running = random.Random(7), {}
    try:
        for turn in range(storms.sized(12, 120)):
            for each in host, other:
                if each not in running or running[each].process.poll() is not None:
                    running[each] = start_full(each)
                    line = running[each].line()
                    # All parts may linger for a minute.
                    assert line is not None or "are taken" in running[each].errors(), running[each].errors()
            victim = running[fates.choice([host, other])]
            fate = fates.choice(["end", "front", "keeper", "etcd"]) if turn else "etcd"
            if victim.process.poll() is not None:
                continue
            if fate == "end":
                victim.end()
            elif fate == "front":
                victim.signal()
            elif fate == "keeper":
                os.kill(leasing.keeper_of(victim), signal.SIGKILL)
                victim.wait()
            else:
                etcd.running.signal(signal.SIGSTOP)
                assert victim.wait() == 125
                etcd.running.signal(signal.SIGCONT)
    finally:
        shared = watch.end()
    assert shared == set()
