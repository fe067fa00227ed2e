"""Who shares a table: programs of one user in one network namespace, whatever pid or user namespace they
are in, whatever version they are of, and whoever else has files of such names.

The table's file stays in /dev/shm under one name, which anybody may have taken: another user, a program in a
user namespace whose root is somebody else outside, another version of tuplebind. All start, also strictly; those
of one user have one table; those of two users have two.
"""

import contextlib
import glob
import mmap
import os
import pathlib
import shutil
import subprocess
import time

import harness
import pytest
import tables

from harness import COMMAND, LIBRARY, OTHER_USER, program

TO, PORT = "127.0.0.1", 8001
VERSION_AT, SIZE_AT, COOKIE_AT = 8, 16, 32
NEXT_USER = OTHER_USER + 1


@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}")
    return host


def inode(path):
    return os.stat(path).st_ino


# Other users.

@pytest.fixture
def others(tmp_path):
    """There are other users."""
    probe = tmp_path / "probe"
    probe.touch()
    harness.give_away(probe)


@pytest.fixture
def open_to_all(tmp_path, others):
    """A directory that other users reach, with the command, the library and steps in it."""
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    for file, place in ((COMMAND, "tools"), (LIBRARY, "lib"), (program("steps"), ".")):
        (tmp_path / place).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / place)
    return tmp_path


def steps_as(host, folder, *words, user=OTHER_USER):
    """steps under a strict `tuplebind run` as another user, with other words before it."""
    line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *words,
            folder / "tools" / "tuplebind", "run", "--strict", folder / "steps"]
    return harness.Steps(host.start(*line))


def table_of(steps):
    """The table that a program has mapped."""
    steps.socket()  # it has started
    maps = pathlib.Path(f"/proc/{steps.program.pid}/maps").read_text()
    [path] = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/dev/shm/tuplebind." in line}
    return path


WAYS = {"unshare -Ur": ["unshare", "--user", "--map-root-user"], "fakeroot": ["fakeroot", "--"],
        "unshare -U": ["unshare", "--user"],
        "twice": ["unshare", "--user", "--map-root-user", "unshare", "--user", "--map-root-user"]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["root", "other"])
def test_who_only_looks_like_root(served, open_to_all, way, first):
    """They have a table of their own, and root has his, whoever is first."""
    def start_root():
        return served.steps(strict=1)

    def start_other():
        return steps_as(served, open_to_all, *WAYS[way])
    if first == "root":
        root, other = start_root(), None
        root.socket()
        other = start_other()
    else:
        other = start_other()
        other.socket()
        root = start_root()
    for steps in (root, other):
        steps.open(TO, PORT, 5)
        assert steps.program.errors() == ""
    assert os.stat(table_of(root)).st_uid == os.geteuid()
    # What fakeroot says of a process is said within it only.
    paths = served.tables()
    assert sorted(os.stat(path).st_uid for path in paths) == [os.geteuid(), OTHER_USER]
    # A port that both have drawn by chance is claimed in both tables: by the second as a stranger's.
    assert len(served.tuples(PORT)) == 10 and set(served.tuples(PORT)) <= set(served.claims(PORT))


@pytest.mark.parametrize("way", ["unshare -Ur", "fakeroot"])
def test_one_user_in_and_out_of_a_user_namespace(served, open_to_all, way):
    """A rootless container that shares the host's network has the table of the user who started it."""
    plain = steps_as(served, open_to_all)
    plain.open(TO, PORT, 3)
    within = steps_as(served, open_to_all, *WAYS[way])
    within.open(TO, PORT, 3)
    [path] = served.tables()
    assert path == f"/dev/shm/tuplebind.{OTHER_USER}.{served.namespace}"
    assert len(served.claims(PORT)) == 6


