"""From where a connection leaves, after calls on the socket that failed.

A bind() that fails for the port clears the address that a socket had. So whatever was tried and refused on the way
(a tuple in TIME_WAIT, a stranger's port, a listener's, a policy), the connection leaves from the address that the
program bound; else from one of the pool; and from another one only where no address of the pool can be used, and
TUPLEBIND_UNUSABLE has the kernel choose.
"""

import errno
import json

import harness
import pytest

TO, TO6 = "127.0.0.1", "::1"
OWN, OWN6 = "127.0.0.5", "fd00::5"
POOL = "127.0.0.8-127.0.0.9"
POOL_ADDRESSES = {"127.0.0.8", "127.0.0.9"}
IP_LOCAL_PORT_RANGE = 51
backends = pytest.mark.parametrize("backend", ["auto", "explicit"])

# One connection after the other, or all held. Each answer: an error, or the address it left from.
PROGRAM = """
import errno, json, socket, sys
to, own, count, *words = sys.argv[1:]
keep, answers = [], []
for i in range(int(count)):
    s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET,
                      socket.SOCK_DGRAM if "udp" in words else socket.SOCK_STREAM)
    if "hold" in words and "udp" not in words: # nothing stays when it is killed
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    try:
        if "no port" in words:
            s.setsockopt(socket.SOL_IP, 24, 1) # IP_BIND_ADDRESS_NO_PORT
        if own != "-":
            s.bind((own, 0))
        if "ask" in words:
            s.getsockname()
        s.connect((to, 8001))
        answers.append(s.getsockname()[0])
    except OSError as e:
        answers.append(errno.errorcode[e.errno])
    if "hold" in words:
        keep.append(s)
    else:
        s.close()
print(json.dumps(answers), flush=True)
"hold" in words and sys.stdin.read()
"""


@pytest.fixture
def served(host):
    host.set_ports(40000, 40099)
    host.add_addresses(OWN6, "fd00::8", "fd00::9")
    server = host.start(harness.program("echo"), TO, 8001, TO6, 8001)  # closes when its client has
    assert server.line() == "ready", server.errors()
    return host


def connections(host, to, own, count, *words, preload="run", before=(), **settings):
    said = host.run(*before, harness.PYTHON, "-c", PROGRAM, to, own, count, *words,
                    preload=harness.LIBRARY if before else preload, **settings)
    assert said.code == 0, said
    return json.loads(said.out), said.err


def hold(host, to, own, count, *words, preload=None, **settings):
    running = host.start(harness.PYTHON, "-c", PROGRAM, to, own, count, "hold", *words, preload=preload, **settings)
    assert running.line(), running.errors()
    return running


@backends
@pytest.mark.parametrize("words", [[], ["no port"]], ids=["bind", "no port"])
@pytest.mark.parametrize("to, own", [(TO, OWN), (TO6, OWN6)], ids=["v4", "v6"])
def test_bound_address_past_ports_in_time_wait(served, to, own, words, backend):
    """Ports in TIME_WAIT that a socket of another kind of bind has left: binds to them fail."""
    served.sysctl("net.ipv4.tcp_tw_reuse", 0)
    plain, _ = connections(served, to, own, 50, preload=None)
    assert plain == [own] * 50
    ours, log = connections(served, to, own, 60, *words, backend=backend)
    assert ours == [own] * 60 and log == ""


@backends
@pytest.mark.parametrize("how", ["bound", "listening"])
@pytest.mark.parametrize("to, own", [(TO, OWN), (TO6, OWN6)], ids=["v4", "v6"])
def test_bound_address_past_a_strangers_ports(served, to, own, how, backend):
    """Strangers without SO_REUSEADDR that are not connected, which sock_diag does not show, or not as such."""
    text = """
import socket, sys
made = []
for port in range(40000, 40090):
    made.append(socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET))
    made[-1].bind((sys.argv[1], port))
    if sys.argv[2] == "listening":
        made[-1].listen()
print("bound", flush=True)
sys.stdin.read()
"""
    stranger = served.start(harness.PYTHON, "-c", text, own, how)
    assert stranger.line() == "bound"
    ours, _ = connections(served, to, own, 20, "hold", backend=backend)
    assert ours == [own] * 10 + ["EADDRNOTAVAIL"] * 10


@backends
@pytest.mark.parametrize("pool", [None, POOL])
def test_asked_for_its_port_where_there_is_none(served, pool, backend):
    """Plain bind() would have said so; asked for the port, there is none to tell, and nothing leaves from elsewhere."""
    ours, _ = connections(served, TO, OWN, 105, "ask", "hold", backend=backend, **({"addrs": pool} if pool else {}))
    assert ours == [OWN] * 100 + ["EADDRINUSE"] * 5


