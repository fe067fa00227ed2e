"""`tuplebind reset`: removes tables, only tables, only this user's of this namespace, and none that is in use.

Whatever else lies in /dev/shm under such names is left alone and told; a program that attaches in the
moment of removal keeps its table.
"""

import contextlib
import glob
import mmap
import os
import pathlib
import stat
import subprocess

import harness
import pytest
import tables

from harness import COMMAND

TO, PORT = "127.0.0.1", 8001

# Before the command locks a file to remove it, asks the test and waits for its answer.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int flock(int fd, int how)
{
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    char byte;
    write(atoi(getenv("ASKS")), "r", 1);
    read(atoi(getenv("HEARS")), &byte, 1);
    return real(fd, how);
}
"""


@pytest.fixture
def served(host):
    host.sink(f"0.0.0.0 {PORT}")
    return host


def name_of(host):
    """The default table's, as status shows it."""
    return f"{harness.table_user()}.{host.namespace}"


def own(host, tail=""):
    return pathlib.Path(f"/dev/shm/tuplebind.{harness.table_user()}.{host.namespace}{tail}")


def reset(host, *words, code=0):
    result = host.tuplebind("reset", *words)
    assert result.code == code, result
    assert (result.err == "") == (code == 0), result
    return result.out if code == 0 else result.err


# What is removed.

def test_nothing_there(host):
    host.tuplebind("reset")  # of an earlier namespace of that number, whose test was killed
    assert reset(host) == "no tables of this user in this network namespace\n"


def test_all(host):
    for settings in ({}, {"table": "one"}, {"table": "a.b-c_D"}):
        tables.leave(host, **settings)
    out = reset(host)
    assert sorted(line.split(":")[0] for line in out.splitlines()) == \
        sorted([name_of(host), "one", "a.b-c_D"])
    assert all("removed, 8192 KB, 0 claims" in line for line in out.splitlines())
    assert host.tables() == []


def test_by_name(host):
    default, one = tables.leave(host), tables.leave(host, table="one")
    assert reset(host, "one") == "one: removed, 8192 KB, 0 claims\n"
    assert host.tables() == [default]
    assert "there is no table one" in reset(host, "one", code=125)
    assert reset(host, name_of(host)).startswith(name_of(host))
    assert host.tables() == [] and one


def test_claims_of_the_dead(served):
    steps = served.steps()
    steps.open(TO, PORT, 7)
    steps.program.signal()
    assert "7 claims" in reset(served)


def test_other_version(host):
    path = tables.leave(host)
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\x63")
    assert "of another version" in reset(host)
    assert host.tables() == []


def test_scribbled(host):
    """A header that is still a table's, then noise."""
    path = tables.leave(host)
    with open(path, "r+b") as file:
        file.seek(56)
        file.write(os.urandom((1 << 20) - 56))
    assert "overwritten" in reset(host)
    assert host.tables() == []


def test_other_namespaces(host):
    with contextlib.closing(harness.Host()) as other:
        tables.leave(other)
        tables.leave(host)
        reset(host)
        assert host.tables() == [] and len(other.tables()) == 1
        assert "there is no table" in reset(host, name_of(other), code=125)
        assert len(other.tables()) == 1


# In use.

def test_in_use(served):
    """Refused; by force it goes, and the program with it goes on, beside those with a new one."""
    steps = served.steps()
    steps.open(TO, PORT, 5)
    [path] = served.tables()
    assert f"in use by {steps.program.pid} (steps)" in reset(served, code=125)
    assert served.tables() == [path] and len(served.claims(PORT)) == 5
    out = reset(served, "--force")
    assert f"in use still by {steps.program.pid} (steps)" in out and "5 claims" in out
    assert served.tables() == []
    others = [served.steps() for _ in range(3)]
    fds = steps.open(TO, PORT, 400)
    for other in others:
        other.open(TO, PORT, 100)
    assert len(served.tuples(PORT)) == len(set(served.tuples(PORT))) == 705
    for fd in fds:
        assert steps(f"close {fd}") == "0"
    for program in (steps, *others):
        assert program.program.end() == 0


def test_one_in_use(served):
    """The other one goes."""
    tables.leave(served, table="idle")
    steps = served.steps()
    steps.open(TO, PORT)
    result = served.tuplebind("reset")
    assert result.code == 125 and result.out.startswith("idle: removed")
    assert served.tables() == [str(own(served))]


def test_many_users(served):
    programs = [served.steps() for _ in range(8)]
    for steps in programs:
        steps.socket()
    err = reset(served, code=125)
    assert err.count("(steps)") == 5 and "and more" in err


def test_mapped_by_another_version(host):
    """Who has it mapped is seen whatever the table says."""
    path = tables.leave(host)
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\x63")
        file.flush()
        with mmap.mmap(file.fileno(), 4096):
            assert f"{os.getpid()} (" in reset(host, code=125)
    reset(host)


def test_users_out_of_sight(served):
    """From a pid namespace in which they are not, by the table alone."""
    steps = served.steps()
    steps.open(TO, PORT)
    result = served.run("unshare", "--pid", "--fork", "--mount-proc", COMMAND, "reset")
    assert result.code == 125 and f"{steps.program.pid} (by the table)" in result.err
    assert len(served.tables()) == 1


# In the moment.

