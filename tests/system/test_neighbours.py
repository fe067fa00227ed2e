"""Strangers on the same host: programs without tuplebind lose nothing by it.

While a program under tuplebind goes round and round its range through TIME_WAIT at full
speed, plain programs connect elsewhere and plain servers take ports of the range, each time. What
strangers hold is seen, remembered and left alone. And nobody is ever connected to himself.
"""

import re
import signal

import harness
import pytest
import storms

from storms import counters

TO, OTHER, PORT, WEB = "10.7.0.100", "10.7.0.101", 8001, 8080
FIRST, RANGE = 40000, 1024

backends = pytest.mark.parametrize("backend", ["auto", "explicit"])


@pytest.fixture
def joined(two_hosts, tmp_path):
    """A client with 1,024 ports; a server that echoes and an nginx on the other side."""
    client, server = two_hosts
    client.set_ports(FIRST, FIRST + RANGE - 1)
    storms.echo(server, f"{TO} {PORT}", f"{OTHER} {PORT}")
    storms.nginx(server, tmp_path / "upstream", f"listen {TO}:{WEB}; return 200 answer;")
    return client, server


class Churning:
    """A program that goes through TIME_WAIT, twice round its ports when it is begun with."""

    def __init__(self, host, backend):
        self.host = host
        self.running = storms.start_churn(host, TO, PORT, backend=backend)
        harness.eventually(lambda: self.reused() > 2 * RANGE)

    def reused(self):
        return counters(self.host)["timewait_reused"]

    def end(self):
        """It has gone on all the time, and nothing has failed."""
        before = self.reused()
        harness.eventually(lambda: self.reused() > before)
        result = storms.stop_churn(self.running)
        assert result["failed"] == {}, result
        print(f"{result['done']} connections meanwhile")


def curls(host, url, count):
    """So many runs of a plain curl, one after another; how many have failed."""
    script = 'failed=0; for i in $(seq "$2"); do [ "$(curl -s -m 10 "$1")" = answer ] || ' \
        'failed=$((failed+1)); done; echo $failed'
    return int(host.must("sh", "-c", script, "sh", url, count, limit=4 * harness.LIMIT))


@backends
def test_plain_curl(joined, backend):
    client, _ = joined
    churning = Churning(client, backend)
    assert curls(client, f"http://{TO}:{WEB}/", storms.sized(40, 400)) == 0
    churning.end()


@backends
def test_plain_nginx(joined, tmp_path, backend):
    """A proxy that opens a connection for each request."""
    client, _ = joined
    storms.nginx(client, tmp_path / "proxy", f"""
        listen 127.0.0.1:{WEB};
        location / {{ proxy_pass http://{TO}:{WEB}; }}
    """)
    churning = Churning(client, backend)
    assert curls(client, f"http://127.0.0.1:{WEB}/", storms.sized(40, 400)) == 0
    churning.end()


def listen_on(steps, address, port, *options):
    """What bind() and listen() of a server say."""
    fd = steps.socket()
    for option in options:
        steps(f"option {fd} {option}")
    return [steps(f"bind {fd} {address} {port}"), steps(f"listen {fd} 100")]


@backends
@pytest.mark.parametrize("address", ["0.0.0.0", "10.7.0.1"])
def test_servers_that_start_later(joined, backend, address):
    """A server with SO_REUSEADDR takes any port of the range, and its clients reach it."""
    client, server = joined
    churning = Churning(client, backend)
    steps, peer = client.steps(preload=None), server.steps(preload=None)
    ports = range(FIRST, FIRST + RANGE, 31)
    for port in ports:
        assert listen_on(steps, address, port, "reuseaddr") == ["0", "0"], port
    for port in ports:
        peer.open("10.7.0.1", port, 3)
    churning.end()


@backends
@pytest.mark.parametrize("options", [["reuseaddr"], []], ids=["reuseaddr", "no reuseaddr"])
@pytest.mark.parametrize("address", ["0.0.0.0", "10.7.0.1", "127.0.0.1"])
def test_ports_with_a_listener_are_not_taken(joined, backend, address, options):
    """On whatever address: RFC 6056, 3.1."""
    client, _ = joined
    steps = client.steps(preload=None)
    listening = set(range(FIRST, FIRST + RANGE, 7))
    for port in listening:
        assert listen_on(steps, address, port, *options) == ["0", "0"]
    result = storms.churn(client, TO, PORT, 3 * RANGE, RANGE, backend=backend)
    assert (result["done"], result["failed"]) == (3 * RANGE, {})
    used = {s.tuple.lport for s in client.sockets(PORT)}
    assert used and not used & listening