# Becomes user 501 of a user namespace with users 0 and 500 to 509, and then a program.
CONTAINER = """
import ctypes, os, sys
hears, says = os.pipe()
helper = os.fork()
if helper == 0:
    os.close(says)
    os.read(hears, 1)
    for map in ("uid_map", "gid_map"):
        with open(f"/proc/{os.getppid()}/{map}", "w") as file:
            file.write("0 0 1\\n500 %s 10\\n" % sys.argv[1])
    os._exit(0)
os.close(hears)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.close(says)
assert os.waitpid(helper, 0)[1] == 0
os.setgroups([])
os.setgid(501)
os.setuid(501)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_user_of_a_container(served, open_to_all):
    """With a range of users, as podman maps them: the table is the user's whom he is outside."""
    words = [open_to_all / "tools" / "tuplebind", "run", "--strict", open_to_all / "steps"]
    within = harness.Steps(served.start(harness.PYTHON, "-c", CONTAINER, OTHER_USER, *words))
    within.open(TO, PORT, 3)
    assert served.tables() == [f"/dev/shm/tuplebind.{NEXT_USER}.{served.namespace}"]
    steps_as(served, open_to_all, user=NEXT_USER).open(TO, PORT, 3)
    assert len(served.tables()) == 1 and len(served.claims(PORT)) == 6


def squat_file(path):
    pathlib.Path(path).touch()


SQUATS = {"file": squat_file, "directory": os.mkdir, "FIFO": os.mkfifo,
          "link": lambda path: os.symlink("/dev/null", path)}


@pytest.mark.parametrize("what", SQUATS)
def test_name_taken(served, others, what):
    """Another user's file has the name: the next one is taken, by all programs of the user alike."""
    path = f"/dev/shm/tuplebind.{harness.table_user()}.{served.namespace}"
    SQUATS[what](path)
    os.chown(path, OTHER_USER, -1, follow_symlinks=False)
    before = os.lstat(path)
    try:
        one, other = served.steps(strict=1), served.steps(strict=1)
        for steps in (one, other):
            steps.open(TO, PORT, 3)
            assert table_of(steps) == path + "~1" and steps.program.errors() == ""
        assert served.status()["claims"] == 6
        now = os.lstat(path)
        assert (now.st_ino, now.st_size, now.st_mode) == (before.st_ino, before.st_size, before.st_mode)
    finally:
        os.rmdir(path) if what == "directory" else os.unlink(path)
    # It is free now, and those who come stay with those who are there.
    late = served.steps(strict=1)
    assert table_of(late) == path + "~1"
    for steps in (one, other, late):
        steps.program.end()
    assert served.must(COMMAND, "reset").startswith(f"{harness.table_user()}.{served.namespace}~1: removed")
    assert served.tables() == []


def test_all_names_taken(served, others):
    """One line, as for anything else that stands in the way."""
    path = f"/dev/shm/tuplebind.{harness.table_user()}.{served.namespace}"
    for place in ["", *(f"~{i}" for i in range(1, 8))]:
        squat_file(path + place)
        harness.give_away(path + place)
    result = served.run(program("seed"), TO, PORT, 5, preload=LIBRARY)
    assert result.code == 0 and '"opened":5' in result.out
    assert result.err.count("\n") == 1 and path in result.err and "taken by other users" in result.err
    assert served.run("true", preload=LIBRARY, strict=1).code == 78


# Other pid namespaces.

def test_containers_that_start_together(served):
    """All are process 1 of their own, and make the table at the same moment."""
    for _ in range(20):
        served.remove_tables()
        together = [served.start("unshare", "--pid", "--fork", "--mount-proc", COMMAND, "run", program("steps"),
                                 strict=1) for _ in range(4)]
        for running in together:
            harness.Steps(running).open(TO, PORT, 2)
        assert len(served.tables()) == 1
        # What an earlier round has in TIME_WAIT may be claimed as well.
        tuples = served.tuples(PORT)
        assert len(tuples) == 8 and set(tuples) <= set(served.claims(PORT))
        for running in together:
            assert running.end() == 0 and running.errors() == ""


# Other versions, and tables of namespaces that are gone.

STALE = {
    "an older version": lambda path: tables.patch(path, VERSION_AT, "I", lambda v: v - 1),
    "a newer version": lambda path: tables.patch(path, VERSION_AT, "I", lambda v: v + 95),
    "an earlier namespace": lambda path: tables.patch(path, COOKIE_AT, "Q", lambda v: v + 1),
}


