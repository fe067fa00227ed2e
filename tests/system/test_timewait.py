"""A client that closes first does not run out of ports: tuples in TIME_WAIT are used again at once.

Two hosts joined by a cable, where tcp_tw_reuse at its default helps nobody. A client makes ten
times as many connections as its range has ports, each closed by itself; and nginx passes requests
on to one upstream, a connection each. Without the preload both come to a stop for a minute
after one lap over the range; with it nothing fails and every answer is the right one.
"""

import collections

import harness
import pytest
import storms

TO, OTHER, PORT = "10.7.0.100", "10.7.0.101", 8001
LAP = 512
LAPS = 10

# The proxy closes first: the upstream would keep the connection, and nothing asks nginx to.
PROXY = f"""
    listen 127.0.0.1:8080 reuseport;
    location / {{
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass http://{TO}:{PORT};
    }}
"""
UPSTREAM = f"listen {TO}:{PORT} backlog=4096; return 200 answer;"

backends = pytest.mark.parametrize("backend", ["auto", "explicit"])


@pytest.fixture
def served(two_hosts):
    """A client with 512 ports, and a server that answers and closes last."""
    client, server = two_hosts
    client.set_ports(40000, 40000 + LAP - 1)
    storms.echo(server, f"{TO} {PORT}", f"{OTHER} {PORT}")
    return client


def cable(host):
    """The name of the interface that joins it to the other one."""
    [name] = [line.split(": ")[1].split("@")[0] for line in host.must("ip", "-o", "link").splitlines()
              if "LOOPBACK" not in line]
    return name


def in_timewait(host):
    return [s.tuple for s in host.sockets(PORT) if s.state == "TIME-WAIT"]


def expect_none_stuck(host):
    """Whatever the sockets went through, none is left but TIME_WAIT, and no claim without one."""
    assert {s.state for s in host.sockets(PORT)} == {"TIME-WAIT"}
    assert host.must("ss", "-tanH", "state", "syn-sent") == ""
    host.reap()
    assert host.claims(PORT) == []


def expect_laps(result, laps, lap):
    assert (result["done"], result["failed"]) == (laps * lap, {}), result
    print(f"us per connect, by lap: {result['us']}")


def test_the_kernel_is_at_its_default(two_hosts):
    """Or the tests below show nothing."""
    client, _ = two_hosts
    assert client.must("cat", "/proc/sys/net/ipv4/tcp_tw_reuse").strip() == "2"
    assert client.must("cat", "/proc/sys/net/ipv4/tcp_timestamps").strip() == "1"


def test_plain_fails_after_one_lap(served):
    result = storms.churn(served, TO, PORT, 2 * LAP, LAP, preload=None)
    assert result["done"] == LAP
    assert result["failed"] == {"EADDRNOTAVAIL": LAP}


@backends
def test_peer_without_timestamps(served, backend):
    """TCP cannot use these tuples for a minute: no connect gets one, and none hangs."""
    served.sysctl("net.ipv4.tcp_timestamps", 0)
    result = storms.churn(served, TO, PORT, 2 * LAP, LAP, backend=backend)
    assert (result["done"], result["failed"]) == (LAP, {"EADDRNOTAVAIL": LAP}), result
    assert storms.counters(served)["timewait_reused"] == 0