@pytest.mark.parametrize("words", [[], ["ask"]], ids=["connect", "ask first"])
def test_after_a_port_was_asked_for_in_vain(served, words):
    """The socket has its address still, and connects from it as soon as there is a port."""
    holder = hold(served, TO, OWN, 100, "ask")
    steps = served.steps()
    fd = steps.socket()
    assert steps(f"bind {fd} {OWN} 0") == "0"
    if words:
        assert steps(f"name {fd}") == "EADDRINUSE"
    assert steps.connect(fd, TO, 8001) == "EADDRNOTAVAIL"
    holder.signal()
    harness.eventually(lambda: steps.connect(fd, TO, 8001) == "0")
    assert [t.laddr for t in served.tuples(8001)] == [OWN]


@backends
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_pool_past_a_strangers_ports(served, protocol, backend):
    """The kernel refuses port after port of the pool's addresses."""
    text = """
import socket, sys
made = []
for address in ("127.0.0.8", "127.0.0.9"):
    for port in range(40000, 40090):
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM))
        made[-1].bind((address, port))
print("bound", flush=True)
sys.stdin.read()
"""
    stranger = served.start(harness.PYTHON, "-c", text, protocol)
    assert stranger.line() == "bound"
    ours, _ = connections(served, TO, "-", 25, protocol, "hold", addrs=POOL, protocols="tcp,udp", backend=backend)
    full = "EAGAIN" if protocol == "udp" else "EADDRNOTAVAIL"
    assert set(ours[:20]) == POOL_ADDRESSES and ours[20:] == [full] * 5, ours


# Addresses that a socket keeps

@backends
@pytest.mark.parametrize("kind", ["v4", "udp"])
def test_address_of_a_pool_is_not_for_the_next_destination(served, kind, backend):
    """Refused from an address of the pool, a socket goes on to a destination that the pool is not for."""
    steps = served.steps(rules=f"{TO}:8009={POOL};{TO}:8001=skip", backend=backend, protocols="tcp,udp")
    fd = steps.socket(kind)
    if kind == "v4":
        assert steps.connect(fd, TO, 8009) == "ECONNREFUSED"
    else:
        assert steps.connect(fd, TO, 8009) == "0" and steps(f"unspec {fd}") == "0"
    answer = steps.connect(fd, TO, 8001)
    # A socket that was bound explicitly cannot let go of the port, nor of the address.
    if backend == "auto":
        assert answer == "0" and {t.laddr for t in served.tuples(8001, protocol="udp" if kind == "udp" else "tcp")} == {TO}
    else:
        assert answer == "0"
        served.departures_expected = True


@pytest.mark.parametrize("unusable", ["kernel", "fail"])
def test_explicit_socket_that_keeps_the_wrong_address(served, unusable):
    steps = served.steps(rules=f"{TO}:8009={POOL};{TO}:8001=127.0.0.11", backend="explicit", unusable=unusable)
    fd = steps.socket()
    assert steps.connect(fd, TO, 8009) == "ECONNREFUSED"
    assert steps.connect(fd, TO, 8001) == ("0" if unusable == "kernel" else "EADDRNOTAVAIL")
    assert steps.program.errors().count("event=unusable") == 1
    served.departures_expected = unusable == "kernel"


def test_kernels_choice_is_forgotten_after_a_refusal(two_hosts):
    """As without tuplebind: the next destination may have another source. (A socket that we ever bound keeps its own.)"""
    client, server = two_hosts
    server.sink("10.7.0.100 8001")
    steps = client.steps(rules=f"{TO}:8009=127.0.0.8")
    fd = steps.socket()
    assert steps.connect(fd, TO, 8009) == "ECONNREFUSED"  # from the pool
    assert steps.connect(fd, TO, 8010) == "ECONNREFUSED"  # from where the kernel chose
    assert steps.connect(fd, "10.7.0.100", 8001) == "0"
    assert [t.laddr for t in client.tuples(8001)] == ["10.7.0.1"]


# No address of the pool can be used

@backends
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("unusable", [None, "kernel", "fail"])
def test_no_address_of_the_pool_is_here(two_hosts, unusable, protocol, backend):
    client, server = two_hosts
    server.sink("10.7.0.100 8001")
    client.departures_expected = unusable != "fail"
    settings = {"unusable": unusable} if unusable else {}
    ours, log = connections(client, "10.7.0.100", "-", 3, protocol, addrs="10.99.0.1,10.99.0.2", protocols="tcp,udp",
                            backend=backend, **settings)
    assert ours == (["EADDRNOTAVAIL"] * 3 if unusable == "fail" else ["10.7.0.1"] * 3)
    [line] = [line for line in log.splitlines() if "event=unusable" in line]
    assert ('then=EADDRNOTAVAIL' if unusable == "fail" else 'then="the kernel chooses"') in line


