"""Kernels and sandboxes that lack what the library would use: system calls of it fail, and what its user then sees.

tests/helpers/refuse becomes the program, with a filter for these calls.
"""

import errno

import harness
import pytest

TO = "127.0.0.1"
IP_LOCAL_PORT_RANGE = 51
SO_NETNS_COOKIE = 71
NETLINK_SOCK_DIAG = 4

# Linux before 6.3: neither set nor read.
OLD_KERNEL = [word for call in ("setsockopt", "getsockopt")
              for word in (call, 2, IP_LOCAL_PORT_RANGE, errno.ENOPROTOOPT)]
NO_SOCK_DIAG = ["socket", 2, NETLINK_SOCK_DIAG, errno.EPROTONOSUPPORT]


@pytest.fixture
def served(host):
    """A host with servers at two ports."""
    host.sink(f"{TO} 8001", f"{TO} 8002")
    return host


def steps(host, refused, **settings):
    """tests/helpers/steps, with the library and calls that fail."""
    return harness.Steps(host.start(harness.program("refuse"), *refused, "--", harness.program("steps"),
                                    preload=harness.LIBRARY, **settings))


def events(program, name):
    return [line for line in program.errors().splitlines() if f"event={name} " in line]


def expect_counters(host, **expected):
    counters = host.status()["counters"]
    assert {name: counters[name] for name in expected} == expected


@pytest.mark.parametrize("settings, laddrs", [({}, {TO}), ({"addrs": "127.0.0.8-127.0.0.9"}, {"127.0.0.8", "127.0.0.9"})])
def test_kernel_without_late_bind(served, settings, laddrs):
    """Explicit bind from the first connect on, which is told once; every tuple once."""
    running = steps(served, OLD_KERNEL, log="info", **settings)
    for port in (8001, 8002):
        running.open(TO, port, 20)
        tuples = served.tuples(port)
        assert len(set(tuples)) == 20 and served.claims(port) == tuples
        assert {t.laddr for t in tuples} == laddrs
    expect_counters(served, bound=40, late=0, explicit=40, passed=0)
    assert len(events(running.program, "no-late-bind")) == 1, running.program.errors()


def test_kernel_without_late_bind_all_ports(served):
    """The last port is had as well, and then there is none."""
    served.set_ports(40000, 40019)
    running = steps(served, OLD_KERNEL)
    running.open(TO, 8001, 20)
    assert {t.lport for t in served.tuples(8001)} == served.ports
    assert running.connect(running.socket(), TO, 8001) == "EADDRNOTAVAIL"
    assert len(events(running.program, "full")) == 1, running.program.errors()


def test_kernel_without_late_bind_udp(served):
    running = steps(served, OLD_KERNEL, protocols="tcp,udp", log="info")
    running.open(TO, 8001, 10, kind="udp")
    assert served.claims(8001, protocol="udp") == served.tuples(8001, protocol="udp")
    expect_counters(served, bound=10, late=0, explicit=10)
    assert len(events(running.program, "no-late-bind")) == 1, running.program.errors()


def test_kernel_that_tells_nothing_of_udp(served):
    """UDP is left to it, which is told once; TCP is not."""
    running = steps(served, NO_SOCK_DIAG, protocols="tcp,udp")
    running.open(TO, 8001, 10, kind="udp")
    assert len(served.tuples(8001, protocol="udp")) == 10
    assert served.claims(protocol="udp") == []
    running.open(TO, 8001, 10)
    assert served.claims(8001) == served.tuples(8001) and len(served.claims(8001)) == 10
    expect_counters(served, bound=10)
    [told] = events(running.program, "no-udp-diag")
    assert "modprobe udp_diag" in told


def test_full_lane_that_cannot_be_reaped(served):
    """Nothing is known of the sockets: no claim is taken away, and the program is told what is so."""
    served.set_ports(40000, 40009)
    running = steps(served, NO_SOCK_DIAG)
    running.open(TO, 8001, 10)
    claims = served.claims(8001)
    assert running.connect(running.socket(), TO, 8001) == "EADDRNOTAVAIL"
    assert served.claims(8001) == claims == served.tuples(8001)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM])
def test_sandbox_that_forbids_bind(served, error):
    """No address of the pool can be had: the kernel chooses, no claim stays, and no other address is tried in vain."""
    served.departures_expected = True
    running = steps(served, ["bind", -1, 0, error], addrs="127.0.0.8-127.0.0.9")
    running.open(TO, 8001, 5)
    assert {t.laddr for t in served.tuples(8001)} == {TO}
    assert served.claims() == []
    expect_counters(served, bound=0, passed=5)


@pytest.mark.parametrize("strict", ["", "1"])
def test_no_way_to_tell_the_namespace(served, strict):
    """Neither /proc nor a kernel that says it of a socket: one line, and the program runs without tuplebind."""
    result = served.run("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh",
                        harness.program("refuse"), "getsockopt", 2, SO_NETNS_COOKIE, errno.ENOPROTOOPT, "--",
                        "sh", "-c", "LD_PRELOAD=$1 TUPLEBIND_STRICT=$2 exec echo it runs", "sh", harness.LIBRARY, strict)
    assert result.err.count("\n") == 1 and "/proc must be mounted before Linux 5.14" in result.err, result
    assert (result.code, result.out) == ((78, "") if strict else (0, "it runs\n")), result
