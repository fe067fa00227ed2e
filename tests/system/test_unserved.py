"""Programs that tuplebind cannot serve: said in one line before they start, refused under
--strict, and never harmed. Connects past libc are the kernel's, and harm no neighbour."""

import os
import pathlib
import shutil
import struct
import subprocess

import harness
import pytest
import web

TO, PORT = "127.0.0.1", 8001
POOL = "127.0.0.7"
COUNTING = harness.program("counting.so")

# Says whether the kernel gave it other rights than its caller's, and a variable.
SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
int main(int argc, char **argv)
{
    printf("secure %lu\n", getauxval(AT_SECURE));
    if (argc == 2 && getenv(argv[1]) != NULL)
        puts(getenv(argv[1]));
    return 7;
}
"""
GO_NOTE = r"""
__asm__(".pushsection .note.go.buildid,\"a\",@note\n.balign 4\n.long 4,8,4\n"
        ".ascii \"Go\\0\\0\"\n.ascii \"abcdefgh\"\n.popsection");
"""
GO_SECTION = r"""
__attribute__((section(".go.buildinfo"), used)) static char info[32] = "\xff Go buildinf:";
"""

STATIC = ("is statically linked", "use a dynamically linked build")
GO = ("is a Go program, which makes its system calls without libc",
      "give it local addresses by its own configuration")
LIBC = ("is built for another libc, the library for glibc", "use a build for glibc")
BITS = ("is a 32-bit program and the library is 64-bit", "use a 64-bit build")
PROCESSOR = ("is built for another kind of processor", "use a build for this one")
SET_ID = ("is setuid or setgid", "start it as the user and group it changes to")
CAPABILITIES = ("has file capabilities", "give it ambient capabilities instead")

# Name: compiler and flags, more source, why it is not served.
BUILDS = {
    "dynamic": (["gcc"], "", None),
    "static": (["gcc", "-static"], "", STATIC),
    "static, stripped": (["gcc", "-static", "-s"], "", STATIC),
    "static-pie": (["gcc", "-static-pie"], "", STATIC),
    "go": (["gcc"], GO_NOTE, GO),
    "go, stripped": (["gcc", "-s"], GO_NOTE, GO),
    "go, static": (["gcc", "-static"], GO_NOTE, GO),
    "go without build id": (["gcc", "-s"], GO_SECTION, GO),
    "musl": (["musl-gcc"], "", LIBC),
    "musl, static": (["musl-gcc", "-static"], "", STATIC),
}


def build(path, words, more=""):
    subprocess.run([*words, "-x", "c", "-o", path, "-"], input=(SOURCE + more).encode(), check=True,
                   env=harness.clean_environment())
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made("static"): the path of that program, built once."""
    directory = tmp_path_factory.mktemp("made")

    def make(name):
        words, more, _ = BUILDS[name]
        if shutil.which(words[0]) is None:
            pytest.skip(f"no {words[0]}")
        path = directory / name.replace(" ", "-").replace(",", "")
        return str(path) if path.exists() else build(path, words, more)

    return make


def message(path, reason, subject="it", strict=False):
    why, remedy = reason
    end = "not started, strict" if strict else "it runs without tuplebind"
    return f"tuplebind: run: {path} cannot be taken over: {subject} {why}; {end} ({remedy})\n"


def expect(host, path, reason, subject="it", **options):
    """Runs as it would without tuplebind, with the line (or none); with --strict only the line."""
    plain = host.run(path, **options)
    result = host.tuplebind("run", path, **options)
    said = message(path, reason, subject) if reason else ""
    assert result == (plain.code, plain.out, said + plain.err)
    result = host.tuplebind("run", "--strict", path, **options)
    if reason:
        assert result == (78, "", message(path, reason, subject, strict=True))
    else:
        assert result == plain


# What the file says

@pytest.mark.parametrize("name", BUILDS)
def test_built(host, made, name):
    expect(host, made(name), BUILDS[name][2])
    assert host.run(made(name)) == (7, "secure 0\n", "")


