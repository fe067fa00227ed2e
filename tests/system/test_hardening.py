"""What is built has the usual hardening: read from the ELF files, since a flag that a compiler does not know is left out."""

import functools
import platform
import re
import subprocess

import harness
import pytest

BINARIES = [harness.LIBRARY, *(harness.BUILD / "tools" / name for name in
                               ("tuplebind", "tuplebind-lease", "tuplebind-top"))]

pytestmark = pytest.mark.skipif(bool(harness.SANITIZER), reason="a build for a sanitizer has not all of it")


@functools.cache
def output(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def symbols(path):
    return output("readelf", "-W", "--dyn-syms", path)


def dynamic(path):
    return output("readelf", "-dlhW", path)


def flags_of_segments(path, kind):
    return re.findall(rf"^  {kind} +(?:0x\w+ +){{5}}([RWE ]{{3}})", dynamic(path), re.M)


# Each says whether a file has it.
CHECKS = {
    "position independent": lambda path: re.search(r"Type: +DYN", dynamic(path))
    and (path == harness.LIBRARY or re.search(r"FLAGS_1.*PIE", dynamic(path))),
    "all relocations read-only": lambda path: flags_of_segments(path, "GNU_RELRO") and re.search(
        r"FLAGS_1.*NOW", dynamic(path)) and "TEXTREL" not in dynamic(path),
    "stack not executable": lambda path: flags_of_segments(path, "GNU_STACK") == ["RW "],
    "nothing writable and executable": lambda path: (found := flags_of_segments(path, "LOAD"))
    and not any("W" in flags and "E" in flags for flags in found),
    "stack protector": lambda path: "__stack_chk_fail" in symbols(path),
    "fortified": lambda path: re.search(r" __(?!stack)\w+_chk\b", symbols(path)),
}
if platform.machine() == "x86_64":
    # Pages of a large frame are touched one by one; the library has no frame as large as one.
    CHECKS["stack clash"] = lambda path: (
        re.search(r"\tor[lq]? +\$0x0,(0x\w+)?\(%rsp", code := output("objdump", "-d", path))
        or path == harness.LIBRARY and not re.search(r"\tsub +\$0x[1-9a-f][0-9a-f]{3,7},%rsp", code))
    CHECKS["shadow stack"] = lambda path: "SHSTK" in output("readelf", "-nW", path)
if platform.machine() == "aarch64":
    # Return addresses are signed, and jumped to are only places that are marked.
    CHECKS["signed returns"] = lambda path: re.search(r"\t(paciasp|hint\t#0x19)\b", output("objdump", "-d", path))
    CHECKS["branch targets"] = lambda path: re.search(r"\t(bti\tc|hint\t#0x22)\b", output("objdump", "-d", path))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("path", BINARIES, ids=lambda path: path.name)
def test_has(path, check):
    assert check(path)