@pytest.mark.parametrize("what", STALE)
def test_replaced(served, what):
    """Nobody uses it: it goes, without a word."""
    path = tables.leave(served)
    old = inode(path)
    STALE[what](path)
    steps = served.steps(strict=1)
    steps.open(TO, PORT, 5)
    assert steps.program.errors() == "" and served.tables() == [path]
    assert inode(path) != old and len(served.claims(PORT)) == 5


def test_upgrade(served):
    """Programs of the version before have their table, as long as there are any; later ones have another."""
    path = tables.leave(served)
    STALE["an older version"](path)
    old = inode(path)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4096):
        file.close()
        one, other = served.steps(strict=1), served.steps(strict=1)
        for steps in (one, other):
            steps.open(TO, PORT, 5)
            assert table_of(steps) == path + "~1" and steps.program.errors() == ""
        assert inode(path) == old
        # What cannot be seen from here is in use all the same.
        assert served.run("unshare", "--pid", "--fork", "--mount-proc", COMMAND, "run", "true", strict=1) == (0, "", "")
        assert inode(path) == old
    late = served.steps(strict=1)
    late.open(TO, PORT, 5)
    assert table_of(late) == path + "~1"


# Before the library removes a file (whatever way it has), asks the test and waits for its answer.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int asked;
static void ask(void)
{
    char byte;
    if (asked++)
        return;
    write(atoi(getenv("ASKS")), "r", 1);
    read(atoi(getenv("HEARS")), &byte, 1);
}
int flock(int fd, int how)
{
    ask();
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, how);
}
int unlink(const char *path)
{
    if (strstr(path, "new.") == NULL)
        ask();
    return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(path);
}
"""


@pytest.fixture
def shim(tmp_path):
    path = tmp_path / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-o", path, "-"], input=SHIM.encode(),
                   check=True, env=harness.clean_environment())
    return str(path)


@pytest.mark.parametrize("what", STALE)
def test_two_replace_one(served, shim, what):
    """The slower one has judged the old table, and finds the quicker one's: it is not lost."""
    path = tables.leave(served)
    STALE[what](path)
    asks, shim_asks = os.pipe()
    shim_hears, answers = os.pipe()
    slow = served.start(program("steps"), preload=f"{LIBRARY}:{shim}", pass_fds=(shim_asks, shim_hears), strict=1,
                        environment={"ASKS": str(shim_asks), "HEARS": str(shim_hears)})
    os.close(shim_asks)
    assert os.read(asks, 1) == b"r", slow.errors()
    quick = served.steps(strict=1)
    quick.open(TO, PORT, 5)
    os.write(answers, b"g")
    for fd in (asks, shim_hears, answers):
        os.close(fd)
    harness.Steps(slow).open(TO, PORT, 5)
    assert slow.errors() == quick.program.errors() == ""
    assert served.tables() == [path] and len(served.claims(PORT)) == 10


# What nobody uses.

def test_tables_of_hosts_that_are_gone(served):
    """They go when another one is made, an hour after their last program came; those in use stay."""
    with contextlib.closing(harness.Host()) as used, contextlib.closing(harness.Host()) as gone:
        running = used.steps()
        running.socket()
        paths = [tables.leave(gone), table_of(running)]
        past = time.time() - 3700
        for path in paths:
            os.utime(path, (past, past))
        young = tables.leave(gone, table="young")
        tables.leave(served)
        assert not os.path.exists(paths[0])
        assert os.path.exists(paths[1]) and os.path.exists(young)


# Root, and others' tables.

def as_user(host, folder, user=OTHER_USER):
    """A table of another user, whose program goes on."""
    steps = steps_as(host, folder, user=user)
    steps.open(TO, PORT, 3)
    return f"/dev/shm/tuplebind.{user}.{host.namespace}"