def test_found_in_path(host, made):
    """A directory of that name, and a file that may not be executed, are passed over as exec does."""
    directory = pathlib.Path(made("static")).parent
    for name in ("first", "second"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "first" / "static").mkdir(exist_ok=True)
    (directory / "second" / "static").write_text("")
    search = f"{directory}/first:{directory}/second:{directory}:/usr/bin:/bin"
    result = host.tuplebind("run", "static", environment={"PATH": search})
    assert result == (7, "secure 0\n", message(f"{directory}/static", STATIC))


def test_current_directory(host, made):
    """An empty item of PATH."""
    directory = pathlib.Path(made("static")).parent
    for search in (":/usr/bin", "/usr/bin:", "/usr/bin::/bin"):
        result = host.run(harness.COMMAND, "run", "static", cwd=directory,
                          environment={"PATH": "/usr/sbin:/sbin" + ":/usr/bin:/bin"})
        assert result.code == 127
        result = host.run("env", f"PATH={search}", harness.COMMAND, "run", "static", cwd=directory)
        assert result == (7, "secure 0\n", message("./static", STATIC))


def test_not_while_disabled(host, made):
    for name in ("static", "musl"):
        result = host.tuplebind("run", "--strict", made(name), environment={"TUPLEBIND_DISABLE": "1"})
        assert result == (7, "secure 0\n", "")


def test_the_loader_is_not_static(host, made):
    """It can be given a program, and preloads into it."""
    listing = host.must("readelf", "-lW", made("dynamic"))
    loader = listing.split("interpreter: ")[1].split("]")[0]
    result = host.tuplebind("run", "--strict", loader, made("dynamic"))
    assert result == (7, "secure 0\n", "")


@pytest.mark.parametrize("name, before, after", [
    ("static", [harness.LIBRARY], [harness.LIBRARY]),
    ("static", [COUNTING], [harness.LIBRARY, COUNTING]),
    ("static", [COUNTING, harness.LIBRARY], [harness.LIBRARY, COUNTING]),
    ("static", [f"{harness.LIBRARY}.old"], [harness.LIBRARY, f"{harness.LIBRARY}.old"]),
    ("musl", [harness.LIBRARY], None),
])
def test_preload_of_what_it_starts(host, made, name, before, after):
    """It stays for what a static program starts; a musl program would not start with it."""
    preload = ":".join(map(str, before))
    result = host.run("env", f"LD_PRELOAD={preload}", harness.COMMAND, "run", made(name), "LD_PRELOAD")
    assert result.code == 7
    assert result.out.split()[2:] == ([":".join(map(str, after))] if after else [])


def minimal_elf32():
    """exit(7), for an i386."""
    code = bytes.fromhex("b801000000" "bb07000000" "cd80")
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    size = 84 + len(code)
    return head + struct.pack("<IIIIIIII", 1, 0, 0x8048000, 0x8048000, size, size, 5, 4096) + code


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is an i386's")
def test_32_bit(host, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(minimal_elf32())
    path.chmod(0o755)
    # Where the kernel has no 32-bit programs, execvp() gives this to a shell.
    assert host.tuplebind("run", path).err.startswith(message(path, BITS))
    assert host.tuplebind("run", "--strict", path) == (78, "", message(path, BITS, strict=True))
    plain = host.run(path)
    if (plain.code, plain.err) == (7, ""):
        expect(host, path, BITS)


@pytest.mark.parametrize("at, value", [(18, b"\x16\0"), (5, b"\2")], ids=["s390", "big-endian"])
def test_another_processor(host, made, tmp_path, at, value):
    path = tmp_path / "program"
    data = bytearray(pathlib.Path(made("dynamic")).read_bytes())
    data[at:at + len(value)] = value
    path.write_bytes(data)
    path.chmod(0o755)
    assert host.tuplebind("run", "--strict", path) == (78, "", message(path, PROCESSOR, strict=True))


# Scripts

def script(path, line):
    path.write_text(line + "\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("line", [
    "#!{}", "#! {}", "#!\t{} ", "#!{} with some words", "#!/usr/bin/env static",
    "#!/usr/bin/env  static ", "#!/usr/bin/env -S static -x", "#!/usr/bin/env -Sstatic -x",
    "#!/usr/bin/env -S A=b B= static x", "#!/usr/bin/env -vS static", "#!/usr/bin/env -S -- static",
])
def test_script(host, made, tmp_path, line):
    """Its interpreter is what counts, and is named."""
    static = made("static")
    path = script(tmp_path / "script", line.format(static))
    search = {"PATH": f"{pathlib.Path(static).parent}:/usr/bin:/bin"}
    expect(host, path, STATIC, f"its interpreter {static}", environment=search)


