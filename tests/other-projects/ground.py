"""Where one program of a suite runs: a host of its own, on which it can change nothing that stays.

Its network has no way out, its file system is read-only but for memory (/tmp, /dev/shm, and what is written
to a suite's own directory), its processes end with it. It may set neither the clock nor the machine's modules.
"""
import collections
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import harness  # noqa: E402

NAMESPACES = ("net", "mnt", "ipc", "uts")
FORBIDDEN = "-sys_module,-sys_rawio,-sys_time,-sys_boot"
RESULTS = "/tmp/results"  # where a program of a suite may leave its results, instead of on stdout
TEMPORARY = "/tmp/home"

# Arguments: a directory to be written to (into memory) or "", then those to be seen although /tmp is empty.
SET_UP = """
writable=$1; shift
ip link set lo up
hostname localhost
mount -t tmpfs none /mnt
i=0
for directory; do
  i=$((i + 1)); mkdir /mnt/$i; mount --rbind "$directory" /mnt/$i
done
mount -t tmpfs -o mode=1777 none /tmp
i=0
for directory; do
  i=$((i + 1)); mkdir -p "$directory"; mount --rbind /mnt/$i "$directory"
done
umount -l /mnt
mount -t tmpfs -o mode=1777 none /var/tmp
mount -t tmpfs -o mode=1777 none /dev/shm
mkdir -p /tmp/home
if [ -n "$writable" ]; then
  mkdir /tmp/.upper /tmp/.work
  mount -t overlay -o "lowerdir=$writable,upperdir=/tmp/.upper,workdir=/tmp/.work" none "$writable"
fi
mount -o remount,bind,ro /
echo ready
exec cat
"""

Ended = collections.namedtuple("Ended", "code text errors timed_out")


class Ground(harness.Host):
    """A host for one program; `writable` is a directory that it may write to, or None."""

    def __init__(self, writable=None):
        self.writable = writable
        super().__init__(ports=(32768, 60999))  # as the kernel comes

    def anchor_words(self):
        seen = {str(harness.REPOSITORY), str(harness.BUILD)}
        return ["unshare", "--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
                "sh", "-ec", SET_UP, "sh", str(self.writable or ""), *sorted(seen)]

    def enter_words(self):
        own = f"/proc/{self.anchor.pid}/ns"
        return ["nsenter", *(f"--{'mount' if kind == 'mnt' else kind}={own}/{kind}" for kind in NAMESPACES),
                f"--pid={own}/pid_for_children", "--", "setpriv", f"--bounding-set={FORBIDDEN}"]

    def tables(self):
        return self.must("find", "/dev/shm", "-name", "tuplebind.*").split()

    def remove_tables(self):
        """They end with it."""

    def carry_out(self, argv, preload, limit, cwd, environment, settings):
        """Runs a program to its end or its time limit; what it left in RESULTS, else what it printed."""
        environment = {"HOME": TEMPORARY, "TMPDIR": "/tmp", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TERM": "dumb",
                       "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {})
        line, environment = self.command(
            ["sh", "-c", 'cd "$0" && exec "$@"', cwd or TEMPORARY, *argv], preload, environment, settings)
        with subprocess.Popen(line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, start_new_session=True) as running:
            try:
                out, err = running.communicate(timeout=limit)
                timed_out = False
            except subprocess.TimeoutExpired:
                self.end_all()
                running.kill()
                out, err = running.communicate()
                timed_out = True
        left = b"" if timed_out and self.anchor.process.poll() is not None else self.left()
        return Ended(running.returncode, (left or out).decode(errors="replace"), err.decode(errors="replace"), timed_out)

    def left(self):
        """The file of results, b"" without one."""
        return self.run("sh", "-c", f"cat {RESULTS} 2>/dev/null").out.encode()

    def end_all(self):
        """Ends the host's processes, but not the host."""
        self.run("sh", "-c", "kill -9 -1")

    def close(self):
        """
        The first process ends, and with it all others, before the anchor does. (They are not looked for by their
        namespace, as Host does: it goes with the first process, and a host made meanwhile may get its number.)
        """
        self.anchor.end()
        self.anchor.close()

    def bound(self):
        """How many connects tuplebind gave a tuple here, and how many it left to the kernel."""
        if not self.tables():
            return 0, 0
        tables = json.loads(self.must(harness.COMMAND, "status", "--json"))["tables"]
        return tuple(sum(table["counters"][name] for table in tables) for name in ("bound", "passed"))
