"""What a suite is: programs that run tests somebody else wrote, and how to read what came of each test.

A Unit is one program of a suite: it runs on a ground of its own, and its output names its tests. The
parsers below turn that output into {test: "passed" | "failed" | "skipped"}.
"""
import dataclasses
import pathlib
import re
from collections.abc import Callable

import ground

HERE = pathlib.Path(__file__).resolve().parent
WORDS = ("passed", "failed", "skipped")


@dataclasses.dataclass
class Unit:
    name: str
    argv: list
    parse: Callable  # of what it printed (or left in ground.RESULTS), its exit code
    # Of a list of tests: the command line that runs these alone. None: the unit can only be run whole.
    alone: Callable | None = None
    # Of what it printed: how many of its tests it has not come to. None: only how it ended tells whether there are any.
    left_out: Callable | None = None
    cwd: pathlib.Path | None = None
    environment: dict = dataclasses.field(default_factory=dict)
    limit: int = 240  # seconds
    mended: tuple = ()  # libraries that mend the program itself: preloaded both ways


@dataclasses.dataclass
class Source:
    """A Debian source package, unpacked and built below build-suites/."""
    package: str
    build: str = ":"  # shell commands, at the top of the source


@dataclasses.dataclass
class Suite:
    name: str
    about: str  # what of it is run, for the table
    units: Callable  # of the directory of its source (or None): the list of Units
    least: int  # tests that are to run, with and without tuplebind
    bound: int  # connects that tuplebind is to have given a tuple, at least
    packages: list = dataclasses.field(default_factory=list)
    source: Source | None = None
    long: bool = False  # only with --long
    # Tests whose result cannot be the same, and why. They are not counted.
    inherent: dict = dataclasses.field(default_factory=dict)


# Python's unittest and Twisted's trial, by unittests.py.

def parse_lines(text, code):
    """What unittests.py left. A test that began and has not ended has failed."""
    found, open_tests = {}, set()
    for line in text.splitlines():
        word, _, test = line.partition(" ")
        if word == "begun":
            open_tests.add(test)
        elif word in WORDS:
            open_tests.discard(test)
            if found.get(test) != "failed":  # a sub-test that failed comes first
                found[test] = word
    return found | {test: "failed" for test in open_tests}


def left_out_of_lines(text):
    """unittests.py says first how many tests there are, and at last that there are no more."""
    planned = re.search(r"^planned (\d+)$", text, re.MULTILINE)
    if planned is None or re.search(r"^over$", text, re.MULTILINE):
        return 0
    ended = {line.partition(" ")[2] for line in text.splitlines() if line.partition(" ")[0] in WORDS}
    return max(0, int(planned[1]) - len(ended))


def dotted_name(test):
    """Of "setUpClass (module.Class)" the class, whose tests have not run."""
    return re.sub(r"^\w+ \((.*)\)$", r"\1", test)


def python_unit(python, module, *options, **more):
    def argv(names):
        return [python, str(HERE / "unittests.py"), *options, ground.RESULTS, *names]
    return Unit(module, argv([module]), parse_lines, lambda tests: argv([dotted_name(test) for test in tests]),
                left_out_of_lines, **more)


# TAP, as GLib, Perl and others print it.

def parse_tap(text, code):
    """Tests are named by their description, else their number; one more is the program itself."""
    found = {}
    for line in text.splitlines():
        matched = re.match(r"\s*(not )?ok\b ?(\d+)?(?:\s*-)?\s*(.*)", line)
        if not matched:
            continue
        failed, number, rest = matched.groups()
        name, _, directive = rest.partition("#")
        word = "failed" if failed else "passed"
        if directive.strip().upper().startswith(("SKIP", "TODO")):
            word = "skipped"
        name = name.strip() or number or "?"
        if found.get(name) != "failed":
            found[name] = word
    found["the program"] = "passed" if code == 0 else "skipped" if code == 77 else "failed"
    return found


def left_out_of_tap(text):
    """The plan says how many there are, if it comes first."""
    planned = re.search(r"^1\.\.(\d+)", text, re.MULTILINE)
    return max(0, int(planned[1]) - len(re.findall(r"^(?:not )?ok\b", text, re.MULTILINE))) if planned else 0


def parse_exit(text, code):
    """A program that is one test."""
    return {"the program": "passed" if code == 0 else "skipped" if code == 77 else "failed"}
