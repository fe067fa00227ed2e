"""meson.build: what a machine lacks is an error that says so, or is made up for; never a library that does not load.

Only the library is configured and built here, in a folder of the test's own.
"""

import os
import platform
import subprocess

import harness
import pytest

OPTIONS = ["-Dcommand=disabled", "-Dtests=disabled", "-Dman=disabled", "-Dprobes=disabled",
           "-Dbuildtype=plain"]  # not optimized, without debugging information: built sooner


def configure(folder, *words, before=("env",)):
    return subprocess.run([*before, "meson", "setup", *OPTIONS, *words, folder, harness.REPOSITORY],
                          env=harness.clean_environment(), capture_output=True, text=True, timeout=120)


def compile_library(folder):
    return subprocess.run(["meson", "compile", "-C", folder, "tuplebind:shared_module"], env=harness.clean_environment(),
                          capture_output=True, text=True, timeout=240)


def output(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["libbsd.a", "libmd.a"])
def test_no_static_libbsd(tmp_path, name):
    """With the shared one alone every program would get it as well."""
    path = output("gcc", f"-print-file-name={name}").strip()
    assert os.path.isabs(path), f"there is no {name}"
    hide = f'mount --bind /dev/null {path} && exec "$@"'
    result = configure(tmp_path / "build", before=["unshare", "--mount", *([] if os.geteuid() == 0 else ["-Ur"]), "sh",
                                               "-c", hide, "sh"])
    assert result.returncode != 0
    assert f"{name} is missing: libbsd has to be linked statically" in result.stdout, result.stdout


def test_undefined_symbols(tmp_path):
    """A function that is nowhere is told when the library is linked, and not by the programs it is loaded into."""
    assert configure(tmp_path / "build", "-Dc_args=-Ddl_iterate_phdr=no_such_function").returncode == 0
    result = compile_library(tmp_path / "build")
    assert result.returncode != 0 and "undefined reference to `no_such_function'" in result.stdout


def test_a_libc_without_names_of_errors(tmp_path):
    """glibc before 2.32: the library has its own."""
    header = tmp_path / "older.h"
    header.write_text("#ifndef MISSING_STRERRORNAME_NP\n#define strerrorname_np no_such_function\n#endif\n")
    result = configure(tmp_path / "build", f"-Dc_args=-include {header}", "-Dwerror=true")
    assert result.returncode == 0, result.stdout
    result = compile_library(tmp_path / "build")
    assert result.returncode == 0, result.stdout
    library = tmp_path / "build" / "lib" / "libtuplebind.so"
    assert "no_such_function" not in output("nm", "-D", library)
    environment = harness.clean_environment() | {"LD_PRELOAD": str(library), "TUPLEBIND_STRICT": "1",
                                                 "TUPLEBIND_TABLE": "private"}
    assert subprocess.run(["true"], env=environment).returncode == 0


def test_64_bit_only(tmp_path):
    """Who includes the header for 32 bits is told so."""
    if platform.machine() != "x86_64":
        pytest.skip("the compiler has no 32 bits here")
    (tmp_path / "gnu").mkdir()
    (tmp_path / "gnu" / "stubs-32.h").touch()
    words = ["gcc", "-m32", "-fsyntax-only", f"-I{tmp_path}", f"-I{harness.REPOSITORY}/include",
             "-isystem", "/usr/include/x86_64-linux-gnu", "-x", "c", "-"]
    result = subprocess.run(words, input='#include "tuplebind/table.h"\n', capture_output=True, text=True)
    assert result.returncode != 0 and "64-bit machine" in result.stderr, result.stderr
    assert subprocess.run([words[0], *words[2:]], input='#include "tuplebind/table.h"\n', text=True).returncode == 0
