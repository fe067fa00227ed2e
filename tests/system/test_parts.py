"""Ports of the settings are kept whoever asks for them first.

Two hosts may share an address and have a part of the ports each. A program that asks for its port between bind() and
connect() is to have one of this host's part, too: else both hosts use one tuple.
"""

import harness
import pytest

TO, OWN = "127.0.0.1", "127.0.0.5"

PROGRAM = """
import errno, json, socket, sys
asked, keep, errors = [], [], 0
for i in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET)
    keep.append(s)
    try:
        s.bind((sys.argv[2], 0))
        name = s.getsockname()[:2]
        if len(sys.argv) > 3:
            s.connect((sys.argv[3], 8001))
            assert s.getsockname()[:2] == name, (name, s.getsockname())
        asked.append(name)
    except OSError as e:
        assert e.errno == errno.EADDRINUSE, e
        errors += 1
print(json.dumps([asked, errors]))
"""


@pytest.fixture
def served(host):
    host.add_addresses("fd00::5")
    host.sink(f"{TO} 8001", "::1 8001")
    return host


def ask(host, count, own, *to, **settings):
    said = host.run(harness.PYTHON, "-c", PROGRAM, count, own, *to, preload="run", **settings)
    assert said.code == 0, said
    names, errors = harness.json.loads(said.out)
    assert {a for a, _ in names} <= {own}
    ports = [port for _, port in names]
    assert len(set(ports)) == len(ports)
    return set(ports), errors


PORTS = {
    "auto/8:3": {p for p in range(40000, 41000) if p % 8 == 2},
    "auto/1:1": set(range(40000, 41000)),
    "50000-50063": set(range(50000, 50064)),  # outside the kernel's range
    "40010-40019,40990-41009": {*range(40010, 40020), *range(40990, 41010)},  # half of it outside
    "40000-40999/500:7": {40006, 40506},
    "40999": {40999},
}


@pytest.mark.parametrize("backend", ["auto", "explicit"])
@pytest.mark.parametrize("to", [(), (TO,)], ids=["ask", "connect"])
@pytest.mark.parametrize("ports", PORTS)
def test_asked_between_bind_and_connect(served, ports, to, backend):
    """All of them can be had, none of the others, and then there is none."""
    count = min(len(PORTS[ports]), 150)
    got, errors = ask(served, count + (5 if count < 150 else 0), OWN, *to, ports=ports, backend=backend)
    assert got <= PORTS[ports] and len(got) == count and errors == (5 if count < 150 else 0)


@pytest.mark.parametrize("own, to", [("fd00::5", "::1"), ("::", "::1"), ("0.0.0.0", TO)])
def test_any_address_and_ipv6(served, own, to):
    said = served.must(harness.PYTHON, "-c", PROGRAM.replace("== name, (", "[1] == name[1], (").replace(
        "s.getsockname()[:2] [1]", "s.getsockname()[1]"), 64, own, to, preload="run", ports="50000-50063")
    names, errors = harness.json.loads(said)
    assert {port for _, port in names} == set(range(50000, 50064)) and errors == 0


def test_reserved_ports_and_listeners_are_left_out(served):
    served.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40990")
    listener = served.steps(preload=None)
    fd = listener.socket()
    assert listener(f"bind {fd} 127.0.0.77 40995") == "0" and listener(f"listen {fd} 5") == "0"
    got, errors = ask(served, 9, OWN, ports="auto/1:1")
    assert got | {40995} == set(range(40991, 41000)) and errors <= 1
    got, errors = ask(served, 5, OWN, ports="auto/3:1")
    assert got == {p for p in range(40991, 41000) if p % 3 == 0} - {40995} and errors == 5 - len(got)
