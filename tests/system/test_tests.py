"""The tests and scripts/bench start on any machine: whatever python3 is, and whether or not it has pytest."""

import os
import subprocess

import harness
import pytest

from harness import REPOSITORY

DEBIAN = "/usr/bin/python3"


def run(*words, before=()):
    return subprocess.run([*before, *words], cwd=REPOSITORY, env=harness.clean_environment(), capture_output=True,
                          text=True, timeout=60)


@pytest.fixture
def bare(tmp_path):
    """A python3 without pytest."""
    run(DEBIAN, "-m", "venv", "--without-pip", tmp_path / "venv").check_returncode()
    python = tmp_path / "venv" / "bin" / "python3"
    assert run(python, "-P", "-c", "import pytest").returncode != 0
    return python


@pytest.fixture
def with_another(bare):
    """A python3 with a pytest of its own, which is not Debian's."""
    [site] = bare.parent.parent.glob("lib/python3*/site-packages")
    (site / "pytest").mkdir()
    (site / "pytest" / "__init__.py").write_text("whose = 'its own'\n")
    (site / "pytest" / "__main__.py").write_text("import sys, pytest\nprint(pytest.whose, *sys.argv[1:])\n")
    return bare


def test_a_python_without_pytest(bare):
    result = run(bare, "-m", "pytest", "--collect-only", "-q", "tests/system/test_tests.py", "-p", "no:cacheprovider")
    assert result.returncode == 0 and "test_a_python_without_pytest" in result.stdout, result


def test_debians_has_its_own():
    import_it = "import pytest; print(pytest.__file__, pytest.fixture.__name__)"
    assert run(DEBIAN, "-c", import_it).stdout == f"{pytest.__file__} fixture\n"
    assert "pytest" in run(DEBIAN, "-m", "pytest", "--version").stdout


def test_another_python_has_its_own(with_another):
    assert run(with_another, "-c", "import pytest; print(pytest.whose)").stdout == "its own\n"
    assert run(with_another, "-m", "pytest", "-q", "x y").stdout == "its own -q x y\n"


def test_nobody_has_it(bare):
    """The package is named."""
    if os.geteuid() != 0:
        pytest.skip("only root can hide it")
    folder = os.path.dirname(pytest.__file__)
    hide = f'mount -t tmpfs none {folder} && exec "$@"'
    for python in (bare, DEBIAN):
        result = run(python, "-m", "pytest", before=["unshare", "--mount", "sh", "-c", hide, "sh"])
        assert result.returncode == 1 and "apt-get install python3-pytest" in result.stderr, result
        assert result.stderr.count("\n") == 1
    result = run(bare, "-c", "import pytest")
    assert "ModuleNotFoundError: No module named 'pytest'" in result.stderr


def test_nothing_is_built(tmp_path):
    """One line, with the command."""
    result = subprocess.run([DEBIAN, "-m", "pytest", "tests/system/test_tests.py", "-p", "no:cacheprovider"], cwd=REPOSITORY,
                            env=harness.clean_environment() | {"TUPLEBIND_BUILD": str(tmp_path)}, capture_output=True,
                            text=True, timeout=60)
    assert result.returncode != 0 and "meson compile -C" in result.stdout + result.stderr, result
    assert "Error" not in result.stdout


def test_bench_does_without(bare):
    """scripts/bench measures, it does not test."""
    result = run(bare, "tests/bench/bench.py", "--help")
    assert result.returncode == 0 and "--quick" in result.stdout, result
