"""unittests.py [--trial] [--without ID]... RESULTS NAME...: runs tests by their dotted names.

They are of Python's unittest, or of Twisted's trial.

Appends to the file RESULTS a line for each test as it starts ("begun ID") and as it ends ("passed", "failed" or
"skipped"), so that what a crash or a time limit cuts short is told as well; before them "planned N", the number of
tests, and after them "over". Runs under any Python, and knows nothing of tuplebind.
"""
import argparse
import errno
import faulthandler
import os
import sys
import unittest

HANGS = 100  # seconds: a test that takes longer ends the run


waiting = []  # lines that could not be written yet


def tell(line):
    """To the results, which are opened anew each time, since tests close descriptors, or use all there are."""
    waiting.append(line + "\n")
    try:
        with open(results, "a", encoding="utf-8") as file:
            file.writelines(waiting)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    else:
        waiting.clear()


class Lines:
    """For results: notes how each test ended."""

    def note(self, word, test):
        name = test if isinstance(test, str) else test.id()
        tell(word + " " + name.replace("\n", " "))

    def startTest(self, test):
        self.note("begun", test)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        super().startTest(test)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addSuccess(self, test, *more):
        super().addSuccess(test, *more)
        self.note("passed", test)

    def addError(self, test, *more):
        super().addError(test, *more)
        self.note("failed", test)

    def addFailure(self, test, *more):
        super().addFailure(test, *more)
        self.note("failed", test)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.note("failed", test)

    def addSkip(self, test, *more):
        super().addSkip(test, *more)
        self.note("skipped", test)

    def addExpectedFailure(self, test, *more):
        super().addExpectedFailure(test, *more)
        self.note("passed", test)

    def addUnexpectedSuccess(self, test, *more):
        super().addUnexpectedSuccess(test, *more)
        self.note("failed", test)


class Result(Lines, unittest.TextTestResult):
    pass


def prepare_standard_library():
    """Python's own tests are to leave alone what needs another host, much memory or a display."""
    try:
        from test import support
        support.use_resources = ["subprocess", "network"]  # as they call sockets; test_socketserver has no others
        support.verbose = True
    except ImportError:
        pass


def run_trial(names):
    from twisted.trial import reporter, runner

    class Reporter(Lines, reporter.VerboseTextReporter):
        pass

    suite = runner.TestLoader().loadByNames(names)
    tell(f"planned {suite.countTestCases()}")
    runner.TrialRunner(Reporter, workingDirectory=os.path.join(os.environ["TMPDIR"], "trial")).run(suite)


def less(suite, without):
    """All but the tests of some names (or of modules, classes of theirs)."""
    kept = unittest.TestSuite()
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            kept.addTest(less(item, without))
        elif not any(item.id() == name or item.id().startswith(name + ".") for name in without):
            kept.addTest(item)
    return kept


def main():
    global results
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("results")
    parser.add_argument("names", nargs="+")
    given = parser.parse_args()
    results = given.results
    sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]
    if given.trial:
        run_trial(given.names)
    else:
        prepare_standard_library()
        suite = less(unittest.defaultTestLoader.loadTestsFromNames(given.names), given.without)
        tell(f"planned {suite.countTestCases()}")
        unittest.TextTestRunner(resultclass=Result, verbosity=2).run(suite)
    tell("over")


if __name__ == "__main__":
    main()
