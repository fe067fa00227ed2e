"""A host that is a whole Debian: systemd is its first process, and tuplebind is installed.

Recipes run on it as they stand, with the paths and addresses they name, and nothing of it reaches
the machine of the tests.
"""

import json
import pathlib
import subprocess
import tempfile
import uuid

import harness

UPSTREAM = "10.0.0.100"
POOL = [f"10.0.0.{last}" for last in range(5, 55)]  # the recipes' fifty addresses

BOOT = pathlib.Path(__file__).with_name("boot")
# Where the recipes have the library. It is elsewhere on other processors, and where meson found no dpkg-dev.
LIBRARY = "/usr/local/lib/x86_64-linux-gnu/libtuplebind.so"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # root's there, whatever ours is
NAMESPACES = ("net", "mnt", "uts", "ipc", "cgroup")
RUNNING = ("running", "degraded")  # or a unit of no concern here has failed


class Machine(harness.Host):
    """Made by `boot`, which tells what is its own."""

    def __init__(self, **options):
        self.name = f"tuplebind-{uuid.uuid4().hex[:8]}"
        self.directory = tempfile.TemporaryDirectory(prefix="tuplebind-")
        try:
            super().__init__(**options)
        except AssertionError:  # it has not come up
            self.anchor.close()
            self.remove_ground()
            raise
        self.must("sh", "-ec", """
            [ -e "$1" ] || { mkdir -p "${1%/*}"; ln -s "$(find /usr/local -name libtuplebind.so)" "$1"; }
        """, "sh", LIBRARY)
        harness.eventually(lambda: self.run("systemctl", "is-system-running").out.strip() in RUNNING)

    def anchor_words(self):
        return ["unshare", "--mount", BOOT, self.directory.name, self.name, harness.BUILD]

    def enter_words(self):
        own = f"/proc/{self.anchor.pid}/ns"
        return ["nsenter", *(f"--{'mount' if kind == 'mnt' else kind}={own}/{kind}" for kind in NAMESPACES),
                f"--pid={own}/pid_for_children", "--wdns=/", "--", "env", f"PATH={PATH}"]

    def shell(self, text, **options):
        """Runs a recipe's commands to their end, stopping at one that fails; what they printed."""
        return self.must("sh", "-ec", text, **options)

    def write(self, path, text):
        self.must("sh", "-ec", 'mkdir -p "${1%/*}"; cat >"$1"', "sh", path, stdin=text)

    def journal(self, unit):
        return self.must("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def status(self):
        """The machine's one table, as the installed command has it."""
        table, = json.loads(self.must("tuplebind", "status", "--json"))["tables"]
        return table

    def tables(self):
        return self.must("find", "/dev/shm", "-name", "tuplebind.*").split()

    def remove_tables(self):
        """Its /dev/shm ends with it."""

    def remove_cgroups(self):
        """False while there is a process in them still: who is killed takes a while to be gone."""
        return subprocess.run(["unshare", "--mount", "sh", "-c", """
            mount -t cgroup2 none "$1"
            find "$1/$2" -depth -type d -exec rmdir {} +
        """, "sh", self.directory.name, self.name], capture_output=True).returncode == 0

    def remove_ground(self):
        harness.eventually(self.remove_cgroups)
        self.directory.cleanup()

    def close(self):
        super().close()
        self.remove_ground()
