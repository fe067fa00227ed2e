"""Runs a suite with and without tuplebind and says for each test whether it comes out the same.

Both ways run side by side, each on a ground of its own. A test that passes without tuplebind only, is run again,
alone, several times both ways: it differs if the plain way then passes every time and the preloaded one does not;
otherwise it is flaky, and counts as the same.

A program that hangs, crashes or stops half-way without tuplebind says nothing of the tests that it has not come to.
It runs again both ways, a few times, until it has come to its end without tuplebind. If it never does, and hung, it is
listed as such, and the tests that it left out are not missed in the suite. (One that crashes each time has failed, and
what it left out is missed.)
"""
import collections
import concurrent.futures
import dataclasses
import os
import re
import threading
import time

import ground
import harness

AGAIN = 5  # times each way
TRIES = 4  # of a program that does not come to its end without tuplebind
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
class Endless:
    """A program, or a test of one, that hung without tuplebind and did not come to its end, however often."""
    name: str
    how: str
    missing: int  # tests that it left out

    def __str__(self):
        return f"{self.name}: {self.how} without tuplebind too, {TRIES} times; {self.missing} of its tests are left out"


@dataclasses.dataclass
class Outcome:
    """What came of a suite."""
    same: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by result
    tests: list = dataclasses.field(default_factory=list)  # the names of those that ran and are the same
    different: list = dataclasses.field(default_factory=list)
    inherent: list = dataclasses.field(default_factory=list)
    flaky: list = dataclasses.field(default_factory=list)
    endless: list = dataclasses.field(default_factory=list)
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


def hung(ended):
    """By the limit of the unit, or that of a single test (HANGS in unittests.py)."""
    return ended.timed_out or re.search(r"^Timeout \([\d:]+\)!$", ended.errors, re.MULTILINE) is not None


def cut_short(unit, ended):
    """Whether a run ended before its time."""
    return hung(ended) or ended.code < 0 or bool(unit.left_out and unit.left_out(ended.text))


