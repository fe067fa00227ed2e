"""Threads with a small stack and handlers on a stack of their own: what is taken over needs little of it.

tests/helpers/steps makes each call on a painted stack and says how much of the paint is gone. No way
through the library may take more than 6 KB on top of what the call takes without it.
"""

import json

import harness
import pytest
import storms

TO, PORT = "127.0.0.1", 8001
MOST = 6 * 1024

OPTIONS = {option["name"]: option["value"]
           for option in json.loads((harness.BUILD / "meson-info" / "intro-buildoptions.json").read_text())}

pytestmark = pytest.mark.skipif(OPTIONS["optimization"] in ("0", "g") or OPTIONS["coverage"] or bool(harness.SANITIZER),
                                reason="frames of a build that is not for use are as large as they like")

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


class Measured:
    """A program of steps whose calls are measured: the most that each has taken."""

    def __init__(self, host, preload="run", words=(), **settings):
        self.steps = harness.Steps(host.start(*words, harness.program("steps"), preload=preload, **settings))
        self.most = {}

    def __call__(self, order):
        whose, order = ("child ", order.removeprefix("child ")) if order.startswith("child ") else ("", order)
        answer, _, used = self.steps(f"{whose}stack {order}").rpartition(", ")
        name = order.split()[0]
        self.most[name] = max(self.most.get(name, 0), int(used.split()[0]))
        return answer

    def socket(self, kind="v4"):
        return int(self(f"socket {kind}"))

    def connected(self, port=PORT, kind="v4", to=TO):
        fd = self.socket(kind)
        return fd, self(f"connect {fd} {to} {port}")


PLAIN = {}


@pytest.fixture
def plain(host):
    """What the calls take without us."""
    host.sink(f"{TO} {PORT}")
    if not PLAIN:
        steps = Measured(host, preload=None)
        fd, answer = steps.connected()
        assert answer == "0"
        other = steps.socket()
        for order in (f"dup2 {fd} 50", "close 50", f"dup {fd}", f"dupfd {fd} 60", "close_range 60 61",
                      f"fastopen {other} {TO} {PORT}", "closefrom 40", f"name {fd}"):
            steps(order)
        fd = steps.socket()
        steps(f"bind {fd} {TO} 0")
        steps(f"option {fd} reuseaddr")
        steps.steps("fork")
        steps(f"pass {fd}")
        PLAIN.update(steps.most)
    return host


def expect_little(*programs):
    for steps in programs:
        more = {name: used - PLAIN[name] for name, used in steps.most.items()}
        assert max(more.values()) <= MOST, more


@backends
@pytest.mark.parametrize("kind", ["v4", "udp"])
def test_each_call(plain, backend, kind):
    steps = Measured(plain, backend=backend, log="debug", protocols="tcp,udp")
    fd, answer = steps.connected(kind=kind)
    assert answer == "0"
    for order in (f"dup2 {fd} 50", f"dup {fd}", f"dupfd {fd} 60", "close 50", "close_range 60 61", f"name {fd}"):
        assert "E" not in steps(order)
    other = steps.socket()
    assert steps(f"fastopen {other} {TO} {PORT}") == "1"
    steps.steps("fork")
    steps(f"pass {fd}")
    assert steps("child name " + str(fd)).startswith(TO)
    assert steps(f"child close {fd}") == "0"
    assert steps(f"close {fd}") == "0"
    assert steps("closefrom 40") == "0"
    expect_little(steps)


@backends
def test_bind_that_is_put_off(plain, backend):
    steps = Measured(plain, backend=backend, log="debug")
    for orders in (["connect"], ["name", "connect"], ["bind", "connect"]):
        fd = steps.socket()
        assert steps(f"bind {fd} 127.0.0.9 0") == "0"
        for order in orders:
            steps({"connect": f"connect {fd} {TO} {PORT}", "name": f"name {fd}", "bind": f"bind {fd} 127.0.0.9 0"}[order])
    assert len(plain.tuples(PORT)) == 3
    expect_little(steps)


