"""How suites are judged: of programs that hang, crash or fail, with tuplebind, without it, or both.

The first tests play the runs; the last ones run programs that do hang.
"""
import collections
import os
import subprocess
import sys

import compare
import ground
import pytest
import suite as s

TAP = "1..3\nok 1 /a\nok 2 /b\nok 3 /c\n"
HALF = "1..3\nok 1 /a\n"  # where it hung
GOOD = ground.Ended(0, TAP, "", False)
HUNG = ground.Ended(-9, HALF, "", True)
HUNG_AT_ONCE = ground.Ended(-9, "1..3\n", "", True)
ABORTED = ground.Ended(-6, HALF, "", False)
WATCHED = ground.Ended(1, HALF, "Timeout (0:01:40)!\nThread 0x1:\n", False)  # one test of it hung
STOPPED = ground.Ended(1, HALF, "", False)  # ended by itself before all tests were
FAILED = ground.Ended(1, TAP.replace("ok 2", "not ok 2"), "", False)


class Played(compare.Comparison):
    """The runs of a program come from two lists, for each way one; the last of a list is for all that follow."""

    def __init__(self, suite, plain, preloaded):
        super().__init__(suite, None)
        self.runs = {compare.WAYS[0]: list(plain), compare.WAYS[1]: list(preloaded)}
        self.ran = collections.Counter()

    def perform(self, unit, argv, preload):
        runs = self.runs[preload]
        self.ran[preload] += 1
        return runs.pop(0) if len(runs) > 1 else runs[0], 0, 0


def unit(**more):
    return s.Unit("program", ["program"], s.parse_tap, lambda tests: ["program", *tests], s.left_out_of_tap, **more)


def judged(plain, preloaded, least=4):
    """What comes of a suite of one program, of three tests and "the program"."""
    played = Played(s.Suite("suite", "", None, least, 0), plain, preloaded)
    outcome = played.run([unit()])
    return outcome, played.ran[None]


def test_all_is_well():
    outcome, ran = judged([GOOD], [GOOD])
    assert (outcome.count(), outcome.different, outcome.endless, outcome.wrong, ran) == (4, [], [], [], 1)


@pytest.mark.parametrize("cut", [HUNG, HUNG_AT_ONCE, WATCHED, ABORTED, STOPPED])
@pytest.mark.parametrize("times", [1, compare.TRIES - 1])
def test_cut_short_without_it_now_and_then(cut, times):
    """It counts as soon as it has come to its end without tuplebind."""
    outcome, ran = judged([cut] * times + [GOOD], [GOOD])
    assert (outcome.count(), outcome.different, outcome.endless, outcome.wrong, ran) == (4, [], [], [], times + 1)


@pytest.mark.parametrize("cut", [HUNG, HUNG_AT_ONCE, WATCHED])
@pytest.mark.parametrize("preloaded", [GOOD, "the same"])
def test_always_hangs_without_it(cut, preloaded):
    """Listed, and its tests are not missed."""
    other = preloaded if preloaded != "the same" else cut
    outcome, _ = judged([cut], [other], least=4)
    if cut is HUNG_AT_ONCE:  # then nothing ran at all
        assert outcome.count() == 0 and len(outcome.wrong) == 1
        return
    assert (outcome.count(), outcome.different, outcome.wrong) == (1, [], [])
    endless, = outcome.endless
    assert endless.name == "program" and endless.missing == 3 and "without tuplebind too" in str(endless)


@pytest.mark.parametrize("cut", [ABORTED, STOPPED])
def test_always_crashes_without_it(cut):
    """It fails both ways, and what it leaves out is missed."""
    outcome, _ = judged([cut], [cut], least=3)
    assert (outcome.count(), outcome.different, outcome.endless, outcome.same["failed"]) == (2, [], [], 1)
    assert outcome.wrong == ["2 tests ran, 3 were to run"]


def test_hangs_or_crashes_without_it():
    """Once hung, its crashes are taken for the same: a request that is not answered may end the program itself."""
    outcome, _ = judged([ABORTED, HUNG, ABORTED], [GOOD])
    assert (outcome.count(), outcome.different, outcome.wrong) == (1, [], []) and outcome.endless


@pytest.mark.parametrize("cut", [HUNG, WATCHED, ABORTED])
def test_cut_short_where_no_plan_tells(cut):
    assert compare.cut_short(s.Unit("program", [], s.parse_tap), cut)
    assert not compare.cut_short(s.Unit("program", [], s.parse_tap), FAILED)


def test_many_tests_that_hung_both_ways():
    """Those that are too many to be judged are not taken at their word."""
    count = compare.AT_ONCE + 3
    good = ground.Ended(0, f"1..{count}\n" + "".join(f"ok {i} /{i}\n" for i in range(count)), "", False)
    hung = ground.Ended(-9, f"1..{count}\n", "", True)
    outcome, _ = judged([hung, good], [good] + [hung] * (1 + compare.TRIES + 1) + [good], least=1)
    assert (outcome.different, outcome.wrong) == ([], [])
    endless, = outcome.endless
    assert outcome.count() == compare.AT_ONCE and endless.missing == count + 1 - compare.AT_ONCE


def test_too_few_although_some_hung():
    """Only as many are not missed as the program left out."""
    outcome, _ = judged([HUNG], [GOOD], least=5)
    assert outcome.wrong == ["1 tests ran (3 are left out without tuplebind too), 5 were to run"]


