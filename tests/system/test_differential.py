"""Every taken-over call, with and without: the same results, errno and sockets.

tests/differential makes calls of all sorts on descriptors of all sorts and prints a line for each case. Here it runs
with and without the preload, on hosts that are alike, and the lines are compared word by word. What may differ is
listed in ALLOWED and CASES below, with the reason, and nowhere else.
"""

import contextlib
import os
import re
import shutil
import tempfile

import harness
import pytest

PROGRAM = harness.BUILD / "tests" / "differential" / "differential"
LONG = bool(os.environ.get("TUPLEBIND_TEST_LONG"))
EVERY = 1 if LONG else 6
ROUNDS = 3  # what is another thing's doing (a packet that is late) differs once, not each time

# What may differ in what is read of a socket: (what, without, with): the reason. Each only of a stream socket, or of
# a datagram socket where UDP is served.
ALLOWED = {
    ("reuseaddr", "0", "1"): "late bind and explicit bind set it, and it stays (README)",
    ("reuseaddr", "2", "1"): "the same of a socket under repair, where the kernel had set it to 2",
    ("reuseport", "0", "1"): "connected UDP sockets share their port by it (README)",
    ("range", "0", "one-port"): "late bind is this option; it stays while the socket has its tuple (README)",
    ("noport", "0", "1"): "late bind to an address that the program has bound (README)",
}

# What may differ in one case: a regular expression for its name: ({(what, without, with)}, the reason).
CASES = {
    r"(bound to|bind to) .*IPV6_V6ONLY": (
        {("setsockopt", "EINVAL", "0"), ("v6only", "0", "1")},
        "after a bind() that was put off the kernel lets it be set (README)"),
    r"(bound to|bind to) .*(link-local with wrong scope|SO_BINDTO)": (
        {("bind", "EINVAL", "0"), ("name", "*:chosen", "*:0")},
        "a bind() that was put off, and then the program chose a device that the address is not on: the kernel "
        "refuses the port that it would have given before"),
    r"^udp.*broadcast": (
        {("name", "*:chosen", "*:0")}, "a UDP connect() that failed leaves no port: the kernel's would leave one"),
    r"^udp, refused \| connect to AF_UNSPEC": (
        {("poll", "c", "4"), ("error", "ECONNREFUSED", "0")},
        "what has come before a UDP socket has its new tuple is thrown away, an error of the old one with it"),
    r"^forbidden close in a whole life": (
        {("open", "*", "*")}, "the library cannot close its own descriptors, either"),
}

# System calls of which a program may have itself killed before it connects or closes; the library makes them there. It
# cannot know without asking, and may be killed for asking (README).
KILLED = re.compile(r"^killed at (socket|getsockname|getsockopt|setsockopt|bind|sendto|recvfrom|openat|mmap|getpid|kill"
                    r"|getrandom|rt_sigprocmask), (connect|close)")

# Neither pools nor explicit bind are among them: a socket keeps the address (or port) that it was given when its connect()
# failed, which shows in hundreds of cases.
MODES = {
    "usual": {},
    "skipped": {"skip": "0.0.0.0/0,::/0"},
    "private": {"table": "private"},
}


@contextlib.contextmanager
def ground():
    """A host with every sort of destination, and the server of differential.h on it."""
    with contextlib.closing(harness.Host((20000, 60999))) as host:
        host.add_addresses("fd08::1")
        host.sysctl("net.ipv6.conf.default.accept_dad", 0)
        host.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        host.must("ip", "link", "add", "wire", "type", "veth", "peer", "name", "end")
        for device in ("wire", "end"):
            host.must("ip", "link", "set", device, "up")
        host.add_addresses("10.9.0.1/24", "fd09::1/64", "fe80::1/64", device="wire")
        for nobody in ("10.9.0.99", "fd09::99", "fe80::99"):
            host.must("ip", "neigh", "replace", nobody, "lladdr", "02:00:00:00:00:99", "dev", "wire",
                      "nud", "permanent")
        for number, kind in ((10, "unreachable"), (11, "prohibit"), (12, "blackhole")):
            host.must("ip", "route", "add", kind, f"10.{number}.0.0/16")
            host.must("ip", "-6", "route", "add", kind, f"fd{number}::/16")
        server = host.start(PROGRAM, "serve")
        assert server.line() == "ready", server.errors()
        yield host


