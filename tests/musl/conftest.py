"""The harness and fixtures of the system tests, with the programs and the library that were built for musl."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "system")]

import harness  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def host():
    with harness.contextlib.closing(harness.Host()) as made:
        yield made
