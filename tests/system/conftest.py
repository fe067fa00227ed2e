"""Fixtures: hosts that end with the test."""

import harness
import pytest


@pytest.fixture
def host():
    """A network namespace of its own, with 127.0.0.0/8 and ::1."""
    with harness.contextlib.closing(harness.Host()) as made:
        yield made


@pytest.fixture
def two_hosts():
    """A client and a server, joined by a cable: 10.7.0.1-4 and fd07::1-4 here, 10.7.0.100-101 there."""
    with harness.contextlib.closing(harness.Host()) as client, \
            harness.contextlib.closing(harness.Host()) as server:
        harness.join(client, server,
                     [f"10.7.0.{i}/24" for i in range(1, 5)] + [f"fd07::{i}/64" for i in range(1, 5)],
                     ["10.7.0.100/24", "10.7.0.101/24", "fd07::100/64"])
        yield client, server