def test_script_of_scripts(host, made, tmp_path):
    path = script(tmp_path / "0", f"#!{made('static')}")
    for i in range(1, 4):
        path = script(tmp_path / str(i), f"#!{path}")
    expect(host, path, STATIC, f"its interpreter {made('static')}")


@pytest.mark.parametrize("line", [
    "#!/bin/sh", "#!/usr/bin/env sh", "#!/usr/bin/env -S sh -e", "#!", "#!  ", "#!/", "#!/nowhere",
    "#!/usr/bin/env nowhere", "#!/usr/bin/env -S 'sh' -e", "#!/usr/bin/env -S -u static true",
    "#!" + "x" * 300, "#!" + " " * 300,
    "#!/usr/bin/env " + "x" * 300, "", "#", "exit 3", "#!{0}", "#!/usr/bin/env -S {0}/",
])
def test_script_is_none_of_ours(host, tmp_path, line):
    """No line of ours but that of an exec that failed; the code is what env(1) says, too."""
    path = tmp_path / "script"
    script(path, line.format(path))
    plain, ours = host.run("env", path), host.tuplebind("run", "--strict", path)
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert "taken over" not in ours.err


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "script of a fifo"])
def test_no_file(host, tmp_path, kind):
    """Nothing is waited for, and exec has the last word."""
    path = tmp_path / "it"
    if kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = pathlib.Path("/dev/null")
    else:
        os.mkfifo(path, 0o755)
    if kind == "script of a fifo":
        path = script(tmp_path / "script", f"#!{path}")
    result = host.tuplebind("run", "--strict", path)
    assert result == (126, "", f"tuplebind: run: {path}: Permission denied\n")


# Rights: AT_SECURE, as the program itself finds it, decides whether the line was right.

USER, OTHER = 65531, 33333
NET_RAW = 1 << 13


def file_capabilities(permitted, effective):
    return struct.pack("<5I", 0x02000000 | effective, permitted, 0, 0, 0)


# Name: owner, group, mode, security.capability, the reason when it is one.
RIGHTS = {
    "plain": (0, 0, 0o755, None, None),
    "setuid root": (0, 0, 0o4755, None, SET_ID),
    "setuid other": (OTHER, 0, 0o4755, None, SET_ID),
    "setuid itself": (USER, USER, 0o4755, None, SET_ID),
    "setgid other": (0, OTHER, 0o2755, None, SET_ID),
    "setgid for locks": (0, OTHER, 0o2745, None, SET_ID),
    "execute only": (0, 0, 0o711, None, None),
    "setuid, execute only": (OTHER, 0, 0o4711, None, SET_ID),
    "capabilities": (0, 0, 0o755, file_capabilities(NET_RAW, 1), CAPABILITIES),
    "capabilities, permitted": (0, 0, 0o755, file_capabilities(NET_RAW, 0), CAPABILITIES),
    "capabilities, none": (0, 0, 0o755, file_capabilities(0, 0), CAPABILITIES),
}
CALLERS = {
    "root": [],
    "user": ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"],
    "user, no_new_privs": ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
                           "--no-new-privs"],
    "user, ambient": ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
                      "--inh-caps=+net_raw", "--ambient-caps=+net_raw"],
}


@pytest.fixture
def open_to_all(tmp_path):
    """A directory that other users reach, with the command and the library in it."""
    if web.user() == "root root":
        pytest.skip("there are no other users in this user namespace")
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip(f"{tmp_path} is mounted nosuid")
    for file, place in ((harness.COMMAND, "tools"), (harness.LIBRARY, "lib")):
        (tmp_path / place).mkdir()
        shutil.copy(file, tmp_path / place)
    return tmp_path


def give(path, owner, group, mode, capabilities):
    os.chown(path, owner, group)
    path.chmod(mode)
    if capabilities:
        os.setxattr(path, "security.capability", capabilities)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", RIGHTS)
