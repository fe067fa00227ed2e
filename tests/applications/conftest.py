"""Fixtures of the program matrix, and the table it ends with."""

import contextlib
import pathlib
import subprocess
import tempfile

import ground as grounds
import harness
import pytest

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture
def ground(request):
    """A host of its own with both pools.

    Its directory is open to servers that are not root. (One of pytest's would be closed again by the
    next pytest of the same user.)
    """
    with tempfile.TemporaryDirectory(prefix="tuplebind-", ignore_cleanup_errors=True) as name, \
            contextlib.closing(harness.Host(ports=(20000, 59999))) as host:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        made = grounds.Ground(host, directory, request.param, lambda: request.getfixturevalue("classes"))
        with made.at_end:
            yield made


@pytest.fixture(scope="session")
def classes(tmp_path_factory):
    """*.java, compiled once."""
    directory = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-d", directory, *HERE.glob("*.java")], check=True)
    return directory


def cell(report):
    """What the table has for a test: what was seen when it passed, else that it did not."""
    return dict(report.user_properties)["seen"] if report.outcome == "passed" else report.outcome.upper()


def pytest_terminal_summary(terminalreporter):
    """A Markdown table: program, and for each family connections and addresses they came from."""
    rows = {}
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            about = dict(getattr(report, "user_properties", ()))
            if "program" in about:
                rows.setdefault((about["program"], about["how"]), {})[about["family"]] = cell(report)
    if rows:
        terminalreporter.section("connections seen by the peer, and from how many addresses of the pool's four")
        terminalreporter.write_line("| program | how | IPv4 | IPv6 |\n|---|---|---|---|")
        for (name, how), cells in sorted(rows.items(), key=lambda row: row[0][0].lower()):
            terminalreporter.write_line(
                f"| {name} | {how} | {cells.get('v4', '-')} | {cells.get('v6', '-')} |")
