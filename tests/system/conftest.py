"""Fixtures: hosts that end with the test; a sanitizer's reports, which fail it."""

import os

import harness
import pytest
import sanitizer

REPORTS = sanitizer.Reports() if harness.SANITIZER else None


def pytest_collection_modifyitems(items):
    for item in items:
        if REPORTS and (reason := sanitizer.unfit(item.nodeid)):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionstart(session):
    if not harness.LIBRARY.exists():
        folder = os.path.relpath(harness.BUILD)
        pytest.exit(f"{harness.LIBRARY} is not there: meson setup {folder} -Dtests=enabled && meson compile -C {folder}, or "
                    "scripts/test --only system, which also installs what that takes", returncode=4)


@pytest.fixture(autouse=True)
def no_reports():
    """Of a build for a sanitizer: no program of the test may have left a report, when all of them have ended."""
    yield
    if REPORTS and (reports := REPORTS.take()):
        pytest.fail("\n".join(reports), pytrace=False)


@pytest.fixture
def host():
    """A network namespace of its own, with 127.0.0.0/8 and ::1."""
    with harness.contextlib.closing(harness.Host()) as made:
        yield made


@pytest.fixture(scope="module")
def one_host():
    """The same for all tests of a file, which leave nothing on it that the next one would meet."""
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
