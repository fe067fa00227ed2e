"""What the administrator changes while programs run: they notice within a second or two, as plain ones at once.

A program that has noticed says so in its log (event=ports-changed); whether it goes on as it should
is looked at from then on, connect by connect.
"""

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
RESERVED = "net.ipv4.ip_local_reserved_ports"

WAYS = {
    "late": {"backend": "late"},
    "auto": {},
    "pool": {"addrs": "127.0.0.8"},
    "explicit": {"backend": "explicit"},
    "rule": {"rules": f"{TO}:{PORT}=auto@auto", "ports": "20000"},
}
ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}")
    host.set_ports(40000, 40099)
    return host


def open_all(steps, kind="v4"):
    """Connects until none is left. (descriptors, the error)"""
    fds = []
    while True:
        fds.append(steps.socket(kind))
        answer = steps.connect(fds[-1], TO, PORT)
        if answer != "0":
            assert steps(f"close {fds.pop()}") == "0"
            return fds, answer


def one_more(steps):
    fd = steps.socket()
    answer = steps.connect(fd, TO, PORT)
    if answer != "0":
        steps(f"close {fd}")
    return answer


def begin(host, way, **settings):
    return host.steps(log="info", **WAYS[way] | settings)


def until_noticed(steps):
    """Makes connections, and closes them, until the program has noticed."""
    def noticed():
        fd = steps.socket()
        steps.connect(fd, TO, PORT)
        steps(f"option {fd} reset")
        assert steps(f"close {fd}") == "0"
        return "event=ports-changed" in steps.program.errors()

    harness.eventually(noticed)


def ports(host):
    return [t.lport for t in host.tuples(PORT)]


@ways
def test_widened_for_a_program_that_has_run_full(served, way):
    steps = begin(served, way)
    fds, answer = open_all(steps)
    assert (len(fds), answer) == (100, "EADDRNOTAVAIL")
    served.set_ports(40000, 40999)
    harness.eventually(lambda: one_more(steps) == "0")
    more, answer = open_all(steps)
    assert (len(more), answer) == (1000 - 100 - 1, "EADDRNOTAVAIL")
    assert set(ports(served)) == served.ports
    assert served.claims(PORT) == served.tuples(PORT)


def test_widened_for_udp(host):
    host.set_ports(40000, 40009)
    plain = host.steps(preload=None)
    assert open_all(plain, "udp")[1] == "EAGAIN"
    plain.program.end()
    steps = host.steps(protocols="udp")
    fds, answer = open_all(steps, "udp")
    assert (len(fds), answer) == (10, "EAGAIN")
    host.set_ports(40000, 40019)
    fd = steps.socket("udp")
    harness.eventually(lambda: steps.connect(fd, TO, PORT) == "0")
    more, answer = open_all(steps, "udp")
    assert (len(more), answer) == (9, "EAGAIN")


@ways
def test_narrowed(served, way):
    steps = begin(served, way)
    steps.open(TO, PORT, 10)
    served.set_ports(40000, 40019)
    until_noticed(steps)
    before = ports(served)
    left = served.ports - set(before)
    fds, answer = open_all(steps)
    assert (len(fds), answer) == (len(left), "EADDRNOTAVAIL")
    assert set(ports(served)) - set(before) == left


@ways
def test_moved(served, way):
    steps = begin(served, way)
    steps.open(TO, PORT, 10)
    served.set_ports(50000, 50049)
    until_noticed(steps)
    fds, answer = open_all(steps)
    assert (len(fds), answer) == (50, "EADDRNOTAVAIL")
    assert set(ports(served)) > served.ports
    assert steps.program.errors().count("event=ports-changed") == 1


@ways
def test_reserved(served, way):
    """None of them is taken any more, and when they are given free all are."""
    steps = begin(served, way)
    steps.open(TO, PORT, 10)
    before = set(ports(served))
    served.sysctl(RESERVED, "40030-40089,40095")
    until_noticed(steps)
    reserved = set(range(40030, 40090)) | {40095}
    fds, answer = open_all(steps)
    assert answer == "EADDRNOTAVAIL"
    assert set(ports(served)) - before == served.ports - reserved - before
    served.sysctl(RESERVED, "")
    harness.eventually(lambda: one_more(steps) == "0")
    assert open_all(steps)[1] == "EADDRNOTAVAIL"
    assert set(ports(served)) == served.ports


@pytest.mark.parametrize("backend", ["auto", "explicit"])
def test_reserved_ports_that_the_user_lists(served, backend):
    """His list is his choice."""
    steps = served.steps(log="info", backend=backend, ports="40000-40019")
    steps.socket()
    served.sysctl(RESERVED, "40000-40009")
    until_noticed(steps)
    assert (len(open_all(steps)[0]), set(ports(served))) == (20, set(range(40000, 40020)))


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_reserved_for_a_bind_that_is_put_off(served, backend):
    steps = begin(served, "auto", backend=backend)
    steps.open(TO, PORT)
    served.sysctl(RESERVED, "40000-40089")
    until_noticed(steps)
    for _ in range(10):
        fd = steps.socket()
        assert steps(f"bind {fd} 127.0.0.9 0") == "0"
        assert steps.connect(fd, TO, PORT) == "0"
    assert {t.lport for t in served.tuples(PORT) if t.laddr == "127.0.0.9"} == set(range(40090, 40100))


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_range_that_cannot_be_read(served, backend):
    """Without a descriptor left: what was known holds, not the kernel's default range."""
    steps = served.steps(backend=backend, log="debug")
    steps.open(TO, PORT, 2)
    served.must("prlimit", "--pid", str(steps.program.pid), "--nofile=6:1024")
    fd = steps.socket()  # the last one
    assert steps("socket v4") == "EMFILE"
    served.set_ports(50000, 50099)
    for _ in range(3):
        steps.connect(fd, TO, PORT)
        steps(f"option {fd} reset")
        assert steps(f"close {fd}") == "0"
        assert steps.socket() == fd
    served.must("prlimit", "--pid", str(steps.program.pid), "--nofile=1024:1024")
    until_noticed(steps)
    fds, answer = open_all(steps)
    assert (len(fds), answer) == (100, "EADDRNOTAVAIL")
    assert not [line for line in steps.program.errors().splitlines()
                if "local=" in line and not any(f":{part}" in line for part in ("400", "500"))]


def test_udp_that_could_not_be_looked_after(host):
    """For want of a descriptor: it is asked again as soon as there is one."""
    steps = host.steps(protocols="udp", addrs="127.0.0.9")
    pid, fds = str(steps.program.pid), [steps.socket("udp") for _ in range(3)]
    usual = host.must("prlimit", "--pid", pid, "--nofile", "--noheadings", "--raw", "-o", "SOFT,HARD").split()
    host.must("prlimit", "--pid", pid, f"--nofile={fds[-1] + 1}:{usual[1]}")
    assert steps.connect(fds[0], TO, PORT) == "0" and host.claims(protocol="udp") == []
    host.must("prlimit", "--pid", pid, "--nofile=" + ":".join(usual))
    for fd in fds[1:]:
        assert steps.connect(fd, TO, PORT) == "0"
    assert [t.laddr for t in host.claims(protocol="udp")] == ["127.0.0.9"] * 2
    assert [t.laddr for t in host.tuples(PORT, protocol="udp")] == ["127.0.0.9"] * 3
