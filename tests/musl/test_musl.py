"""The library built with musl-gcc, preloaded by musl's loader into programs built with it.

Run with TUPLEBIND_BUILD=build-musl. What the table has is compared with what the kernel has.
"""

import re
import subprocess

import pytest
import storms
from harness import LIBRARY, program

TO, PORT = "127.0.0.1", 8001


def test_is_for_musl():
    """Else all that follows would prove nothing."""
    loader = subprocess.run(["readelf", "-lW", program("steps")], check=True, capture_output=True, text=True).stdout
    assert re.search(r"interpreter: /lib/ld-musl-", loader)
    needed = subprocess.run(["readelf", "-dW", LIBRARY], check=True, capture_output=True, text=True).stdout
    assert re.findall(r"NEEDED.*\[(.*)\]", needed) == ["libc.so"]


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}")
    return host


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_connections(served, backend):
    steps = served.steps(preload=LIBRARY, backend=backend, addrs="127.0.0.5-127.0.0.8")
    fds = steps.open(TO, PORT, 40)
    assert served.claims() == served.tuples(PORT) and len(served.claims()) == 40
    assert {claim.laddr for claim in served.claims()} == {f"127.0.0.{last}" for last in range(5, 9)}
    for fd in fds[:25]:
        steps(f"close {fd}")
    assert served.claims() == served.tuples(PORT) and len(served.claims()) == 15


def test_without(served):
    """The same program alone has no table."""
    served.steps(preload=None).open(TO, PORT, 3)
    assert len(served.tuples(PORT)) == 3 and served.tables() == []


def test_all_ports(host):
    """All of them and no more, with an error that the program understands."""
    host.set_ports(40000, 40099)
    host.sink(f"{TO} {PORT}")
    result, _ = host.seed(TO, PORT, 101, preload=LIBRARY)
    assert (result["opened"], result["error"]) == (100, "EADDRNOTAVAIL"), result
    assert {claim.lport for claim in host.claims()} == host.ports


def test_threads(host):
    """Threads that connect and close at full speed: none fails while a tuple is free, and no claim is lost."""
    host.set_ports(40000, 40255)
    storms.echo(host, f"{TO} {PORT}")
    crowd = host.start(program("crowd"), "full", 16, 8, 300, TO, PORT, preload=LIBRARY)
    connects, failed, error, held = crowd.line().split()
    assert (int(failed), error, int(held)) == (0, "0", 128) and int(connects) >= 16 * 300
    assert host.claims() == host.tuples(PORT) and len(host.claims()) == 128
    crowd.say("")
    assert crowd.line() == "128" and host.claims() == []
    assert crowd.end() == 0 and crowd.errors() == ""
