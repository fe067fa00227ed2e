"""The system tests' ground: hosts of their own, programs on them, and what the kernel says.

A Host is a network namespace, held by an anchor process. Programs are started in it with and
without tuplebind; its sockets are read from the kernel, its claims from the table's file. All
of it works as root and inside `unshare -Urn` alike, everything has a time limit, and closing a
Host ends what runs in its namespace and removes its tables.
"""

import collections
import contextlib
import glob
import json
import os
import pathlib
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time

import sanitizer

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TUPLEBIND_BUILD", REPOSITORY / "build")).resolve()
LIBRARY = BUILD / "lib" / "libtuplebind.so"
COMMAND = BUILD / "tools" / "tuplebind"
PYTHON = sys.executable
SANITIZER = sanitizer.runtime(LIBRARY)  # what has to be preloaded with a build for one
OTHER_USER = 12345
DEPARTURES = BUILD / "tests" / "helpers" / "departures.so"  # put behind the library; None: this test has no use for it
LIMIT = int(os.environ.get("TUPLEBIND_TEST_LIMIT", "30"))  # seconds for anything that should take much less

# Who starts the tests in the background may have these ignored, and programs would inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# A host begins so; in one shell, since most tests make a host, and programs take long to start on a busy machine. (A FIN
# may be sent twice there, and the RST in answer would end TIME_WAIT early.)
SET_UP = """
ip link set lo up
cd /proc/sys/net
echo 65535 >core/somaxconn
echo 1 >ipv4/tcp_rfc1337
echo "$1 $2" >ipv4/ip_local_port_range
"""

Tuple = collections.namedtuple("Tuple", "laddr lport faddr fport")
Socket = collections.namedtuple("Socket", "state held received tuple")
Result = collections.namedtuple("Result", "code out err")


def program(name):
    """The path of one of tests/helpers."""
    return str(BUILD / "tests" / "helpers" / name)


def table_user():
    """The user that tables are named by: as the parent of this user namespace has it."""
    for line in pathlib.Path("/proc/self/uid_map").read_text().splitlines():
        here, parent, count = map(int, line.split())
        if here <= os.geteuid() < here + count:
            return parent + os.geteuid() - here
    return os.geteuid()


def variables(settings):
    """addrs="..." becomes TUPLEBIND_ADDRS=..., as `tuplebind run --addrs` would have it."""
    return {"TUPLEBIND_" + name.upper(): str(value) for name, value in settings.items()}


def clean_environment():
    return {name: value for name, value in os.environ.items()
            if not name.startswith("TUPLEBIND_") and name != "LD_PRELOAD"} | {"LC_ALL": "C"}


def give_away(path):
    """Makes a file another user's."""
    import pytest  # not at the top: scripts/bench has this file as well, and no need of pytest

    try:
        os.chown(path, OTHER_USER, -1)
    except OSError as error:
        pytest.skip(f"there is only one user here: {error}")


def plain_address(text):
    """An address as ss and the table have it, without brackets, scope and v4-mapping."""
    return text.split("%")[0].strip("[]").removeprefix("::ffff:")