def test_too_few():
    outcome, _ = judged([GOOD], [GOOD], least=5)
    assert outcome.wrong == ["4 tests ran, 5 were to run"]


@pytest.mark.parametrize("cut", [HUNG, ABORTED, STOPPED])
def test_cut_short_with_it_only(cut):
    outcome, ran = judged([GOOD], [cut])
    assert ran == 2 + 2 * compare.AGAIN  # not as often for each test that it leaves out
    assert [difference.test for difference in outcome.different] == \
        ["program: /b", "program: /c", "program: the program"] and not outcome.endless


@pytest.mark.parametrize("times", range(1, compare.TRIES))
def test_hangs_always_with_it_and_now_and_then_without(times):
    """A difference, although it is not the only way that hangs."""
    outcome, _ = judged([HUNG] * times + [GOOD], [HUNG])
    assert outcome.different


def test_hangs_now_and_then_both_ways():
    outcome, _ = judged([HUNG, GOOD], [GOOD, HUNG, GOOD, HUNG, GOOD])
    assert (outcome.count(), outcome.different, outcome.wrong) == (4, [], []) and outcome.flaky


@pytest.mark.parametrize("times", range(1, compare.TRIES))
def test_hangs_again_when_run_again(times):
    """Run again as a whole first: of each of its tests alone it would take long."""
    outcome, ran = judged([HUNG_AT_ONCE, GOOD], [GOOD, HUNG] + [HUNG] * times + [GOOD])
    assert (outcome.count(), outcome.different, outcome.wrong, ran) == (4, [], [], 3 + times)


def test_hangs_now_and_then_with_it_only():
    """As a failure: it passes without tuplebind each time, and with it not."""
    outcome, _ = judged([GOOD], [HUNG, HUNG, GOOD, HUNG, GOOD])
    assert outcome.different


def test_fails_with_it_only_and_hung_once_without():
    outcome, _ = judged([HUNG, GOOD], [GOOD, FAILED])
    assert "program: /b" in [difference.test for difference in outcome.different]


def test_crashes_now_and_then_without_it_and_fails_with_it():
    """That a program hangs now and then excuses its hangs, not what else it does under tuplebind."""
    outcome, _ = judged([HUNG, GOOD], [GOOD, FAILED, FAILED, GOOD, FAILED])
    assert "program: /b" in [difference.test for difference in outcome.different]


def test_a_test_alone_may_hang_without_it():
    """The pairs of these count for nothing."""
    outcome, _ = judged([GOOD, HUNG_AT_ONCE, GOOD], [FAILED])
    assert "program: /b" in [difference.test for difference in outcome.different]


def test_fails_both_ways():
    outcome, _ = judged([FAILED], [FAILED])
    assert (outcome.count(), outcome.different, outcome.wrong, outcome.same["failed"]) == (4, [], [], 2)


def test_lines_of_a_run_that_was_cut_short():
    begun = "planned 2\nbegun a\npassed a\nbegun b\n"
    assert s.left_out_of_lines(begun) == 1
    assert s.left_out_of_lines(begun + "passed b\nover\n") == 0
    assert s.left_out_of_lines("planned 2\nskipped setUpClass (a)\nover\n") == 0
    assert s.parse_lines(begun, 1) == {"a": "passed", "b": "failed"}


def test_plan():
    assert [s.left_out_of_tap(ended.text) for ended in (GOOD, HUNG, HUNG_AT_ONCE, FAILED)] == [0, 2, 3, 0]
    assert s.left_out_of_tap("ok 1 - a\n    ok 1 - of a\n1..1\n") == 0
    assert s.left_out_of_tap("1..0 # SKIP none\n") == 0
    assert s.left_out_of_tap("") == 0


GREEDY = """
import os, resource, unittest
class Tests(unittest.TestCase):
    def test_a(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        type(self).held = [os.dup(0) for _ in range(64 - len(os.listdir("/proc/self/fd")) + 1)]
    def test_b(self):
        pass
    def test_c(self):
        for descriptor in self.held:
            os.close(descriptor)
"""


def test_results_when_descriptors_are_used_up(tmp_path):
    """They are written later, and the tests go on."""
    (tmp_path / "greedy.py").write_text(GREEDY)
    ran = subprocess.run([sys.executable, ground.HERE / "unittests.py", "results", "greedy"], cwd=tmp_path,
                         env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    left = (tmp_path / "results").read_text()
    assert ran.returncode == 0 and left.startswith("planned 3\n") and s.left_out_of_lines(left) == 0, ran.stderr
    assert set(s.parse_lines(left, 0).values()) == {"passed"} and len(s.parse_lines(left, 0)) == 3


SCRIPT = """echo 1..2; echo ok 1 /a; case ${LD_PRELOAD-} in %s) exec sleep 60;; esac; echo ok 2 /b"""


@pytest.mark.parametrize("where, different, endless",
                         [("*tuplebind*", True, False), ("*", False, True), ("none", False, False)])
def test_real_programs(where, different, endless):
    """One that hangs under tuplebind, one that does both ways, one that does not."""
    hanging = s.Unit("program", ["sh", "-c", SCRIPT % where], s.parse_tap, left_out=s.left_out_of_tap, limit=1)
    outcome = compare.Comparison(s.Suite("suite", "", None, 3, 0), None).run([hanging])
    assert (bool(outcome.different), bool(outcome.endless), outcome.wrong) == (different, endless, [])
