"""The destination that connect() is given is not the tuple's: a program of a control group sends it elsewhere.

That is how the socket load balancer of a Kubernetes node works: many service addresses, few backends. The kernel's
tuples are to the backend; so must the table's claims be, or be none.
"""

import contextlib
import os
import tempfile
import time

import harness
import pytest

TO, PORT = "10.1.0.1", 8001
SERVICES = "10.96.0.0"  # /24


def mounted_cgroups():
    """A cgroup2 file system, if there is one that can be written to."""
    with open("/proc/mounts", encoding="ascii") as mounts:
        for line in mounts:
            _, folder, kind, *_ = line.split()
            if kind == "cgroup2" and os.access(folder, os.W_OK):
                return folder
    pytest.skip("no cgroup2 file system that can be written to")


@pytest.fixture
def group():
    folder = tempfile.mkdtemp(prefix="tuplebind-test-", dir=mounted_cgroups())
    yield folder
    deadline = time.monotonic() + harness.LIMIT
    while True:  # a process that has ended may be in it still
        try:
            return os.rmdir(folder)
        except OSError:
            assert time.monotonic() < deadline, folder
            time.sleep(0.01)


@pytest.fixture
def host():
    with contextlib.closing(harness.Host(ports=(40000, 40099))) as made:
        made.add_addresses(TO, "10.1.0.8", "10.1.0.9", "fd00::1", "fd00::8")
        made.must("ip", "route", "add", "local", "10.96.0.0/24", "dev", "lo")
        made.must("ip", "-6", "route", "add", "local", "fd96::/96", "dev", "lo")
        made.sink(f"{TO} {PORT}", f"fd00::1 {PORT}")
        yield made


def redirected(group, *argv, v6=False):
    words = [harness.program("redirect"), group]
    words += ["fd96::", 96, "fd00::1", PORT] if v6 else [SERVICES, 24, TO, PORT]
    return [*words, *argv]


def python(host, group, text, preload="run", v6=False, **settings):
    result = host.run(*redirected(group, harness.COMMAND, "run", "--", harness.PYTHON, "-c", text, v6=v6)
                      if preload else redirected(group, harness.PYTHON, "-c", text, v6=v6),
                      environment=harness.variables(settings) | {"PYTHONUNBUFFERED": "1"})
    if result.code == 77:
        pytest.skip(result.err)
    assert result.code == 0, result
    return result


CHURN = """
import collections, errno, random, socket
random.seed(1)
keep, answers = [], collections.Counter()
for i in range(600):
    if len(keep) >= 80: # of 100 ports
        keep.pop(random.randrange(len(keep))).close()
    s = socket.socket(FAMILY)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0") # no TIME_WAIT
    answer = s.connect_ex((SERVICE % random.randrange(1, 21), 80))
    answers[errno.errorcode.get(answer, answer)] += 1
    if answer == 0:
        keep.append(s)
print(dict(answers), sorted({s.getsockname()[0] for s in keep}), {s.getpeername()[:2] for s in keep})
"""


def churn(v6):
    return CHURN.replace("FAMILY", "socket.AF_INET6" if v6 else "socket.AF_INET") \
                .replace("SERVICE", "'fd96::%x'" if v6 else "'10.96.0.%d'")


@pytest.mark.parametrize("settings", [{}, {"backend": "explicit"}, {"ports": "auto/1:1"}, {"ports": "40000-40099"}],
                         ids=["late", "explicit", "part", "ports"])
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_many_services_and_one_backend(host, group, v6, settings):
    """No connect fails while the backend has a tuple free, and each leaves from where it does without tuplebind."""
    plain = python(host, group, churn(v6), preload=None, v6=v6)
    ours = python(host, group, churn(v6), v6=v6, **settings)
    assert ours.out == plain.out and plain.out.startswith("{0: 600}"), (ours, plain)


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_many_services_from_a_pool(host, group, v6):
    pool = "fd00::8" if v6 else "10.1.0.8-10.1.0.9"
    ours = python(host, group, churn(v6), v6=v6, addrs=pool)
    assert ours.out.startswith("{0: 600}"), ours
    assert ("['fd00::8']" if v6 else "['10.1.0.8', '10.1.0.9']") in ours.out, ours