class Program:
    """A running program: its stdin and stdout are spoken with line by line.

    In a session of its own: the kernel hangs up a process group in which something is stopped when it loses its
    last tie to the rest of its session, and the tests themselves would be in that group.
    """

    def __init__(self, argv, environment, **options):
        self.errors_file = tempfile.TemporaryFile()
        self.process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors_file,
                                        start_new_session=True, **options)
        self.pid = self.process.pid
        self.buffer = b""

    def line(self, limit=LIMIT):
        """The next line of stdout, None at its end."""
        deadline = time.monotonic() + limit
        out = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise TimeoutError(f"{self.process.args}: no line in {limit} s\n{self.errors()}")
                got = os.read(out, 65536)
                if not got:
                    return None
                self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def errors(self):
        self.errors_file.seek(0)
        return self.errors_file.read().decode(errors="replace")

    def wait(self, limit=LIMIT):
        return self.process.wait(limit)

    def end(self):
        """Ends stdin, which ends our programs. The exit code."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.wait()

    def signal(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors_file):
            with contextlib.suppress(BrokenPipeError):
                file.close()


class Steps:
    """tests/helpers/steps: each call makes one system call there and returns its answer."""

    def __init__(self, running):
        self.program = running

    def __call__(self, order):
        self.program.say(order)
        return self.program.line()

    def socket(self, kind="v4"):
        return int(self(f"socket {kind}"))

    def connect(self, fd, to, port):
        return self(f"connect {fd} {to} {port}")

    def open(self, to, port, count=1, kind="v4"):
        """Connects so many sockets, which must succeed; their descriptors."""
        fds = [self.socket(kind) for _ in range(count)]
        for fd in fds:
            answer = self.connect(fd, to, port)
            assert answer == "0", answer
        return fds


class Host:
    """A network namespace with everything a test does in it."""

    def __init__(self, ports=(40000, 40999)):
        self.programs = []
        self.departures = tempfile.NamedTemporaryFile(prefix="tuplebind-departures-")
        os.chmod(self.departures.name, 0o666)
        self.departures_expected = False
        self.anchor = Program(["setpriv", "--pdeathsig", "KILL", *self.anchor_words()],
                              clean_environment())
        assert self.anchor.line() == "ready", self.anchor.errors()
        self.namespace = os.stat(f"/proc/{self.anchor.pid}/ns/net").st_ino
        first, last = ports
        self.ports = set(range(first, last + 1))
        self.must("sh", "-ec", SET_UP, "sh", str(first), str(last))

    # What a host with more namespaces than the network's does otherwise.

    def anchor_words(self):
        """The anchor: makes the namespace, says ready, holds it."""
        return ["unshare", "--net", "--", "sh", "-c", "echo ready; exec cat"]

    def enter_words(self):
        """What stands before a program's command line to have it run on this host."""
        return ["nsenter", f"--net=/proc/{self.anchor.pid}/ns/net", "--"]

    # The host's settings.

    def sysctl(self, name, value):
        path = "/proc/sys/" + name.replace(".", "/")
        self.must("sh", "-c", 'echo "$1" >"$2"', "sh", str(value), path)

    def set_ports(self, first, last):
        self.ports = set(range(first, last + 1))
        self.sysctl("net.ipv4.ip_local_port_range", f"{first} {last}")

    def add_addresses(self, *addresses, device="lo"):
        lines = []
        for address in addresses:
            length, options = ("/128", "nodad") if ":" in address else ("/32", "")
            if "/" in address:
                length = ""
            lines.append(f"address add {address}{length} dev {device} {options}")
        self.must("ip", "-batch", "-", stdin="\n".join(lines))

    # Programs.

    def command(self, argv, preload, environment, settings):
        """The whole command line and its environment.

        preload: None (a stranger), "run" (under `tuplebind run`) or the items of LD_PRELOAD. That
        variable is set last on the way, or it would be for the helpers as well.
        """
        line = ["setpriv", "--pdeathsig", "KILL", *self.enter_words()]
        behind = [str(DEPARTURES)] if DEPARTURES and not SANITIZER else []
        items = [*([SANITIZER] if SANITIZER else []), *([] if preload == "run" else [str(preload)]), *behind]
        if preload == "run":
            line += [*(["env", f"LD_PRELOAD={':'.join(items)}"] if items else []), str(COMMAND), "run", "--"]
        elif preload is not None:
            line += ["env", f"LD_PRELOAD={':'.join(items)}"]
        seen = {"DEPARTURES_FILE": self.departures.name} if preload is not None and behind else {}
        return line + [str(word) for word in argv], \
            clean_environment() | variables(settings) | seen | (environment or {})

    def strayed(self):
        """Connections that left from another address than the program or the settings chose."""
        self.departures.seek(0)
        return self.departures.read().decode().splitlines()

    def run(self, *argv, preload=None, environment=None, limit=LIMIT, stdin="", cwd=None, **settings):
        """Runs a program to its end."""
        line, environment = self.command(argv, preload, environment, settings)
        done = subprocess.run(line, env=environment, input=stdin.encode(), capture_output=True,
                              timeout=limit, cwd=cwd, start_new_session=True)
        return Result(done.returncode, done.stdout.decode(errors="replace"),
                      done.stderr.decode(errors="replace"))

    def must(self, *argv, **options):
        """Runs a program that has to succeed; what it printed."""
        result = self.run(*argv, **options)
        assert result.code == 0, result
        return result.out

    def start(self, *argv, preload=None, environment=None, pass_fds=(), **settings):
        """Starts a program that goes on."""
        line, environment = self.command(argv, preload, environment, settings)
        running = Program(line, environment, pass_fds=pass_fds)
        self.programs.append(running)
        return running

    def sink(self, *endpoints):
        """A server that completes connections and does nothing else, on "address port" each."""
        words = [word for endpoint in endpoints for word in endpoint.split()]
        server = self.start(program("sink"), *words)
        assert server.line() == "ready", server.errors()
        return server

    def steps(self, preload="run", **settings):
        return Steps(self.start(program("steps"), preload=preload, **settings))

    def start_seed(self, to, port, count, *options, preload="run", **settings):
        """The seed's experiment: prints what came of it, and its connections stay."""
        return self.start(program("seed"), "--hold", *options, to, port, count,
                          preload=preload, **settings)

    def seed(self, *words, **options):
        """The same, waited for. (What it printed, the program)"""
        running = self.start_seed(*words, **options)
        return json.loads(running.line() or running.errors()), running

    def tuplebind(self, *words, **options):
        return self.run(COMMAND, *words, **options)

    def reap(self):
        """`tuplebind reap`, which may complain only of tables that tests beside this one have broken."""
        result = self.tuplebind("reap")
        ours = [line for line in result.err.splitlines() if f".{self.namespace}" in line]
        assert result.code in (0, 125) and ours == [], result

    # What the kernel and the table say.

    def sockets(self, port=None, server=False, protocol="tcp"):
        """Sockets but listeners, of clients (or servers) of a foreign (or local) port."""
        which = [] if port is None else ["sport" if server else "dport", "=", f":{port}"]
        found = []
        for line in self.must("ss", "-anHe", f"--{protocol}", *which).splitlines():
            state, received, _, local, foreign, *rest = line.split()
            if state == "LISTEN":
                continue
            laddr, lport = local.rsplit(":", 1)
            faddr, fport = foreign.rsplit(":", 1)
            if "*" in (lport, fport):
                continue
            held = any(word.startswith("ino:") and word != "ino:0" for word in rest)
            found.append(Socket(state, held, int(received), Tuple(
                plain_address(laddr), int(lport), plain_address(faddr), int(fport))))
        return found

    def tuples(self, port, protocol="tcp"):
        """The tuples of sockets that programs hold to this foreign port, sorted: twins would show."""
        return sorted(s.tuple for s in self.sockets(port, protocol=protocol) if s.held)

    def tables(self):
        return [path for path in glob.glob(f"/dev/shm/tuplebind.*.{self.namespace}*")]

    def claims(self, port=None, protocol="tcp"):
        """All claims of this host's tables for a protocol, as tuples, sorted."""
        found = []
        for path in self.tables():
            for line in self.must(program("claims"), path).splitlines():
                which, laddr, lport, faddr, fport = line.split()
                if which == protocol:
                    found.append(Tuple(laddr, int(lport), faddr, int(fport)))
        return sorted(t for t in found if port in (None, t.fport))

    def status(self):
        """`tuplebind status --json`, this host's one table."""
        tables = [table for table in json.loads(self.must(COMMAND, "status", "--json"))["tables"]
                  if table["netns"] == self.namespace]
        assert len(tables) == 1, tables
        return tables[0]

    def status_text(self, *words):
        """The lines of `tuplebind status` on this host's table of no other name."""
        tables = re.split(r"\n\n(?=\S)", self.must(COMMAND, "status", *words).rstrip("\n"))
        [mine] = [t for t in tables if t.startswith(f"{table_user()}.{self.namespace}\n")]
        return mine.splitlines()

    # The end.

    def remove_tables(self):
        for path in self.tables():
            os.unlink(path)

    def inhabitants(self):
        """Processes of this namespace but the anchor: what tests started, and their children."""
        found = []
        for path in glob.glob("/proc/[0-9]*/ns/net"):
            pid = int(path.split("/")[2])
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == self.namespace and pid != self.anchor.pid:
                    found.append(pid)
        return found

    def close(self):
        for running in self.programs:
            running.close()
        deadline = time.monotonic() + LIMIT
        # Without its anchor the namespace's number may be another one's by now.
        while self.anchor.process.poll() is None and (left := self.inhabitants()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.remove_tables()
        self.anchor.close()
        strayed = self.strayed()
        self.departures.close()
        assert self.departures_expected or strayed == [], strayed[:5]


def join(one, other, one_addresses, other_addresses, other_device="wire"):
    """A cable between two hosts: devices "wire" with these addresses (with prefix length)."""
    devices = ((one, "wire"), (other, other_device))
    for host in (one, other):
        host.sysctl("net.ipv6.conf.default.accept_dad", 0)  # or link-local addresses take a second
    one.must("ip", "link", "add", "wire", "type", "veth", "peer", "name", other_device,
             "netns", str(other.anchor.pid))
    for (host, device), addresses in zip(devices, (one_addresses, other_addresses)):
        host.add_addresses(*addresses, device=device)
        host.must("ip", "link", "set", device, "up")
    for host, device in devices:  # or the first packets are lost, and sent again a second later
        eventually(lambda host=host, device=device: "state UP" in host.must("ip", "link", "show", "dev", device))


def eventually(holds, limit=LIMIT):
    """Waits until holds() is true, for what the kernel or another process does in its own time."""
    deadline = time.monotonic() + limit
    while not (result := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {limit} s")
        time.sleep(0.01)
    return result