def split(out):
    """{case: words} of what it printed, which must be complete."""
    *lines, last = out.splitlines()
    cases = dict(line.split(":", 1) for line in lines)
    died = [line for line in lines if ": ended with " in line and not KILLED.match(line)]
    assert died == []
    told = len(lines) - sum(1 for line in lines if ": ended with " in line)
    assert last == f"{told} cases" and len(cases) == len(lines) > 500, (last, len(lines), len(cases))
    return {name: words.split() for name, words in cases.items()}


def run(words, preload=None, before=(), **settings):
    with ground() as host:
        start = [*before, *(["env", f"LD_PRELOAD={preload}"] if before and preload else [])]
        result = host.run(*start, *words, preload=None if before else preload, limit=300, log="off", **settings)
        assert (result.code, result.err) == (0, ""), result
        # It was preloaded, or would have been.
        if preload and settings.get("table") != "private":
            user = harness.OTHER_USER if before else os.getuid()
            assert any(f"/tuplebind.{user}." in table for table in host.tables())
        return split(result.out)


plain_lines = {}


def plain(words, before=(), again=False):
    """Without the preload, once for all modes."""
    key = (*words[1:], *before)
    if again or key not in plain_lines:
        plain_lines[key] = run(words, before=before)
    return plain_lines[key]


def like(pattern, value):
    return pattern == "*" or value == pattern or pattern.startswith("*:") and ":" in value and \
        value.rsplit(":", 1)[1].split("/")[0] == pattern[2:]


class Comparison:
    """Two runs: which cases differ, and how often what is allowed to differ does."""

    def __init__(self, without, with_, udp):
        assert without.keys() == with_.keys()
        self.types = {"1", "2"} if udp else {"1"}
        self.allowed = 0
        self.different = {name: found for name in without
                          if (found := self.compare(name, without[name], with_[name]))}

    def compare(self, name, without, with_):
        if len(without) != len(with_):
            return [] if KILLED.match(name) else [(" ".join(without), " ".join(with_))]
        found, type_ = [], None
        allowed = {a for pattern, (may, _) in CASES.items() if re.search(pattern, name) for a in may}
        for one, other in zip(without, with_):
            what, _, a = one.partition("=")
            what_with, _, b = other.partition("=")
            if what == "type":
                type_ = a
            if (what, a) == (what_with, b):
                continue
            if (what, a, b) in ALLOWED and type_ in self.types:
                self.allowed += 1
            elif not any(what == w and like(x, a) and like(y, b) for w, x, y in allowed):
                found.append((one, other))
        return found


def expect_alike(words, before=(), preload=harness.LIBRARY, **settings):
    different = None
    for attempt in range(ROUNDS):
        c = Comparison(plain(words, before, again=attempt > 0), run(words, preload, before, **settings),
                       "udp" in settings.get("protocols", ""))
        # Served sockets show: the preload is at work.
        assert c.allowed > 100 or "skip" in settings
        different = c.different if different is None else \
            {name: found for name, found in c.different.items() if name in different}
        if not different:
            return
    pytest.fail(f"{len(different)} cases differ:\n" + "\n".join(
        f"{name}: {' '.join(f'{a} -> {b}' for a, b in found)}" for name, found in list(different.items())[:40]),
        pytrace=False)


@pytest.mark.parametrize("asked", ["--asked", "--unasked"])
@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("mode", MODES)
def test_mode(mode, family, asked):
    expect_alike([PROGRAM, family, asked, "--every", str(EVERY)], **MODES[mode])


@pytest.mark.parametrize("asked", ["--asked", "--unasked"])
def test_udp(asked):
    """IPv4: an IPv6 socket that was bound to an address is for IPv6 only from then on, which shows everywhere."""
    expect_alike([PROGRAM, "v4", asked, "--every", str(EVERY)], protocols="tcp,udp")


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_programs_of_their_own(family):
    """Each row in a program that was started for it: not forked from one that the library has been in."""
    expect_alike([PROGRAM, family, "--exec", "--every", str(EVERY)])


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_another_user(family):
    """Without root's rights."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program, library = (shutil.copy(path, directory) for path in (PROGRAM, harness.LIBRARY))
        user = str(harness.OTHER_USER)
        before = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        if os.getuid() != 0 or open("/proc/self/uid_map").read().split()[2] == "1":
            pytest.skip("there is only one user here")
        expect_alike([program, family, "--every", str(EVERY)], before, library)