def test_only_when_asked(served, open_to_all):
    """status, metrics, reap and reset of root: his own tables, or with --all-users everybody's."""
    own = served.steps()
    own.open(TO, PORT, 2)
    others = as_user(served, open_to_all)
    name = others.split(".", 1)[1]
    assert name not in served.must(COMMAND, "status", "--json")
    assert f"\n{name}\n" not in served.must(COMMAND, "status")
    assert "of other users (--all-users)" in served.must(COMMAND, "status")
    assert f'table="{name}"' not in served.must(COMMAND, "metrics")
    assert f"{name}:" not in served.tuplebind("reap").out
    assert "of other users left alone; --all-users" in served.tuplebind("reap").err
    assert served.tuplebind("reset", "--force").code == 0
    assert served.tables() == [others]

    [table] = [t for t in harness.json.loads(served.must(COMMAND, "status", "--json", "--all-users", "--details"))
               ["tables"] if t["name"] == name]
    assert (table["claims"], table["lanes"], [p["name"] for p in table["processes"]]) == (3, 1, ["steps"])
    assert f'tuplebind_claims{{table="{name}"}} 3\n' in served.must(COMMAND, "metrics", "--all-users")
    assert f"{name}: gave back 0 claims" in served.tuplebind("reap", "--all-users").out
    assert "in use by" in served.tuplebind("reset", "--all-users").err
    assert f"{name}: removed" in served.tuplebind("reset", "--all-users", "--force").out
    assert served.tables() == []


def test_claims_of_others_dead(served, open_to_all):
    others = as_user(served, open_to_all)
    for running in served.programs[1:]:
        running.signal()
    assert f"{others.split('.', 1)[1]}: gave back 3 claims" in served.tuplebind("reap", "--all-users").out
    assert served.claims(PORT) == []


def test_a_file_of_holes(served, open_to_all):
    """In a small /dev/shm: another user's file says it is a table of a gigabyte, and has nothing in it."""
    path = as_user(served, open_to_all)
    script = f"""cp {path} "$2"/copy && mount -t tmpfs -o size=32M,mode=1777 tmpfs /dev/shm &&
        head -c 700000 "$2"/copy >{path} && truncate -s 1073741824 {path} && chmod 600 {path} &&
        printf '\\0\\0\\0\\100' | dd of={path} bs=1 seek={SIZE_AT} conv=notrunc status=none &&
        chown {OTHER_USER} {path} && "$0" $1; echo "code $?"; stat -c 'blocks %b' {path}"""
    for words in ("reap", "reap --all-users", "status --all-users", "metrics --all-users"):
        result = served.run("unshare", "--mount", "sh", "-c", script, COMMAND, words, open_to_all)
        assert int(result.out.split("blocks ")[1]) < 2000, result
        assert "code 0\n" in result.out if words == "reap" else "has holes" in result.err, result


def test_one_bad_file_of_others_spoils_nothing(served, open_to_all):
    good = as_user(served, open_to_all)
    bad = as_user(served, open_to_all, user=NEXT_USER)
    os.truncate(bad, 5000)
    result = served.tuplebind("status", "--json", "--all-users")
    assert result.code == 0 and "its size is not what its header says" in result.err
    names = [t["name"] for t in harness.json.loads(result.out)["tables"]]
    assert good.split(".", 1)[1] in names and bad.split(".", 1)[1] not in names


# Memory.

def memory_group():
    """A new control group whose memory can be limited: its folder and the file of its limit, or none."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        folder = pathlib.Path(root, f"tuplebind-test-{os.getpid()}")
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / limit).exists():
                return folder, folder / limit
            folder.rmdir()
    return None, None


def test_memory_limit(served):
    """A table that does not fit is one line, not the end of the program."""
    folder, limit = memory_group()
    if folder is None:
        pytest.skip("no control group can be made here")
    try:
        limit.write_text(str(7 << 20))
        script = 'echo $$ >"$1"/cgroup.procs && shift && exec env LD_PRELOAD="$@"'
        words = ["sh", "-c", script, "sh", folder, LIBRARY, program("seed"), TO, PORT, 5]
        result = served.run(*words)
        assert result.code == 0 and '"opened":5' in result.out, result
        assert result.err.count("\n") == 1 and "the memory limit of its control group" in result.err
        assert served.run(*words, strict=1).code == 78
        assert served.run(*words, strict=1, table_size="1M")[::2] == (0, "")
    finally:
        harness.eventually(lambda: not (folder / "cgroup.procs").read_text())
        for path in glob.glob(f"/dev/shm/tuplebind.*.{served.namespace}*"):
            os.unlink(path)
        folder.rmdir()