HOLD = """
import socket, sys
keep = [socket.create_connection(("10.96.0.%d" % (1 + i % 20), 80)) for i in range(50)]
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_claims_are_those_of_the_backend(host, group, backend):
    """So reap leaves them, and nobody else is given the tuple; closed, they are given back."""
    running = host.start(*redirected(group, harness.COMMAND, "run", "--", harness.PYTHON, "-c", HOLD),
                         environment=harness.variables({"backend": backend}))
    line = running.line()
    if line is None and running.wait() == 77:
        pytest.skip(running.errors())
    assert line == "held", running.errors()
    host.reap()
    assert host.claims() == host.tuples(PORT) and len(host.claims()) == 50
    assert {t.faddr for t in host.claims()} == {TO}
    assert running.end() == 0
    host.reap()
    assert host.claims() == []


UDP = """
import errno, socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.1.0.1", 8001))
server.settimeout(5)
keep = []
for i in range(60):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("10.96.0.%d" % (1 + i % 20), 80))
    s.settimeout(5)
    keep.append(s)
for s in keep[:20]: # to another service, with the same backend
    s.connect(("10.96.0.99", 80))
for n, s in enumerate(keep):
    s.send(b"%d" % n)
    asked, whom = server.recvfrom(100)
    server.sendto(asked, whom)
    assert s.recv(100) == b"%d" % n, n
print(len({s.getsockname() for s in keep}), {s.getpeername() for s in keep})
"""


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_udp_socket_hears_its_own_answers(host, group, backend):
    """Two sockets that share a port, for two services of one backend, would be one tuple: the older one goes deaf."""
    ours = python(host, group, UDP, protocols="tcp,udp", backend=backend)
    assert ours.out == "60 {('10.1.0.1', 8001)}\n", ours


def test_told_while_it_is_still_connecting(host, group):
    """getpeername() does not tell of a socket that waits for an answer; the kernel does."""
    host.must("ip", "link", "add", "dark", "type", "veth", "peer", "name", "darker")
    host.must("ip", "link", "set", "darker", "up")
    host.must("ip", "address", "add", "10.77.0.1/24", "dev", "dark")
    host.must("ip", "link", "set", "dark", "up")
    host.must("ip", "neighbour", "add", "10.77.0.2", "lladdr", "02:00:00:00:00:02", "dev", "dark")
    text = """
import socket, sys
s = socket.socket()
s.setblocking(False)
print(s.connect_ex(("10.96.0.7", 80)), flush=True)
sys.stdin.read()
"""
    words = [harness.program("redirect"), group, SERVICES, 24, "10.77.0.2", 9000]
    running = host.start(*words, harness.COMMAND, "run", "--", harness.PYTHON, "-c", text)
    line = running.line()
    if line is None and running.wait() == 77:
        pytest.skip(running.errors())
    assert line == "115", running.errors()
    [claim] = host.claims()
    assert (claim.faddr, claim.fport) == ("10.77.0.2", 9000)
    assert [s.tuple for s in host.sockets(9000)] == [claim]
    running.signal()


@pytest.mark.parametrize("settings", [{}, {"backend": "explicit"}, {"backend": "explicit", "ports": "40000-40099"},
                                      {"backend": "explicit", "ports": "auto/2:1"}, {"ports": "auto/2:1"},
                                      {"addrs": "10.1.0.8"},
                                      {"addrs": "10.1.0.8", "backend": "explicit", "ports": "40000-40099"}],
                         ids=["late", "explicit", "explicit, ports", "explicit, part", "part", "pool", "explicit, pool, ports"])
def test_service_that_moves_from_backend_to_backend(host, group, settings):
    """One process, a service whose backend is another one now and then; nobody can foresee which."""
    host.add_addresses("10.1.0.2")
    host.sink(f"10.1.0.2 {PORT}")
    text = f"""
import os, socket, subprocess, sys
redirect = sys.argv[1:3]
keep = []
for lap in range(4):
    for i in range(15):
        keep.append(socket.create_connection(("10.96.0.1", 80)))
    # The later program of a group has the last word.
    to = "10.1.0.%d" % (2 - lap % 2)
    subprocess.run([*redirect, "10.96.0.0", "24", to, "{PORT}", "true"], check=True, env={{}})
print(len({{(s.getsockname(), s.getpeername()) for s in keep}}), sorted({{s.getpeername()[0] for s in keep}}))
"""
    ours = host.run(*redirected(group, harness.COMMAND, "run", "--", harness.PYTHON, "-c", text,
                                harness.program("redirect"), group),
                    environment=harness.variables(settings))
    if ours.code == 77:
        pytest.skip(ours.err)
    assert (ours.code, ours.out) == (0, "60 ['10.1.0.1', '10.1.0.2']\n"), ours
