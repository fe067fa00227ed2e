"""Runs a suite with and without tuplebind and says for each test whether it comes out the same.

Both ways run side by side, each on a ground of its own. A test that passes without tuplebind only, is run again,
alone, several times both ways: it differs if the plain way then passes every time and the preloaded one does not;
otherwise it is flaky, and counts as the same.
"""
import collections
import concurrent.futures
import dataclasses
import os
import threading
import time

import ground
import harness

AGAIN = 5  # times each way
AT_ONCE = 20  # tests that are run again alone; if more differ, the rest is taken at its word
WAYS = (None, str(harness.LIBRARY))  # what is preloaded
SETTINGS = {"protocols": "tcp,udp"}


@dataclasses.dataclass
class Difference:
    test: str
    plain: str
    preloaded: str
    told: str  # the counts, and the end of what the preloaded one printed


@dataclasses.dataclass
class Outcome:
    """What came of a suite."""
    same: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by result
    tests: list = dataclasses.field(default_factory=list)  # the names of those that ran and are the same
    different: list = dataclasses.field(default_factory=list)
    inherent: list = dataclasses.field(default_factory=list)
    flaky: list = dataclasses.field(default_factory=list)
    wrong: list = dataclasses.field(default_factory=list)  # of the suite as a whole
    bound: int = 0
    passed_on: int = 0
    seconds: float = 0
    took: dict = dataclasses.field(default_factory=dict)  # seconds of each unit

    def count(self):
        """Tests that ran, both ways."""
        return len(self.tests) + len(self.different)


def together(preload, mended):
    """The items of LD_PRELOAD, None if there are none: tuplebind, if it is among them, comes first."""
    return ":".join([*([preload] if preload else []), *(str(path) for path in mended)]) or None


class Comparison:
    def __init__(self, suite, directory, settings=None):
        self.suite, self.directory = suite, directory
        self.settings = SETTINGS | (settings or {})
        self.outcome = Outcome()
        self.lock = threading.Lock()

    def carry_out(self, unit, argv, preload):
        """One run of a unit. ({test: result}, how it ended)"""
        made = ground.Ground(self.directory)
        try:
            ended = made.carry_out(argv, together(preload, unit.mended), unit.limit, unit.cwd, unit.environment,
                                   self.settings if preload else {})
            bound, passed = made.bound()
        finally:
            made.close()
        with self.lock:
            if preload is None and (bound, passed) != (0, 0):
                self.outcome.wrong.append(f"{unit.name}: there was a table without the preload")
            self.outcome.bound += bound
            self.outcome.passed_on += passed
        return unit.parse(ended.text, ended.code), ended

    def both(self, unit, argv):
        """The two ways side by side."""
        with concurrent.futures.ThreadPoolExecutor(len(WAYS)) as pool:
            return list(pool.map(lambda way: self.carry_out(unit, argv, way), WAYS))

    def again(self, unit, test):
        """Alone, so many times both ways: (results plain, results preloaded, how the last bad one ended)."""
        argv = unit.alone([test]) if unit.alone else unit.argv
        plain, preloaded, bad = [], [], None
        for _ in range(AGAIN):
            (one, _), (other, ended) = self.both(unit, argv)
            plain.append(one.get(test, "not run"))
            preloaded.append(other.get(test, "not run"))
            if preloaded[-1] != "passed":
                bad = ended
            if plain[-1] != "passed":
                break
        return plain, preloaded, bad

    def judge(self, unit, test, plain, preloaded):
        """Of a test that came out worse under tuplebind: whether it does when it is alone."""
        name = f"{unit.name}: {test}"
        ones, others, bad = self.again(unit, test)
        counts = (f"{plain} without, {preloaded} with; alone {ones.count('passed')} of {len(ones)} without, "
                  f"{others.count('passed')} of {len(others)} with")
        with self.lock:
            if any(word != "passed" for word in ones) or bad is None:
                self.outcome.flaky.append(f"{name}: {counts}")
                self.outcome.tests.append(name)
                self.outcome.same["flaky"] += 1
                return
            tail = "\n".join((bad.errors or bad.text).splitlines()[-40:])
            difference = Difference(name, plain, preloaded, f"{counts}\n{tail}")
            (self.outcome.inherent if self.reason(name) else self.outcome.different).append(difference)

    def reason(self, name):
        return self.suite.inherent.get(name)

    def once_more(self, unit, suspects, with_out):
        """Those of the suspects that come out worse in a second run of these only; it finds what a crash hid."""
        if unit.alone is None or len(suspects) < 3:
            return suspects
        (plain, _), (preloaded, _) = self.both(unit, unit.alone(suspects))
        left = []
        for test in suspects:
            if plain.get(test) == "passed" == preloaded.get(test):
                with self.lock:
                    self.outcome.flaky.append(f"{unit.name}: {test}: {with_out[test]} with, then passed")
                    self.outcome.tests.append(f"{unit.name}: {test}")
                    self.outcome.same["flaky"] += 1
            else:
                left.append(test)
        return left

    def compare(self, unit):
        began = time.monotonic()
        (plain, plain_ended), (preloaded, ended) = self.both(unit, unit.argv)
        if plain_ended.timed_out:  # a program that now and then hangs by itself
            (plain, plain_ended), (preloaded, ended) = self.both(unit, unit.argv)
        self.outcome.took[unit.name] = time.monotonic() - began
        suspects, words = [], {}
        for test, word in plain.items():
            other = preloaded.get(test, "not run")
            if word == "passed" != other:
                suspects.append(test)
                words[test] = other
            elif word != "skipped" and other != "not run":
                with self.lock:
                    self.outcome.tests.append(f"{unit.name}: {test}")
                    self.outcome.same[word] += 1
        # Tests that only the preloaded way has run, and badly; alone, the plain way may pass.
        for test, word in preloaded.items():
            if word == "failed" and plain.get(test) in (None, "skipped"):
                suspects.append(test)
                words[test] = word
        if plain_ended.timed_out:
            self.outcome.wrong.append(f"{unit.name}: not over after {unit.limit} s without tuplebind")
        if not plain:
            self.outcome.wrong.append(f"{unit.name}: no test was run: "
                                      + "\n".join((plain_ended.errors + plain_ended.text).splitlines()[-20:]))
        suspects = self.once_more(unit, suspects, words)
        for test in suspects[:AT_ONCE]:
            self.judge(unit, test, plain.get(test, "not run"), words[test])
        for test in suspects[AT_ONCE:]:
            self.outcome.different.append(Difference(f"{unit.name}: {test}", plain.get(test, "not run"), words[test],
                                                     "not run again: too many differ"))

    def run(self, units):
        # Tests mostly wait.
        with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
            list(pool.map(self.compare, units))
        suite, outcome = self.suite, self.outcome
        if outcome.count() < suite.least:
            outcome.wrong.append(f"{outcome.count()} tests ran, {suite.least} were to run")
        if outcome.bound < suite.bound:
            outcome.wrong.append(f"tuplebind gave {outcome.bound} connects a tuple, {suite.bound} were to be given one")
        return outcome