def test_rights(host, made, open_to_all, name, caller):
    *rights, reason = RIGHTS[name]
    path = pathlib.Path(shutil.copy(made("dynamic"), open_to_all / "program"))
    give(path, *rights)
    words = [*CALLERS[caller], open_to_all / "tools" / "tuplebind", "run"]
    result = host.run(*words, path)
    assert result.code == 7 and result.out in ("secure 0\n", "secure 1\n")
    secure = result.out == "secure 1\n"
    assert result.err == (message(path, reason) if secure else "")
    strict = host.run(*words, "--strict", path)
    assert strict == ((78, "", message(path, reason, strict=True)) if secure else (7, result.out, ""))
    # A script's own rights are nobody's, its interpreter's are its interpreter's.
    line = script(open_to_all / "script", f"#!{path}")
    give(line, *rights[:2], rights[2] | 0o444, rights[3])
    result = host.run(*words, line)
    assert result.out == f"secure {int(secure)}\n"
    assert result.err == (message(line, reason, f"its interpreter {path}") if secure else "")


def test_unreadable(host, made, open_to_all):
    """What may be executed but not read is executed."""
    path = pathlib.Path(shutil.copy(made("static"), open_to_all / "program"))
    path.chmod(0o711)
    result = host.run(*CALLERS["user"], open_to_all / "tools" / "tuplebind", "run", path)
    assert result == (7, "secure 0\n", "")


# Connects past libc

@pytest.fixture
def served(host):
    host.sink(f"{TO} {PORT}")
    return host


def test_raw_system_call(served):
    """The kernel's choice, no claim; the same process goes on to be served through libc."""
    steps = served.steps(addrs=POOL)
    raw, ours, again = (steps.socket() for _ in range(3))
    assert steps(f"raw_connect {raw} {TO} {PORT}") == "0"
    assert served.claims() == []
    for fd in (ours, again):
        assert steps.connect(fd, TO, PORT) == "0"
    names = [steps(f"name {fd}").split()[0] for fd in (raw, ours, again)]
    assert names == [TO, POOL, POOL]
    assert served.claims() == [t for t in served.tuples(PORT) if t.laddr == POOL]
    assert len(served.claims()) == 2
    for fd in (raw, ours, again):
        assert steps(f"close {fd}") == "0"
    assert served.claims() == []


def test_raw_system_calls_in_the_same_lane(served):
    """Ports the table does not know of are passed over, and none is given twice."""
    served.set_ports(40000, 40019)
    steps = served.steps()
    for _ in range(8):
        assert steps(f"raw_connect {steps.socket()} {TO} {PORT}") == "0"
    steps.open(TO, PORT, 12)
    assert steps.connect(steps.socket(), TO, PORT) == "EADDRNOTAVAIL"
    tuples = served.tuples(PORT)
    assert {t.lport for t in tuples} == served.ports and len(tuples) == 20


@pytest.fixture
def ring():
    path = harness.program("ring")
    if not os.path.exists(path):
        pytest.skip("built without liburing")
    return path


def hint(path):
    return (f"tuplebind: run: {path} may connect unseen: it is linked with liburing; "
            "turn io_uring off in it if it connects so\n")


@pytest.mark.parametrize("settings, said", [({}, True), ({"strict": 1}, True),
                                            ({"log": "error"}, False), ({"disable": 1}, False)],
                         ids=["as it is", "strict", "log=error", "disabled"])
def test_io_uring(served, ring, settings, said):
    """Said, never refused; its own connects are the kernel's, those through libc are served."""
    running = served.start(ring, TO, PORT, preload="run", addrs=POOL, **settings)
    line = running.line()
    assert running.errors() == (hint(ring) if said else "")
    if line.startswith("no io_uring"):
        pytest.skip(line)
    by_ring, _, by_libc, _ = line.split()
    assert by_ring == TO
    if "disable" in settings:
        assert by_libc == TO and served.claims() == []
    else:
        assert by_libc == POOL
        assert served.claims() == [t for t in served.tuples(PORT) if t.laddr == POOL] != []
    assert len(served.tuples(PORT)) == 2
    assert running.end() == 0
    assert served.claims() == []