@backends
def test_ports_bound_by_strangers_are_not_taken(joined, backend):
    """Held by a socket that neither listens nor shares: bound, and nothing more so far."""
    client, _ = joined
    steps = client.steps(preload=None)
    bound = set(range(FIRST, FIRST + RANGE, 5))
    for port in bound:
        fd = steps.socket()
        assert steps(f"bind {fd} 0.0.0.0 {port}") == "0"
    result = storms.churn(client, TO, PORT, 3 * RANGE, RANGE, backend=backend)
    assert (result["done"], result["failed"]) == (3 * RANGE, {})
    used = {s.tuple.lport for s in client.sockets(PORT)}
    assert used and not used & bound


def close_all(steps, fds):
    """By a reset: the kernel keeps nothing of them."""
    for fd in fds:
        steps(f"option {fd} reset")
        assert steps(f"close {fd}") == "0"


@backends
def test_most_of_the_lane_is_a_stranger_s(joined, backend):
    """The first look tells; after that nobody comes by those tuples until they are free."""
    client, _ = joined
    rest = RANGE // 4  # so that the stranger has odd ports too: the kernel takes even ones first
    stranger = client.steps(preload=None)
    stranger_fds = stranger.open(TO, PORT, RANGE - rest)
    theirs = client.tuples(PORT)
    steps = client.steps(backend=backend)

    def go_round():
        before = counters(client)["retries"]
        fds = steps.open(TO, PORT, rest)
        retries = counters(client)["retries"] - before
        assert len(set(client.tuples(PORT))) == RANGE
        close_all(steps, fds)
        assert client.tuples(PORT) == theirs
        return retries

    rounds = [go_round() for _ in range(3)]
    print(f"retries by round: {rounds}")
    assert rest // 2 <= rounds[0] <= RANGE - rest
    assert sum(rounds) <= RANGE - rest and rounds[2] == 0
    # What the stranger gives up is for all again.
    close_all(stranger, stranger_fds)
    steps.open(TO, PORT, RANGE)
    assert {t.lport for t in client.tuples(PORT)} == client.ports


# Nobody is connected to himself.

HOME = {"v4": "127.0.0.1", "v6": "::1"}
SELF = {"auto": 40004, "explicit": 40005}  # one that would be taken soon: odd ports are first there
homes = pytest.mark.parametrize("kind", ["v4", "v6"])


@pytest.fixture
def alone(host):
    """Twenty ports and nobody who listens."""
    host.set_ports(40000, 40019)
    return host


def connect_all(steps, kind, port, count):
    """The answers of so many connects to a port of the range, where nobody listens."""
    answers = []
    for _ in range(count):
        fd = steps.socket(kind)
        answers.append(steps.connect(fd, HOME[kind], port))
        steps(f"close {fd}")
    return answers


@homes
@backends
def test_never_connected_to_itself(alone, kind, backend):
    steps = alone.steps(log="debug", backend=backend)
    assert set(connect_all(steps, kind, SELF[backend], 100)) == {"ECONNREFUSED"}
    tried = {int(port) for port in re.findall(r"event=failed .*?local=\S*?:(\d+) ", steps.program.errors())}
    expected = {port for port in alone.ports if backend == "auto" or port % 2}
    assert tried == expected - {SELF[backend]}


@homes
@backends
def test_not_even_when_nothing_else_is_left(alone, kind, backend):
    """All other tuples are held, by connections to a server that is gone."""
    others = len(alone.ports) - 1
    server = storms.echo(alone, f"{HOME[kind]} {SELF[backend]}")
    steps = alone.steps(backend=backend)
    steps.open(HOME[kind], SELF[backend], others, kind)
    harness.eventually(
        lambda: sum(s.held for s in alone.sockets(SELF[backend], server=True)) == others)
    server.signal(signal.SIGKILL)
    assert set(connect_all(steps, kind, SELF[backend], 30)) == {"EADDRNOTAVAIL"}


@homes
def test_plain_program_is(alone, kind):
    """The same program without the preload, sooner or later."""
    assert "0" in connect_all(alone.steps(preload=None), kind, SELF["auto"], 200)


def test_ports_under_bind_of_strangers(host):
    """Every port of the range is a stranger's, by bind(), for one destination: the other has them all still.

    Without tuplebind connect() finds none: the kernel gives no port that somebody has bound.
    """
    host.set_ports(40000, 40099)
    host.sink("127.0.0.1 8001", "127.0.0.1 8002")
    script = """
import socket, sys
made = []
for port in range(40000, 40100):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.connect(("127.0.0.1", 8001))
    made.append(s)
print("ready", flush=True)
sys.stdin.read()
"""
    stranger = host.start(harness.PYTHON, "-c", script)
    assert stranger.line() == "ready", stranger.errors()
    plain, _ = host.seed("127.0.0.1", 8002, 1, preload=None)
    assert plain["error"] == "EADDRNOTAVAIL"
    result, running = host.seed("127.0.0.1", 8002, 101)
    assert (result["opened"], result["error"]) == (100, "EADDRNOTAVAIL"), running.errors()
    assert len(host.tuples(8001)) == len(set(host.tuples(8002))) == 100
    stranger.say("")
    stranger.end()
