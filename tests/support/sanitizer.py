"""System tests of a build for a sanitizer: TUPLEBIND_BUILD=build-asan python3 -m pytest tests/system/test_close.py

A library built with -Db_sanitize needs the sanitizer's runtime in front of libc in every program it is loaded into; the
harness puts it there. Programs swallow stderr, go on, or are killed, so reports go into files, and a test is failed that
leaves one behind, whatever it thinks of its program.
"""

import glob
import os
import pathlib
import re
import subprocess
import tempfile

# The order of the libraries is not looked at: `tuplebind run` puts ours in front of the runtime, which does no harm, since
# all the calls that a sanitizer takes over are found behind ours.
OPTIONS = {
    "ASAN_OPTIONS": "verify_asan_link_order=0:detect_stack_use_after_return=1:exitcode=66",
    "LSAN_OPTIONS": f"suppressions={pathlib.Path(__file__).with_name('leaks.supp')}:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=66:second_deadlock_stack=1",
}

NO_REPORT = re.compile(r"(==\d+==Unable to get registers from thread \d+\.\n)*")

# What says nothing, or cannot be, with a sanitizer's runtime in the program. A part of the test's name, and why.
WITHOUT = {
    "test_bench.py": "instrumented code is not what is measured",
    "test_programs.py": "others' programs do not all stand the runtime: curl hangs under it alone as well",
    "test_connect.py::test_arguments": "bad pointers on purpose, at which the runtime looks before the library does",
    "test_udp.py::test_arguments": "bad pointers on purpose, at which the runtime looks before the library does",
    "test_exit_status[words5--11]": "the runtime takes the SIGSEGV over",
    "test_library_that_binds_to_libc_itself": "the runtime refuses RTLD_DEEPBIND",
    "test_probes_in_a_running_program": "gdb traces it, and so LeakSanitizer cannot",
    "test_vfork_child_enters_a_namespace": "gdb traces it, and so LeakSanitizer cannot",
    "test_program_with_a_sanitizer": "two runtimes do not go into one program",
    "execute only": "such a program cannot have the runtime preloaded",
}


def unfit(name):
    """Why a test is not for a sanitizer, else None."""
    return next((reason for part, reason in WITHOUT.items() if part in name), None)


def runtime(library):
    """The name of the sanitizer's library that a library is linked with, None if it is not."""
    dynamic = subprocess.run(["readelf", "-dW", library], capture_output=True, text=True).stdout
    found = re.search(r"NEEDED.*\[(lib[at]san\.so\.\d+)\]", dynamic)
    return found and found.group(1)


class Reports:
    """The files that sanitizers wrote their reports to."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tuplebind-reports.")
        os.chmod(self.folder.name, 0o1777)  # some tests have programs of another user
        for name, options in OPTIONS.items():
            kind = name.split("_")[0].lower()
            before = os.environ.get(name)
            os.environ[name] = f"{options}:log_path={self.folder.name}/{kind}" + (f":{before}" if before else "")

    def take(self):
        """What was reported since the last time."""
        found = []
        for path in sorted(glob.glob(f"{self.folder.name}/*")):
            found.append(pathlib.Path(path).read_text(errors="replace"))
            os.unlink(path)
        # What LeakSanitizer says, and no more, of a thread that is killed while it looks.
        return [said for said in found if not NO_REPORT.fullmatch(said)]