def test_bound_address_is_not_the_pools_business(two_hosts):
    """What the program has bound itself is used, also where the pool cannot be."""
    client, server = two_hosts
    server.sink("10.7.0.100 8001")
    ours, _ = connections(client, "10.7.0.100", "10.7.0.3", 3, addrs="10.99.0.1", unusable="fail")
    assert ours == ["10.7.0.3"] * 3


@pytest.mark.parametrize("unusable", ["kernel", "fail"])
def test_no_table(served, unusable):
    """Where no table can be had, fail refuses what would have been served, and nothing else."""
    script = 'mount -t tmpfs -o ro none /dev/shm && LD_PRELOAD=$1 exec "${@:2}"'
    said = served.run("unshare", "--mount", "bash", "-c", script, "bash", harness.LIBRARY, harness.PYTHON, "-c",
                      PROGRAM, TO, "-", 2, unusable=unusable, environment={"PYTHONUNBUFFERED": "1"})
    assert json.loads(said.out) == (["EADDRNOTAVAIL"] * 2 if unusable == "fail" else [TO] * 2), said
    assert said.err.count("\n") == 1
    assert ("connects are refused" if unusable == "fail" else "running without tuplebind") in said.err
    for more in ([TO, OWN, 1], []):
        said = served.run("unshare", "--mount", "bash", "-c", script, "bash", harness.LIBRARY, harness.PYTHON, "-c",
                          PROGRAM, *(more or [TO, "-", 1]), unusable="fail", **({} if more else {"skip": TO}))
        assert json.loads(said.out) == [OWN if more else TO], said


@pytest.mark.parametrize("how", ["table full", "full"])
def test_left_to_the_kernel_from_the_pool(served, how):
    """No room in the table, or no tuple left and the kernel may try: the port is its choice, the address is not."""
    if how == "full":
        served.set_ports(40000, 40003)
    settings = {"table_size": "256K"} if how == "table full" else {"full": "kernel", "ports": "40000-40001"}
    text = """
import socket
keep, seen = [], set()
for i in range(N):
    s = socket.socket()
    s.connect(TO)
    keep.append(s)
    seen.add(s.getsockname()[0])
print(sorted(seen))
"""
    text = text.replace("N", "4").replace("TO", f"('{TO}', 8001)") if how == "full" else \
        text.replace("N", "1500").replace("TO", "('127.1.%d.%d' % (i // 250, 1 + i % 250), 8005)")
    if how == "table full":
        served.start(harness.PYTHON, "-c", SERVER).line()
    said = served.must(harness.PYTHON, "-c", text, preload="run", addrs="127.0.0.8", log="off", **settings)
    assert said == "['127.0.0.8']\n"
    counters = served.status()["counters"]
    assert counters["table_full" if how == "table full" else "full"] > 0 and counters["passed"] > 0


SERVER = """
import socket, sys
server = socket.socket()
server.bind(("0.0.0.0", 8005))
server.listen(4096)
print("ready", flush=True)
sys.stdin.read()
"""


# Policies

@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@backends
def test_policy_that_forbids_bind(served, protocol, error, backend):
    """No reason to refuse what plain connect() may do; found out once, not port by port."""
    ours, log = connections(served, TO, "-", 120, protocol, "hold", protocols="tcp,udp", backend=backend,
                            before=[harness.program("refuse"), "bind", -1, 0, error, "--"])
    full = {"tcp": "EADDRNOTAVAIL", "udp": "EAGAIN"}[protocol]
    assert ours == [TO] * 100 + [full] * 20
    assert log.count("event=bind-forbidden") == (1 if backend == "explicit" else 0), log
    counters = served.status()["counters"]
    assert counters["retries"] < 100


# Landlock, from Linux 6.7 on: only the port named may be bound, 0 is none of them.
LANDLOCK = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
attribute = struct.pack("QQ", 0, 1) # LANDLOCK_ACCESS_NET_BIND_TCP
ruleset = libc.syscall(444, attribute, ctypes.c_size_t(len(attribute)), 0)
if ruleset < 0:
    sys.exit(77)
