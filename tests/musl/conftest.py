"""The fixtures of the system tests, with the programs and the library that were built for musl."""

import harness
import pytest


@pytest.fixture
def host():
    with harness.contextlib.closing(harness.Host()) as made:
        yield made