@backends
def test_ports_that_change(plain, backend):
    steps = Measured(plain, backend=backend, log="debug")
    assert steps.connected()[1] == "0"
    plain.set_ports(50000, 50099)
    harness.eventually(lambda: steps.connected()[1] == "0" and
                       sum(t.lport in plain.ports for t in plain.tuples(PORT)) >= 3)
    expect_little(steps)


@backends
def test_full_lane(plain, backend):
    """Refused, then served by what reap gives back."""
    plain.set_ports(40000, 40003)
    holder = plain.steps()
    for fd in holder.open(TO, PORT, 4):
        holder(f"option {fd} reset")
    steps = Measured(plain, backend=backend, log="debug")
    assert steps.connected()[1] == "EADDRNOTAVAIL"
    holder.program.signal()
    harness.eventually(lambda: plain.sockets(PORT) == [])
    harness.eventually(lambda: steps.connected()[1] == "0")
    expect_little(steps)


@backends
def test_strangers(plain, backend):
    """Ports that somebody else has, and listeners."""
    plain.set_ports(40000, 40007)
    stranger = plain.steps(preload=None)
    for port in range(40000, 40006):
        fd = stranger.socket()
        assert stranger(f"bind {fd} {TO} {port}") == "0"
        assert stranger(f"listen {fd} 1") == "0" if port % 2 else stranger.connect(fd, TO, PORT) == "0"
    steps = Measured(plain, backend=backend, log="debug", addrs=TO)
    answers = [steps.connected()[1] for _ in range(3)]
    assert answers == ["0", "0", "EADDRNOTAVAIL"]
    expect_little(steps)


@backends
def test_pool_of_an_interface(plain, two_hosts, backend):
    """Whose addresses change, and some that are no addresses of this host."""
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT}")
    steps = Measured(client, backend=backend, log="debug", addrs="wire,192.0.2.7,192.0.2.64/26")
    assert steps.connected(to="10.7.0.100")[1] == "0"
    client.add_addresses("10.7.0.9/24", device="wire")
    harness.eventually(lambda: steps.connected(to="10.7.0.100")[1] == "0" and
                       "10.7.0.9" in {t.laddr for t in client.tuples(PORT)})
    assert "set-aside" in steps.steps.program.errors()
    expect_little(steps)


def test_udp_that_shares_ports(plain):
    plain.set_ports(40000, 40003)
    steps = Measured(plain, protocols="udp", log="debug")
    assert [steps.connected(port, "udp")[1] for port in (9001, 9002) for _ in range(4)] == 8 * ["0"]
    assert steps.connected(9001, "udp")[1] != "0"
    expect_little(steps)


def test_table_without_room(plain):
    steps = Measured(plain, words=("prlimit", "--nofile=8192"), table_size="256K", log="debug", protocols="udp")
    lanes = 0
    while "event=table-full" not in steps.steps.program.errors():
        assert steps.connected(10000 + lanes, "udp")[1] == "0" and lanes < 4000
        lanes += 1
    expect_little(steps)


@backends
def test_no_descriptor_left(plain, backend):
    steps = Measured(plain, words=("prlimit", "--nofile=64"), backend=backend, log="debug")
    fds = []
    while (answer := steps("socket v4")) != "EMFILE":
        fds.append(int(answer))
    for fd in fds:
        assert steps(f"connect {fd} {TO} {PORT}") == "0"
        assert steps(f"close {fd}") == "0" and steps("socket v4") == str(fd)
    expect_little(steps)


@backends
def test_time_wait(plain, two_hosts, backend):
    client, server = two_hosts
    client.set_ports(40000, 40003)
    storms.echo(server, f"10.7.0.100 {PORT}")
    steps = Measured(client, backend=backend, log="debug")
    for _ in range(12):
        fd, answer = steps.connected(to="10.7.0.100")
        assert answer == "0"
        steps.steps(f"shutdown {fd}")
        assert steps(f"close {fd}") == "0"
    expect_little(steps)