class Comparison:
    def __init__(self, suite, directory, settings=None):
        self.suite, self.directory = suite, directory
        self.settings = SETTINGS | (settings or {})
        self.outcome = Outcome()
        self.stuck = set()  # names of units that were cut short without tuplebind at least once
        self.lock = threading.Lock()

    def perform(self, unit, argv, preload):
        """One run of a unit, on a ground of its own. (how it ended, connects that got a tuple, those that did not)"""
        made = ground.Ground(self.directory)
        try:
            ended = made.carry_out(argv, together(preload, unit.mended), unit.limit, unit.cwd, unit.environment,
                                   self.settings if preload else {})
            return ended, *made.bound()
        finally:
            made.close()

    def carry_out(self, unit, argv, preload):
        """One run of a unit. ({test: result}, how it ended)"""
        ended, bound, passed = self.perform(unit, argv, preload)
        with self.lock:
            if preload is None and cut_short(unit, ended):
                self.stuck.add(unit.name)
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
        """Alone, so many times both ways: (results plain, results preloaded, how the bad ones among these ended).

        Pairs whose plain way is cut short are not among them, and another one is run for each, up to TRIES.
        """
        argv = unit.alone([test]) if unit.alone else unit.argv
        plain, preloaded, bad, short = [], [], [], 0
        while len(plain) < AGAIN and short < TRIES:
            (one, one_ended), (other, ended) = self.both(unit, argv)
            if one.get(test) != "passed" and cut_short(unit, one_ended):
                short += 1
                continue
            plain.append(one.get(test, "not run"))
            preloaded.append(other.get(test, "not run"))
            if preloaded[-1] != "passed":
                bad.append(ended)
            if plain[-1] != "passed":
                break
        return plain, preloaded, bad

    def differs(self, unit, ones, others, bad):
        """Whether the results of again() speak against tuplebind."""
        if not bad or any(word != "passed" for word in ones):
            return False
        # A program that is stuck now and then without tuplebind may be so with it, but not each time.
        now_and_then = unit.name in self.stuck and all(cut_short(unit, ended) for ended in bad)
        return not (now_and_then and "passed" in others)

    def judge(self, unit, test, plain, preloaded):
        """Of a test that came out worse under tuplebind: whether it does when alone. False: that cannot be said."""
        name = f"{unit.name}: {test}"
        ones, others, bad = self.again(unit, test)
        if not ones:
            return False
        counts = (f"{plain} without, {preloaded} with; alone {ones.count('passed')} of {len(ones)} without, "
                  f"{others.count('passed')} of {len(others)} with")
        with self.lock:
            if not self.differs(unit, ones, others, bad):
                self.outcome.flaky.append(f"{name}: {counts}")
                self.outcome.tests.append(name)
                self.outcome.same["flaky"] += 1
                return True
            tail = "\n".join((bad[-1].errors or bad[-1].text).splitlines()[-40:])
            difference = Difference(name, plain, preloaded, f"{counts}\n{tail}")
            (self.outcome.inherent if self.reason(name) else self.outcome.different).append(difference)
            return True

    def differ(self, unit, test, plain, words, told):
        """A test that is taken at its word."""
        self.outcome.different.append(Difference(f"{unit.name}: {test}", plain.get(test, "not run"), words[test], told))

    def is_told(self, unit):
        """Whether a test that the program did not come to differs when it is alone. Each may take a limit's time."""
        return any(difference.test.startswith(f"{unit.name}: ") and difference.preloaded == "not run"
                   for difference in self.outcome.different)

    def reason(self, name):
        return self.suite.inherent.get(name)

    def once_more(self, unit, suspects, with_out):
        """Those of the suspects that come out worse in a run of these only; it finds what a crash hid.

        One run, or some, as long as they say nothing: the program is cut short without tuplebind, or with it as it
        has been without.
        """
        for _ in range(TRIES):
            if unit.alone is None or len(suspects) < 3:
                return suspects
            (plain, plain_ended), (preloaded, ended) = self.both(unit, unit.alone(suspects))
            suspects = self.still_worse(unit, suspects, with_out, plain, preloaded)
            if not (cut_short(unit, plain_ended) or unit.name in self.stuck and cut_short(unit, ended)):
                break
        return suspects

    def still_worse(self, unit, suspects, with_out, plain, preloaded):
        """The others passed this time."""
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

    def to_an_end(self, unit):
        """Both ways; again, while the plain way is cut short. The last pair, and whether it never was over and hung."""
        endless = False
        for _ in range(TRIES):
            pair = self.both(unit, unit.argv)
            ended = pair[0][1]
            if not cut_short(unit, ended):
                return *pair, False
            endless = endless or hung(ended)
        return *pair, endless

    def counted(self, unit):
        """How many tests of the unit are in the count."""
        names = [*self.outcome.tests, *(difference.test for difference in self.outcome.different)]
        return sum(name.startswith(f"{unit.name}: ") for name in names)

    def left_out(self, unit, runs):
        """Of a unit that was cut short: how many tests there are, as far as can be told, that are not in the count."""
        results = {test: word for results, _ in runs for test, word in results.items() if test != "the program"}
        skipped = sum(word == "skipped" for word in results.values())
        told = max(len(found) + unit.left_out(ended.text) if unit.left_out else 0 for found, ended in runs)
        return max(0, max(told, len(results)) - skipped - self.counted(unit))

    def compare(self, unit):
        began = time.monotonic()
        (plain, plain_ended), (preloaded, ended), endless = self.to_an_end(unit)
        self.outcome.took[unit.name] = time.monotonic() - began
        suspects, words = [], {}
        for test, word in plain.items():
            other = preloaded.get(test, "not run")
            if word == "passed" != other:
                suspects.append(test)
                words[test] = other
            elif endless and word == "failed":
                pass  # it has no result that would be its own
            elif word != "skipped" and other != "not run":
                with self.lock:
                    self.outcome.tests.append(f"{unit.name}: {test}")
                    self.outcome.same[word] += 1
        # Tests that only the preloaded way has run, and badly; alone, the plain way may pass.
        for test, word in preloaded.items():
            if word == "failed" and plain.get(test) in (None, "skipped"):
                suspects.append(test)
                words[test] = word
        if not plain and not endless:
            self.outcome.wrong.append(f"{unit.name}: no test was run: "
                                      + "\n".join((plain_ended.errors + plain_ended.text).splitlines()[-20:]))
        suspects = self.once_more(unit, suspects, words)
        open_tests = []
        for test in suspects[:AT_ONCE]:
            if words[test] == "not run" and self.is_told(unit):
                self.differ(unit, test, plain, words, "not run again: as another of the program's")
            elif not self.judge(unit, test, plain.get(test, "not run"), words[test]):
                open_tests.append(test)
        if unit.name in self.stuck and cut_short(unit, ended):  # no test's own result, as far as can be told
            open_tests += suspects[AT_ONCE:]
            suspects = []
        for test in suspects[AT_ONCE:]:
            self.differ(unit, test, plain, words, "not run again: too many differ")
        if endless:
            missing = self.left_out(unit, [(plain, plain_ended), (preloaded, ended)])
            self.outcome.endless.append(Endless(unit.name, f"not over after {unit.limit} s", missing))
        elif open_tests:
            self.outcome.endless.append(Endless(f"{unit.name}: {open_tests[0]}" + (" ..." if open_tests[1:] else ""),
                                                "alone it is cut short", len(open_tests)))

    def check_numbers(self):
        """Whether as many tests ran, and connects were given a tuple, as the suite says."""
        suite, outcome = self.suite, self.outcome
        missing = sum(endless.missing for endless in outcome.endless)
        if not outcome.count() or outcome.count() + missing < suite.least:
            known = f" ({missing} are left out without tuplebind too)" if missing else ""
            outcome.wrong.append(f"{outcome.count()} tests ran{known}, {suite.least} were to run")
        if outcome.bound < suite.bound:
            outcome.wrong.append(f"tuplebind gave {outcome.bound} connects a tuple, {suite.bound} were to be given one")

    def run(self, units):
        # Tests mostly wait.
        with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
            list(pool.map(self.compare, units))
        self.check_numbers()
        return self.outcome
