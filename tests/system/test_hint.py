"""The table is a hint: where claims cannot be looked into, the kernel says whether a tuple is free.

AF_NETLINK forbidden (systemd's RestrictAddressFamilies), no descriptor left, no module for sock_diag. A lane full of
claims whose sockets are gone is then no reason to refuse anybody.
"""

import errno

import harness
import pytest

TO = "127.0.0.1"
AF_NETLINK, NETLINK_SOCK_DIAG = 16, 4
FORBIDDEN = [harness.program("refuse"), "socket", 0, AF_NETLINK, errno.EAFNOSUPPORT, "--"]
NO_DIAG = [harness.program("refuse"), "socket", 2, NETLINK_SOCK_DIAG, errno.EPROTONOSUPPORT, "--"]

# Closed so that no preload sees it: by stdio's fclose().
PROGRAM = """
import ctypes, errno, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fdopen.restype, libc.fclose.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
answers = {}
for i in range(int(sys.argv[1])):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    answer = s.connect_ex(("127.0.0.1", 8001))
    name = errno.errorcode.get(answer, s.getsockname()[0] if answer == 0 else answer)
    answers[name] = answers.get(name, 0) + 1
    libc.fclose(libc.fdopen(s.detach(), b"r+"))
print(answers)
"""


HOLD = """
import socket, sys
keep = []
for i in range(int(sys.argv[1])):
    keep.append(socket.socket())
    keep[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    keep[-1].connect(("127.0.0.1", 8001))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def served(host):
    host.set_ports(40000, 40049)
    host.sink(f"{TO} 8001")
    return host


def run(host, before, count, **settings):
    said = host.run(*before, harness.PYTHON, "-c", PROGRAM, count, preload=harness.LIBRARY, **settings)
    assert said.code == 0, said
    return said.out.strip(), said.err


@pytest.mark.parametrize("before", [FORBIDDEN, NO_DIAG], ids=["no netlink", "no sock_diag"])
@pytest.mark.parametrize("settings, source", [
    ({}, TO), ({"backend": "explicit"}, TO), ({"addrs": "127.0.0.8"}, "127.0.0.8"), ({"ports": "auto/5:2"}, TO),
    ({"ports": "40010-40019"}, TO), ({"addrs": "127.0.0.8", "backend": "explicit"}, "127.0.0.8"),
], ids=["auto", "explicit", "pool", "part", "ports", "pool, explicit"])
def test_stale_claims_that_cannot_be_looked_into(served, before, settings, source):
    """One connection at a time, and three times as many as there are ports; the next program fares no worse."""
    for _ in range(2):
        answers, log = run(served, before, 150, **settings)
        assert answers == str({source: 150})
        assert log.count("event=no-sock-diag") == 1 and log.count("\n") == 1, log
    served.reap()
    assert served.claims() == []


def test_ports_of_the_settings_are_kept(served):
    """The kernel searches among them only, also when the table cannot say."""
    text = PROGRAM.replace("s.getsockname()[0]", "s.getsockname()[1] % 5")
    said = served.must(*NO_DIAG, harness.PYTHON, "-c", text, 60, preload=harness.LIBRARY, ports="auto/5:2", log="off")
    assert said.strip() == "{1: 60}"


@pytest.mark.parametrize("settings", [{}, {"addrs": "127.0.0.8-127.0.0.9"}, {"addrs": "127.0.0.8", "ports": "40000-40009"}],
                         ids=["auto", "pool", "ports"])
def test_no_descriptor_to_look_with(served, settings):
    """Stale claims on all tuples, and the program has used up its descriptors but for one."""
    count = (10 if "ports" in settings else 50) * (2 if "-" in settings.get("addrs", "") else 1)
    holder = served.start(harness.PYTHON, "-c", HOLD, count, preload="run", **settings)
    assert holder.line() == "held", holder.errors()
    holder.signal()
    assert len(served.claims()) == count
    text = """
import resource, socket
s = socket.socket()
resource.setrlimit(resource.RLIMIT_NOFILE, (s.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(s.connect_ex(("127.0.0.1", 8001)))
"""
    assert served.must(harness.PYTHON, "-c", text, preload="run", **settings) == "0\n"


@pytest.mark.parametrize("settings, needed", [({}, False), ({"backend": "explicit"}, True),
                                              ({"protocols": "tcp,udp"}, True)], ids=["late", "explicit", "udp"])
def test_strict_where_nothing_else_helps(served, settings, needed):
    """Refused only where the kernel's search cannot make up for it."""
    said = served.run(*FORBIDDEN, "true", preload=harness.LIBRARY, strict=1, **settings)
    assert said.code == (78 if needed else 0), said
    assert said.err.count("\n") == 1 and ("allow AF_NETLINK" in said.err), said


def test_doctor_says_so(served):
    said = served.run(*FORBIDDEN, harness.COMMAND, "doctor")
    [line] = [line for line in said.out.splitlines() if "sock_diag" in line]
    assert "there" not in line.split("sock_diag")[1].split()[:1], said.out
    assert "AF_NETLINK" in said.out
