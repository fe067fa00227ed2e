"""scripts/bench works: each of its measures runs, in small, and what it writes has the right shape.

How long anything took is nobody's business here.
"""

import contextlib
import csv
import math
import os
import pathlib
import signal
import subprocess
import xml.etree.ElementTree

import harness
import pytest

BENCH = harness.REPOSITORY / "tests" / "bench" / "bench.py"
NAMESPACE = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]),
             "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
WITH_PLOTS = {"fill", "churn", "scale", "table", "udp", "million"}


def bench(*words):
    return subprocess.run([*NAMESPACE, harness.PYTHON, BENCH, *words], env=harness.clean_environment(),
                          capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """(The folder of results, what was printed) of a run of all measures in small."""
    folder = tmp_path_factory.mktemp("bench")
    result = bench("--quick", "--out", folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # no progress where nobody looks
    return folder, result.stdout


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))


def summary(folder, measure):
    return {(row["what"], row["rival"]): row for row in rows(folder / "summary.tsv") if row["measure"] == measure}


def is_number(text):
    return text == "" or math.isfinite(float(text))


def test_every_measure_leaves_rows_raw_data_and_a_plot(quick):
    folder, printed = quick
    all_rows = rows(folder / "summary.tsv")
    measured = {row["measure"] for row in all_rows}
    assert measured >= WITH_PLOTS | {"failing", "timewait", "first", "memory", "start", "instructions", "rules"}
    for row in all_rows:
        assert all(is_number(row[key]) for key in ("tuplebind", "rival_value", "ratio")), row
        assert "Linux" in row["machine"]
    for measure in measured:
        assert rows(folder / f"{measure}.tsv"), measure
    for measure in WITH_PLOTS:
        assert xml.etree.ElementTree.parse(folder / f"{measure}.svg").getroot().tag.endswith("svg")
    assert (folder / "results.md").read_text() == printed.removesuffix("\n")


def test_all_rivals_do_the_same_work(quick):
    folder, _ = quick
    opened = {}
    for row in rows(folder / "fill.tsv"):
        opened.setdefault(row["way"], []).append(int(row["opened"]))
    opened.pop("window")  # fails with ports left
    assert len(opened) == 6 and len({tuple(counts) for counts in opened.values()}) == 1, opened
    assert {row["failed"] for row in rows(folder / "fill.tsv") if row["way"] != "window"} == {"0"}
    assert {row["failed"] for row in rows(folder / "churn.tsv") if row["way"] != "window"} == {"0"}


def test_counts_that_do_not_depend_on_the_machine(quick):
    folder, _ = quick
    timewait = summary(folder, "timewait")["failed connect()s", "plain connect()"]
    assert float(timewait["tuplebind"]) == 0 and float(timewait["rival_value"]) > 0
    udp = summary(folder, "udp")["connected sockets, 200 ports, three destinations", "plain connect()"]
    assert (float(udp["tuplebind"]), float(udp["rival_value"])) == (600, 200)
    million = summary(folder, "million")["connections to one address and port, seen by the kernel",
                                       "raw late bind, port known"]
    assert int(million["tuplebind"]) == 3 * 500


def test_single_measures_keep_the_results_of_others(quick):
    folder, _ = quick
    before = {row["measure"] for row in rows(folder / "summary.tsv")}
    result = bench("--quick", "--out", folder, "memory")
    assert result.returncode == 0, result.stderr
    assert "| memory |" in result.stdout and "| fill |" not in result.stdout
    assert {row["measure"] for row in rows(folder / "summary.tsv")} == before


def test_check_tells_what_was_missed(tmp_path):
    """So few ports that plain connect() is not 40 times slower."""
    result = bench("--quick", "--check", "--out", tmp_path, "fill")
    assert result.returncode == 1
    assert "scripts/bench: fill: connect(), mean above half: " in result.stderr
    assert "to reach: >= 40" in result.stderr


def test_a_measure_that_there_is_not():
    result = bench("--quick", "nonsense")
    assert result.returncode == 2
    assert '"nonsense" is not a measure; there are: fill, churn' in result.stderr


def run_in_a_namespace_of_which_we_know(*words):
    """(What it ran into, the number of its namespace) of a bench that says which that is."""
    line = ["sh", "-c", 'stat -Lc %i /proc/self/ns/net; exec "$0" "$@"', harness.PYTHON, BENCH, *words]
    result = subprocess.run([*NAMESPACE, *line], env=harness.clean_environment(), capture_output=True, text=True,
                            timeout=300)
    return result, result.stdout.splitlines()[0]


def test_no_table_is_left_behind():
    """Programs that only start make one in the bench's own namespace."""
    result, namespace = run_in_a_namespace_of_which_we_know("--quick", "start")
    assert result.returncode == 0, result.stderr
    assert list(pathlib.Path("/dev/shm").glob(f"tuplebind.*.{namespace}*")) == []


def children(pid):
    with contextlib.suppress(OSError):
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def hosts_with_tables(pid):
    """The namespaces of a bench's children in which there is a table by now."""
    namespaces = set()
    for child in children(pid):
        with contextlib.suppress(OSError):
            namespaces.add(os.stat(f"/proc/{child}/ns/net").st_ino)
    return [n for n in namespaces if list(pathlib.Path("/dev/shm").glob(f"tuplebind.*.{n}*"))]


def test_a_bench_that_is_ended_takes_everything_with_it(tmp_path):
    """Tables and processes: it is the first process of its namespace, which only heeds signals it asks for."""
    outer = subprocess.Popen([*NAMESPACE, harness.PYTHON, BENCH, "--out", tmp_path, "first"],
                             env=harness.clean_environment(), stderr=subprocess.DEVNULL)
    try:
        inner = harness.eventually(lambda: children(outer.pid))[0]
        hosts = harness.eventually(lambda: hosts_with_tables(inner))
        os.kill(inner, signal.SIGTERM)
        outer.wait(harness.LIMIT)
    finally:
        outer.kill()
        outer.wait()
    assert not pathlib.Path(f"/proc/{inner}").exists()
    for namespace in hosts:
        assert list(pathlib.Path("/dev/shm").glob(f"tuplebind.*.{namespace}*")) == []
