"""`meson install`: all that belongs to it, where shells, man and compilers look; it runs wherever it is moved to."""

import json
import pathlib
import shutil
import stat
import subprocess

import harness
import pytest

TRIPLET = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
LIBDIR = f"lib/{TRIPLET}"
PROGRAMS = {"bin/tuplebind"}
FILES = {
    f"{LIBDIR}/libtuplebind.so",
    f"{LIBDIR}/pkgconfig/tuplebind.pc",
    "include/tuplebind/table.h",
    "include/tuplebind/version.h",
    "share/bash-completion/completions/tuplebind",
    "share/fish/vendor_completions.d/tuplebind.fish",
    "share/man/man1/tuplebind.1",
    "share/man/man7/libtuplebind.7",
    "share/zsh/site-functions/_tuplebind",
}
PROGRAM = r"""
#include <tuplebind/table.h>
#include <tuplebind/version.h>
#include <stdio.h>
int main(void) { return printf("%s %zu\n", TUPLEBIND_VERSION, sizeof(struct tuplebind_slab)) < 0; }
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Installed with DESTDIR, then moved: the tree that has bin, lib ... in it."""
    work = tmp_path_factory.mktemp("install")
    subprocess.run(["meson", "install", "-C", harness.BUILD, "--no-rebuild", "--strip", "--destdir", work / "first"],
                   env=harness.clean_environment(), capture_output=True, timeout=harness.LIMIT, check=True)
    (work / "first/usr/local").rename(work / "moved")
    yield work / "moved"
    shutil.rmtree(work)


def own_programs():
    """The parts of the command that are programs of their own, as far as they were built."""
    targets = subprocess.run(["meson", "introspect", harness.BUILD, "--targets"], capture_output=True, text=True,
                             timeout=harness.LIMIT, check=True).stdout
    return {f"libexec/tuplebind/{target['name']}" for target in json.loads(targets)
            if target["installed"] and target["name"].startswith("tuplebind-") and target["type"] == "executable"}


def files(tree):
    return {str(path.relative_to(tree)): path for path in tree.rglob("*") if not path.is_dir()}


def test_complete(installed):
    assert set(files(installed)) == PROGRAMS | own_programs() | FILES


def test_modes(installed):
    programs = PROGRAMS | own_programs()
    for name, path in files(installed).items():
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert path.is_file() and not path.is_symlink()
        # Shared objects may have either.
        assert mode in ((0o755,) if name in programs else (0o644, 0o755) if name.endswith(".so") else (0o644,)), name
    for path in installed.rglob("*"):
        assert not path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o755, path


def test_no_paths_of_the_build(installed):
    for name, path in files(installed).items():
        content = path.read_bytes()
        for where in (harness.BUILD, harness.REPOSITORY, installed.parent):
            assert bytes(where) not in content, name
        if content.startswith(b"\x7fELF"):
            dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
            assert "NEEDED" in dynamic and "RUNPATH" not in dynamic and "RPATH" not in dynamic, dynamic


def test_it_runs(host, installed):
    """From its new place, with its own library."""
    command, library = installed / "bin/tuplebind", installed / LIBDIR / "libtuplebind.so"
    host.sink("127.0.0.1 8001")
    running = host.start(command, "run", "--addrs", "127.0.0.7", harness.program("steps"))
    steps = harness.Steps(running)
    steps.open("127.0.0.1", 8001)
    tuple_, = host.tuples(8001)
    assert tuple_.laddr == "127.0.0.7"
    assert host.claims() == [tuple_]
    assert f"has {library} loaded" in host.must(command, "config", "--pid", running.pid)
    assert f"LD_PRELOAD='{library}'" in host.must(command, "env")


def test_it_runs_by_a_link(host, installed, tmp_path):
    link = tmp_path / "tuplebind"
    link.symlink_to(installed / "bin/tuplebind")
    assert host.must(link, "run", "sh", "-c", "echo $LD_PRELOAD") == f"{installed / LIBDIR / 'libtuplebind.so'}\n"


def test_without_the_library(host, installed, tmp_path):
    """One line, which names both places; nothing is started."""
    alone = tmp_path / "bin" / "tuplebind"
    alone.parent.mkdir()
    shutil.copy(installed / "bin/tuplebind", alone)
    result = host.run(alone, "run", "echo", "started")
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert f"{LIBDIR}/libtuplebind.so" in result.err


def test_pkg_config(installed, tmp_path):
    def ask(*words):
        return subprocess.run(
            ["pkg-config", *words, "tuplebind"], capture_output=True, text=True, check=True,
            env=harness.clean_environment() | {"PKG_CONFIG_LIBDIR": str(installed / LIBDIR / "pkgconfig")},
            timeout=harness.LIMIT).stdout.split()

    assert ask("--libs") == []  # nobody links with it
    (tmp_path / "reader.c").write_text(PROGRAM)
    # pkg-config takes the prefix to be two folders up, which it is not with a triplet.
    prefix = [f"--define-variable=prefix={installed}"]
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", *ask(*prefix, "--cflags"),
                    tmp_path / "reader.c", "-o", tmp_path / "reader"], check=True, timeout=harness.LIMIT)
    printed = subprocess.run([tmp_path / "reader"], capture_output=True, text=True, check=True).stdout.split()
    assert printed == [*ask("--modversion"), "128"]
    library, = ask(*prefix, "--variable=library")
    assert pathlib.Path(library).samefile(installed / LIBDIR / "libtuplebind.so")
