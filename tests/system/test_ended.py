"""A connection that has ended before its socket was closed: reap gave its claim to somebody else, who keeps it."""

import harness
import pytest

TO, PORT = "127.0.0.1", 8001


@pytest.mark.parametrize("order", ["connect {} 127.0.0.1 8001", "unspec {}", "close {}"])
def test_an_ended_connection_takes_nobodys_claim(host, order):
    host.set_ports(40000, 40000)
    first, second = host.steps(), host.steps()
    fd = first.socket("nonblock")
    assert first.connect(fd, TO, PORT) == "EINPROGRESS"  # refused meanwhile: nobody listens
    harness.eventually(lambda: not host.sockets(PORT))
    host.reap()
    assert host.claims(PORT) == []
    host.sink(f"{TO} {PORT}")
    second.open(TO, PORT)
    claims = host.claims(PORT)
    assert len(claims) == 1
    first(order.format(fd))
    assert host.claims(PORT) == claims