@pytest.fixture
def shim(tmp_path):
    path = tmp_path / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-o", path, "-"], input=SHIM.encode(),
                   check=True, env=harness.clean_environment())
    return str(path)


@contextlib.contextmanager
def stopped_at_lock(host, shim, *words):
    """A reset that has seen nobody, before it takes the file away."""
    asks, shim_asks = os.pipe()
    shim_hears, answers = os.pipe()
    running = host.start(COMMAND, "reset", *words, preload=shim, pass_fds=(shim_asks, shim_hears),
                         environment={"ASKS": str(shim_asks), "HEARS": str(shim_hears)})
    os.close(shim_asks)
    assert os.read(asks, 1) == b"r", running.errors()
    yield running
    os.write(answers, b"g")
    for fd in (asks, shim_hears, answers):
        os.close(fd)


@pytest.mark.parametrize("force", [False, True])
def test_attached_meanwhile(served, shim, force):
    path = tables.leave(served)
    inode = os.stat(path).st_ino
    with stopped_at_lock(served, shim, *(["--force"] if force else [])) as running:
        steps = served.steps()
        steps.open(TO, PORT, 3)
    code = running.wait()
    if force:
        assert code == 0 and served.tables() == []
    else:
        assert code == 125 and f"in use by {steps.program.pid} (steps)" in running.errors()
        assert os.stat(path).st_ino == inode and len(served.claims(PORT)) == 3
    assert steps.open(TO, PORT, 3)
    assert glob.glob(f"{own(served)}*~new.*") == []


def test_made_anew_meanwhile(served, shim):
    path = tables.leave(served)
    with stopped_at_lock(served, shim) as running:
        os.unlink(path)
        steps = served.steps()
        steps.open(TO, PORT, 3)
    assert running.wait() == 125 and "made anew" in running.errors()
    assert len(served.claims(PORT)) == 3 and glob.glob(f"{own(served)}*~new.*") == []


def test_gone_meanwhile(served, shim):
    path = tables.leave(served)
    with stopped_at_lock(served, shim) as running:
        os.unlink(path)
    assert running.wait() == 0 and served.tables() == []


def test_beside_programs_that_start(served):
    """Whoever is quicker: every program connects, and nothing is left over."""
    resets = served.start("sh", "-c", 'for i in $(seq 60); do "$0" reset >/dev/null 2>&1; done; echo done', COMMAND)
    for _ in range(40):
        steps = served.steps()
        steps.open(TO, PORT, 5)
        assert steps.program.end() == 0 and steps.program.errors() == ""
    assert resets.line() == "done"
    reset(served)
    assert glob.glob(f"/dev/shm/*{served.namespace}*") == []


# What is no table.

@pytest.fixture
def victim(tmp_path):
    file = tmp_path / "victim"
    file.write_bytes(b"precious" * 1000)
    yield file
    assert file.read_bytes() == b"precious" * 1000


def make_symlink(path, victim):
    path.symlink_to(victim)


def make_directory(path, victim):
    path.mkdir()


def make_fifo(path, victim):
    os.mkfifo(path)


def make_text(path, victim):
    path.write_bytes(victim.read_bytes())


def make_empty(path, victim):
    path.touch()


@pytest.mark.parametrize("make, says", [
    (make_symlink, "a symbolic link"), (make_directory, "not a regular file"), (make_fifo, "not a regular file"),
    (make_text, "not a tuple table"), (make_empty, "not a tuple table")])
@pytest.mark.parametrize("words", [[], ["--force"], ["--force", "it"]])
def test_no_tables(host, victim, make, says, words):
    tables.leave(host)
    path = own(host, ".it")
    make(path, victim)
    before = path.lstat()
    try:
        err = reset(host, *words, code=125)
        assert len(err.splitlines()) == 1 and says in err and "left alone" in err
        assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
        # The others are not spoilt by it.
        assert own(host).exists() == ("it" in words)
    finally:
        path.rmdir() if stat.S_ISDIR(before.st_mode) else path.unlink()


def test_another_users(host):
    """With a name of ours, and with one of its own."""
    table = pathlib.Path(tables.leave(host))
    harness.give_away(table)
    other = pathlib.Path(f"/dev/shm/tuplebind.{harness.OTHER_USER}.{host.namespace}")
    other.write_bytes(table.read_bytes())
    harness.give_away(other)
    assert "belongs to another user" in reset(host, "--force", code=125)
    assert table.exists() and other.exists()


@pytest.mark.parametrize("tail", [".\x1b[2J", ".a\nb", "..", ".a b", ".\udcff", "." + "x" * 65, ".'; rm -r x"])
def test_names_that_no_table_has(host, tail):
    table = tables.leave(host)
    path = own(host, tail)
    os.rename(table, path)
    err = reset(host, code=125)
    assert len(err.splitlines()) == 1 and "not a name of a table" in err and "\x1b" not in err
    assert path.exists()


@pytest.mark.parametrize("words", [["--nix"], ["a", "b"], ["private"], ["../../etc/passwd"], [""], ["a/b"],
                                   ["x" * 65], [".a"]])
def test_bad_words(host, words):
    tables.leave(host)
    assert len(reset(host, *words, code=125).splitlines()) == 1
    assert len(host.tables()) == 1


def test_help_fits_a_screen(host):
    out = host.must(COMMAND, "reset", "--help")
    assert len(out.splitlines()) <= 24 and max(map(len, out.splitlines())) <= 80
