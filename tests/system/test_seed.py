"""The seed's experiment (FreeBSD bug 174087): as many connections as there are tuples, and not one less.

A program opens connections to a remote port until that fails, keeps them, and goes on to the
next remote port with the other setting of SO_REUSEADDR. The kernel must hold exactly one socket
for each port of the range (times the addresses of the pool), and the table must say the same.
"""

import json

import pytest

V6_POOL = ["fd00::2", "fd00::3", "fd00::4", "fd00::5"]
V4_POOL = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]
TO = {"v4": "127.0.0.1", "v6": "::1"}
FIRST, SECOND = 8001, 8002

families = pytest.mark.parametrize("family", ["v4", "v6"])
backends = pytest.mark.parametrize("backend", ["late", "explicit"])


@pytest.fixture
def small(host):
    """A host with 300 ports and servers on both remote ports."""
    host.set_ports(40000, 40299)
    host.add_addresses("fd00::1", *V6_POOL)
    for address in ("127.0.0.1", "::1", "fd00::1"):
        host.sink(f"{address} {FIRST} {address} {SECOND}")
    return host


def expect_exactly(host, port, pool):
    """The kernel holds each tuple of the pool once, no other, and so says the table."""
    tuples = host.tuples(port)
    assert sorted((t.laddr, t.lport) for t in tuples) == \
        sorted((laddr, lport) for laddr in pool for lport in host.ports)
    assert host.claims(port) == tuples


def expect_end(result):
    assert result["error"] == "EADDRNOTAVAIL", result


@families
@backends
@pytest.mark.parametrize("order", [["--reuseaddr"], []], ids=["reuse first", "reuse second"])
def test_all_ports_to_each_remote_port(small, family, backend, order):
    """One too many is asked for, so that a search that wraps around and reuses would show."""
    to, ports = TO[family], len(small.ports)
    other = [] if order else ["--reuseaddr"]
    for remote, options in ((FIRST, order), (SECOND, other)):
        result, _ = small.seed(to, remote, ports + 50, *options, backend=backend)
        expect_end(result)
        assert result["opened"] == ports
    for remote in (FIRST, SECOND):
        expect_exactly(small, remote, [to])


@families
@backends
def test_four_addresses(small, family, backend):
    pool, to = (V4_POOL, "127.0.0.1") if family == "v4" else (V6_POOL, "fd00::1")
    result, _ = small.seed(to, FIRST, 5 * len(small.ports), backend=backend,
                           addrs=f"{pool[0]}-{pool[-1]}")
    expect_end(result)
    assert result["opened"] == 4 * len(small.ports)
    expect_exactly(small, FIRST, pool)


@families
def test_plain_counterpart(small, family):
    """Without the preload the same program is confined to one address, and the table stays unmade."""
    result, _ = small.seed(TO[family], FIRST, 5 * len(small.ports), preload=None)
    expect_end(result)
    assert result["opened"] == len(small.ports)
    assert {t.laddr for t in small.tuples(FIRST)} == {TO[family]}
    assert small.tables() == []


@backends
def test_two_programs_at_once(small, backend):
    """Two unrelated processes share the lane: together exactly as many, no tuple held twice."""
    both = [small.start_seed("127.0.0.1", FIRST, 2 * len(small.ports), backend=backend)
            for _ in range(2)]
    results = [json.loads(running.line()) for running in both]
    for result in results:
        expect_end(result)
    assert sum(result["opened"] for result in results) == len(small.ports)
    expect_exactly(small, FIRST, ["127.0.0.1"])


@backends
def test_two_processes_of_one_program(small, backend):
    result, _ = small.seed("127.0.0.1", FIRST, 2 * len(small.ports), "--processes", 2,
                           backend=backend)
    expect_end(result)
    assert result["opened"] == len(small.ports)
    expect_exactly(small, FIRST, ["127.0.0.1"])


def test_range_of_odd_shape(host):
    """A range that begins and ends in the middle of the table's words, less reserved ports."""
    host.set_ports(40003, 40129)
    host.sysctl("net.ipv4.ip_local_reserved_ports", "40005,40100-40109")
    host.ports -= {40005, *range(40100, 40110)}
    host.sink(f"127.0.0.1 {FIRST}")
    result, _ = host.seed("127.0.0.1", FIRST, 500)
    expect_end(result)
    assert result["opened"] == len(host.ports) == 116
    expect_exactly(host, FIRST, ["127.0.0.1"])