rule = struct.pack("QQ", 1, int(sys.argv[1]))
assert libc.syscall(445, ruleset, 2, rule, 0) == 0 # LANDLOCK_RULE_NET_PORT
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.syscall(446, ruleset, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""


@backends
@pytest.mark.parametrize("settings", [{}, {"addrs": POOL}], ids=["auto", "pool"])
def test_landlock_that_forbids_bind(served, settings, backend):
    """A real one: connects go on, from where the kernel chooses, and what cannot be done is told once."""
    before = [harness.PYTHON, "-c", LANDLOCK, 8080]
    if served.run(*before, "true").code == 77:
        pytest.skip("this kernel has no Landlock for ports")
    served.departures_expected = bool(settings)
    ours, log = connections(served, TO, "-", 5, before=before, backend=backend, **settings)
    assert ours == [TO] * 5
    assert log.count("event=bind-forbidden") == (1 if settings or backend == "explicit" else 0), log
    assert log.count("event=unusable") == (1 if settings else 0), log
    if settings:
        ours, _ = connections(served, TO, "-", 2, before=before, backend=backend, unusable="fail", **settings)
        assert ours == ["EADDRNOTAVAIL"] * 2


@backends
@pytest.mark.parametrize("settings", [{}, {"addrs": POOL}], ids=["auto", "pool"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES])
def test_policy_that_forbids_connect(served, error, protocol, settings, backend):
    """The program is told, as without tuplebind, and no claim stays."""
    ours, log = connections(served, TO, "-", 5, protocol, protocols="tcp,udp", backend=backend, **settings,
                            before=[harness.program("refuse"), "connect", -1, 0, error, "--"])
    assert ours == [errno.errorcode[error]] * 5 and log == ""
    assert served.claims() == served.claims(protocol="udp") == []


@backends
@pytest.mark.parametrize("unusable", ["kernel", "fail"])
def test_policy_that_forbids_the_pool(served, unusable, backend):
    served.departures_expected = unusable == "kernel"
    ours, log = connections(served, TO, "-", 5, addrs=POOL, unusable=unusable, backend=backend,
                            before=[harness.program("refuse"), "bind", -1, 0, errno.EACCES, "--"])
    assert ours == ([TO] if unusable == "kernel" else ["EADDRNOTAVAIL"]) * 5
    assert log.count("event=bind-forbidden") == 1 and log.count("event=unusable") == 1, log


@pytest.mark.parametrize("option", [IP_LOCAL_PORT_RANGE, 24, 2])
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOMEM])
def test_options_that_are_refused(served, option, error):
    """The pool's addresses are used all the same, as far as they can be."""
    ours, _ = connections(served, TO, "-", 5, addrs=POOL,
                          before=[harness.program("refuse"), "setsockopt", 2, option, error, "--"])
    assert set(ours) <= POOL_ADDRESSES, ours


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ENOBUFS])
def test_bind_without_memory(served, error):
    """As plain bind() and connect() fare: a bound socket is told, an unbound one connects."""
    served.departures_expected = True
    ours, log = connections(served, TO, "-", 5, addrs=POOL,
                            before=[harness.program("refuse"), "bind", -1, 0, error, "--"])
    assert ours == [TO] * 5 and "event=unusable" in log
    ours, _ = connections(served, TO, OWN, 2, before=[harness.program("refuse"), "bind", -1, 0, error, "--"])
    assert ours == [errno.errorcode[error]] * 2


# What is left on a socket

@pytest.mark.parametrize("backend", ["auto", "explicit"])
def test_bind_after_a_connect_in_vain(served, backend):
    """The socket is as it was: a bind() of the program has a port, as without tuplebind."""
    steps = served.steps(addrs="127.0.0.8", ports="40000", backend=backend)
    steps.open(TO, 8001)
    fd = steps.socket()
    assert steps.connect(fd, TO, 8001) == "EADDRNOTAVAIL"
    assert steps(f"bind {fd} {OWN} 0") == "0"
    address, port = steps(f"name {fd}").split()
    assert address == OWN and int(port) != 0


def test_ports_of_the_settings_where_the_table_has_no_room(served):
    """The kernel searches, among them only."""
    served.start(harness.PYTHON, "-c", SERVER).line()
    text = """
import socket
keep, ports = [], set()
for i in range(1200):
    s = socket.socket()
    s.connect(("127.1.%d.%d" % (i // 250, 1 + i % 250), 8005))
    keep.append(s)
    ports.add(s.getsockname()[1] % 4)
print(ports)
"""
    said = served.must(harness.PYTHON, "-c", text, preload="run", ports="auto/4:2", table_size="256K", log="off")
    assert said == "{1}\n"
    assert served.status()["counters"]["table_full"] > 0
