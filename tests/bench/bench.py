"""scripts/bench, once everything is built: runs measures and writes what they came to. See there for options."""

import argparse
import contextlib
import glob
import os
import pathlib
import signal
import sys
import tempfile

from ground import harness
import measures
import report
import rules

MEASURES = {
    "fill": measures.measure_fill,
    "churn": measures.measure_churn,
    "failing": measures.measure_failing,
    "timewait": measures.measure_timewait,
    "first": measures.measure_first,
    "scale": measures.measure_scale,
    "table": measures.measure_table,
    "memory": measures.measure_memory,
    "start": measures.measure_start,
    "udp": measures.measure_udp,
    "instructions": measures.measure_instructions,
    "rules": rules.measure_rules,
    "million": measures.measure_million,
}


class Bench:
    """What a measure is given: how much to do, where to say how far it is, where to put what came of it."""

    def __init__(self, quick, out):
        self.quick = quick
        self.report = report.Report(out, MEASURES)
        self.terminal = sys.stderr.isatty()
        self.round = ""

    def pick(self, full, quick):
        return quick if self.quick else full

    def rounds(self, name, full, quick):
        count = self.pick(full, quick)
        for number in range(count):
            self.round = f"{name}, round {number + 1} of {count}"
            self.step()
            yield number

    def step(self, what=""):
        """Says on a terminal what is being done."""
        if self.terminal:
            print(f"\r\033[K{self.round}{': ' * bool(what and self.round)}{what}", end="", file=sys.stderr,
                  flush=True)

    def done(self):
        self.round = ""
        self.step()

    @contextlib.contextmanager
    def folder(self):
        with tempfile.TemporaryDirectory() as name:
            yield name


def read_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures tuplebind against its rivals.",
                                     epilog="measures: " + ", ".join(MEASURES))
    parser.add_argument("names", nargs="*", metavar="MEASURE", help="only these")
    parser.add_argument("--quick", action="store_true",
                        help="a little of everything, to see that it works; what it measures means nothing")
    parser.add_argument("--check", action="store_true", help="exit status 1 when something was not reached")
    parser.add_argument("--out", type=pathlib.Path, help="folder for results (docs/bench; with --quick none)")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in MEASURES:
            parser.error(f'"{name}" is not a measure; there are: {", ".join(MEASURES)}')
    return arguments


def run(names, bench):
    for name in names:
        try:
            MEASURES[name](bench)
        finally:
            bench.done()
        bench.report.write()


def remove_tables():
    """Those of this namespace, where programs were started without connecting."""
    for path in glob.glob(f"/dev/shm/tuplebind.*.{os.stat('/proc/self/ns/net').st_ino}"):
        os.unlink(path)


def main():
    arguments = read_arguments()
    # So that hosts and tables go on every way out; and the first process of a namespace heeds no signal by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as stack:
        stack.callback(remove_tables)
        out = arguments.out
        if out is None:
            out = harness.REPOSITORY / "docs" / "bench"
            if arguments.quick:
                out = stack.enter_context(tempfile.TemporaryDirectory())
        bench = Bench(arguments.quick, out)
        run(arguments.names or MEASURES, bench)
        print(report.markdown(bench.report.rows))
        missed = bench.report.missed()
    if arguments.check and missed:
        for row in missed:
            print(f"scripts/bench: {row.measure}: {row.what}: {float(row.ratio):.2f}, to reach: {row.target}",
                  file=sys.stderr)
        sys.exit(1)


main()