@backends
def test_peer_without_timestamps_has_fresh_ports_left(served, backend):
    """Half of the ports are in TIME_WAIT and cannot be used again; programs that know nothing of it meet them."""
    served.sysctl("net.ipv4.tcp_timestamps", 0)
    expect_laps(storms.churn(served, TO, PORT, LAP // 2, LAP // 2, backend=backend), 1, LAP // 2)
    for _ in range(LAP // 16):
        expect_laps(storms.churn(served, TO, PORT, 4, 4, backend=backend), 1, 4)
    assert storms.counters(served)["timewait_reused"] == 0


@backends
def test_peer_without_timestamps_and_no_question(served, backend):
    """Where TCP Fast Open is off it cannot be found out: one connect() of a program may fail, no second one."""
    served.sysctl("net.ipv4.tcp_timestamps", 0)
    served.sysctl("net.ipv4.tcp_fastopen", 0)
    expect_laps(storms.churn(served, TO, PORT, LAP // 2, LAP // 2, backend=backend), 1, LAP // 2)
    failed = 0
    for _ in range(LAP // 16):
        result = storms.churn(served, TO, PORT, 4, 4, backend=backend)
        assert result["failed"] in ({}, {"EADDRNOTAVAIL": 1}), result
        failed += sum(result["failed"].values())
    assert failed > 0, "the limit that README tells of is none"


@backends
def test_several_peers_at_one_address(served, backend):
    """Half of the tuples in TIME_WAIT cannot be used again: a program loses one connect() to that, no more, and
    has all others. (One program, so that it comes by those first that can be: it goes through the lane in order.)"""
    steps, fds = served.steps(backend=backend), []
    for timestamps in (1, 0):
        served.sysctl("net.ipv4.tcp_timestamps", timestamps)
        fds += steps.open(TO, PORT, LAP // 2)
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    harness.eventually(lambda: len(in_timewait(served)) == LAP)
    served.sysctl("net.ipv4.tcp_timestamps", 1)
    said = collections.Counter(steps.connect(steps.socket(), TO, PORT) for _ in range(LAP // 2 + 1))
    assert said == {"0": LAP // 2, "EADDRNOTAVAIL": 1}
    assert steps.connect(steps.socket(), TO, PORT) == "EADDRNOTAVAIL"
    assert len(served.tuples(PORT)) == LAP // 2 == len(in_timewait(served))


@backends
def test_the_peer_hears_nothing_of_the_question(served, two_hosts, backend):
    """Whether tuples in TIME_WAIT can be used again is found out without a packet."""
    def heard():
        names, values = (line.split() for line in two_hosts[1].must("cat", "/proc/net/snmp").splitlines()
                         if line.startswith("Tcp:"))
        counts = dict(zip(names, values))
        return int(counts["PassiveOpens"]), int(counts["AttemptFails"]), int(counts["EstabResets"])

    before = heard()
    for _ in range(4):
        expect_laps(storms.churn(served, TO, PORT, LAP, LAP, backend=backend), 1, LAP)
    assert storms.counters(served)["timewait_reused"] > LAP
    assert heard() == (before[0] + 4 * LAP, *before[1:])


@backends
@pytest.mark.parametrize("reach", ["global", "link"])
def test_ipv6(served, two_hosts, reach, backend):
    server = two_hosts[1]
    [to] = [line.split()[3].split("/")[0] for line in server.must("ip", "-o", "-6", "addr").splitlines()
            if f"scope {reach}" in line and "::1/128" not in line]
    served.set_ports(40000, 40063)
    storms.echo(server, f"{to}{'%' + cable(server) if reach == 'link' else ''} {PORT}")
    to += "%" + cable(served) if reach == "link" else ""
    for _ in range(4):
        expect_laps(storms.churn(served, to, PORT, 64, 64, backend=backend), 1, 64)
    assert storms.counters(served)["timewait_reused"] >= 2 * 64


@pytest.mark.parametrize("fastopen", [0, 1])
@backends
def test_ten_laps(served, backend, fastopen):
    served.sysctl("net.ipv4.tcp_fastopen", fastopen)
    result = storms.churn(served, TO, PORT, LAPS * LAP, LAP, backend=backend)
    expect_laps(result, LAPS, LAP)
    counted = storms.counters(served)
    assert counted["bound"] == LAPS * LAP
    assert counted["timewait_reused"] >= (LAPS - 2) * LAP
    assert counted["explicit" if backend == "explicit" else "late"] >= LAP
    assert {t.lport for t in in_timewait(served)} <= served.ports
    expect_none_stuck(served)


@backends
def test_half_of_the_range_is_a_stranger_s(served, backend):
    """Live tuples among those in TIME_WAIT: no socket is stuck on one, none of them is disturbed."""
    _, stranger = served.seed(TO, PORT, LAP // 2, preload=None)
    held = served.tuples(PORT)
    assert len(held) == LAP // 2
    result = storms.churn(served, TO, PORT, LAPS * LAP // 2, LAP // 2, backend=backend)
    expect_laps(result, LAPS, LAP // 2)
    assert served.tuples(PORT) == held
    assert {t.lport for t in in_timewait(served)} == served.ports - {t.lport for t in held}
    stranger.close()


@backends
def test_other_lanes_lose_nothing(served, backend):
    """What is explicitly bound in TIME_WAIT to one destination is free to be had to another."""
    served.sink(f"127.0.0.1 {PORT}")
    expect_laps(storms.churn(served, TO, PORT, 4 * LAP, LAP, backend=backend), 4, LAP)
    for to in (OTHER, "127.0.0.1"):
        result, _ = served.seed(to, PORT, 2 * LAP, backend=backend)
        assert (result["opened"], result["error"]) == (LAP, "EADDRNOTAVAIL")
        assert {t.lport for t in served.tuples(PORT) if t.faddr == to} == served.ports


@backends
def test_several_at_once(served, backend):
    """Clients that reuse each other's TIME_WAIT tuples."""
    clients = [storms.start_churn(served, TO, PORT, LAPS * LAP // 4, LAP // 4, backend=backend)
               for _ in range(4)]
    for running in clients:
        expect_laps(storms.churn_result(running), LAPS, LAP // 4)
    expect_none_stuck(served)


def test_address_of_a_pool_is_kept(served):
    """Ports in TIME_WAIT that have to be passed over leave the socket with the pool's address."""
    served.set_ports(40000, 40063)
    steps = served.steps(addrs="10.7.0.3", backend="late")
    for _ in range(2):
        for number, fd in enumerate(steps.open(TO, PORT, 32)):
            if number % 2:
                assert steps(f"option {fd} reset") == "0"
            assert steps(f"close {fd}") == "0"
    harness.eventually(lambda: {s.state for s in served.sockets(PORT)} == {"TIME-WAIT"})
    left = {t.lport for t in in_timewait(served)}
    steps.open(TO, PORT, 64)
    assert {t.laddr for t in served.tuples(PORT)} == {"10.7.0.3"}
    assert {t.lport for t in served.tuples(PORT)} == served.ports
    assert len([port for port in left if port % 2 == 0]) > 4
    # One of them was used up to find out that they can be.
    assert storms.counters(served)["timewait_reused"] >= len(left) - 1


@pytest.fixture
def proxied(two_hosts, tmp_path):
    """An nginx as upstream, and how to start one in front of it, whose range has 4,096 ports."""
    client, server = two_hosts
    client.set_ports(40000, 40000 + 4095)
    storms.nginx(server, tmp_path / "upstream", UPSTREAM)

    def start(preload, **settings):
        storms.nginx(client, tmp_path / "proxy", PROXY, preload, **settings)
        assert client.must("curl", "-s", "http://127.0.0.1:8080/") == "answer"
        return client
    return start


def requests(client, count):
    return storms.wrk(client, "http://127.0.0.1:8080/", count)


def test_nginx_plain_fails(proxied):
    done, failed = requests(proxied(None), 20000)
    print(f"plain: {failed} of {done} requests failed")
    assert failed > 0
    assert done - failed <= 4096


@backends
def test_nginx_never_fails(proxied, backend):
    client = proxied("run", backend=backend)
    done, failed = requests(client, storms.sized(20000, 200000))
    print(f"{failed} of {done} requests failed")
    assert failed == 0
    assert storms.counters(client)["timewait_reused"] >= done - 2 * 4096
    harness.eventually(lambda: client.tuples(PORT) == [])
    client.reap()
    assert client.claims(PORT) == []
