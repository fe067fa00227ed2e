"""bind() to an address without a port: what is put off to connect(), and that nobody notices.

Programs choose a local address this way (Java, Python's source_address, curl --interface). Each case
runs with and without the preload; where the program must not notice a difference the answers are
compared.
"""

import harness
import pytest

TO, PORT = "127.0.0.1", 8001
NOBODY = 8999  # nobody listens there
POOL = "127.0.0.8-127.0.0.9"
POOL_ADDRESSES = {"127.0.0.8", "127.0.0.9"}

backends = pytest.mark.parametrize("backend", ["late", "explicit"])


@pytest.fixture
def served(host):
    host.sink(f":: {PORT}", ":: 8002", ":: 8003")
    return host


def name(steps, fd):
    laddr, lport = steps(f"name {fd}").split()
    return harness.plain_address(laddr), int(lport)


def bound(steps, address, kind="v4"):
    """A socket bound to an address without a port."""
    fd = steps.socket(kind)
    assert steps(f"bind {fd} {address} 0") == "0"
    return fd


def python(host, script, *words, preload="run", **settings):
    """Runs a script with and without; what it printed with, after it printed the same without."""
    said = []
    for how in (None, preload):
        result = host.run(harness.PYTHON, "-c", script, *words, preload=how, **settings)
        assert (result.code, result.err) == (0, ""), result
        said.append(result.out)
    assert said[0] == said[1]
    return said[1]


# One pool of ports for each destination

@backends
@pytest.mark.parametrize("kind, at, to", [
    ("v4", "127.0.0.77", TO), ("v4", "0.0.0.0", TO), ("v6", "::1", "::1"), ("v6", "::", "::1"),
    ("v6", "::ffff:127.0.0.77", f"::ffff:{TO}"), ("v6", "::", f"::ffff:{TO}")])
def test_three_destinations(served, backend, kind, at, to):
    """All ports to each of three, where the plain kernel has enough for one."""
    served.set_ports(40000, 40049)
    for preload, expected in ((None, 50), ("run", 150)):
        steps = served.steps(preload=preload, backend=backend)
        opened, refused = [], 0
        for port in (PORT, 8002, 8003):
            for _ in range(51):
                fd = steps.socket(kind)
                steps(f"option {fd} reset")
                answer = steps(f"bind {fd} {at} 0")
                if answer == "0":
                    answer = steps.connect(fd, to, port)
                if answer == "0":
                    opened.append(name(steps, fd))
                else:
                    assert answer == ("EADDRINUSE" if preload is None else "EADDRNOTAVAIL")
                    refused += 1
        assert len(opened) == expected and refused == 153 - expected
        if preload is None:
            steps.program.close()
            harness.eventually(lambda: not any(s.held for s in served.sockets()))
            continue
        chosen = harness.plain_address(at)
        address = harness.plain_address(to) if chosen in ("0.0.0.0", "::") else chosen
        for port in (PORT, 8002, 8003):
            tuples = served.tuples(port)
            assert {t.lport for t in tuples} == served.ports
            assert {t.laddr for t in tuples} == {address}
            assert served.claims(port) == tuples


@backends
def test_address_the_program_chose_is_kept(served, backend):
    """The pool is for those who have not chosen."""
    steps = served.steps(addrs=POOL, backend=backend)
    fd = bound(steps, "127.0.0.77")
    assert steps.connect(fd, TO, PORT) == "0"
    laddr, lport = name(steps, fd)
    assert laddr == "127.0.0.77" and lport in served.ports
    assert [(t.laddr, t.lport) for t in served.claims()] == [(laddr, lport)]
    assert served.claims() == served.tuples(PORT)


@backends
def test_any_address_leaves_the_choice(served, backend):
    steps = served.steps(addrs=POOL, backend=backend)
    fd = bound(steps, "0.0.0.0")
    assert steps.connect(fd, TO, PORT) == "0"
    assert name(steps, fd)[0] in POOL_ADDRESSES
    assert served.claims() == served.tuples(PORT)


def test_python_source_address(served):
    """http.client and urllib3 come this way."""
    served.set_ports(40000, 40019)
    script = f"""
import socket
opened = [socket.create_connection(("{TO}", port), source_address=("127.0.0.3", 0))
          for port in ({PORT}, 8002) for _ in range(20)]
print("ready", flush=True)
input()
"""
    running = served.start(harness.PYTHON, "-c", script, preload="run")
    assert running.line() == "ready", running.errors()
    for port in (PORT, 8002):
        assert {(t.laddr, t.lport) for t in served.tuples(port)} == \
            {("127.0.0.3", p) for p in served.ports}
    assert served.claims() == sorted(served.tuples(PORT) + served.tuples(8002))
    running.end()
    assert served.claims() == []


# Who asks sees a port

@pytest.mark.parametrize("at", ["127.0.0.5", "0.0.0.0", "::1", "::"])
def test_who_asks_sees_a_port(served, at):
    """A port of the range, which stays the socket's: connect() leaves it alone then."""
    kind, to = ("v6", "::1") if ":" in at else ("v4", TO)
    steps = served.steps()
    fd = bound(steps, at, kind)
    address, port = name(steps, fd)
    assert (address, port in served.ports) == (at, True)
    assert name(steps, fd) == (at, port)
    assert steps.connect(fd, to, PORT) == "0"
    assert name(steps, fd)[1] == port
    assert served.claims() == []
    assert served.status()["counters"]["passed"] == 1


def test_nobody_else_gets_that_port(served):
    """A range of two: two sockets that ask have one each, the third is told that there is none left."""
    served.set_ports(40000, 40001)
    said = python(served, """
import errno, socket
keep, ports = [], []
for i in range(3):
    keep.append(socket.socket())
    try:
        keep[-1].bind(("127.0.0.1", 0))
        ports.append(keep[-1].getsockname()[1])
    except OSError as e:
        print(errno.errorcode[e.errno])
print(sorted(ports))
""")
    assert said == "EADDRINUSE\n[40000, 40001]\n"


def test_listening_without_asking(served):
    """listen() has a port, and connections come in (active FTP does this)."""
    said = python(served, """
import socket
for ask in (True, False):
    for at in ("127.0.0.1", ""):
        server = socket.socket()
        server.bind((at, 0))
        if ask:
            port = server.getsockname()[1]
        server.listen()
        assert not ask or port == server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
        accepted, peer = server.accept()
        assert peer == client.getsockname(), (peer, client.getsockname())
        client.sendall(b"hello")
        print(accepted.recv(5), server.getsockname()[0])
""")
    assert said.count("b'hello'") == 4


def test_ftp_active_mode(served):
    """Python's ftplib tells the server the port it listens on."""
    said = python(served, """
import ftplib, re, socket, threading
server = socket.create_server(("127.0.0.1", 0))

def serve():
    control, _ = server.accept()
    lines = control.makefile("rw", newline="\\r\\n")
    def say(text):
        lines.write(text + "\\n")
        lines.flush()
    say("220 ready")
    for line in lines:
        word = line.split()[0]
        if word == "PORT":
            numbers = [int(n) for n in re.findall("[0-9]+", line)]
            data = socket.create_connection((".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5]))
            say("200 ok")
        elif word == "RETR":
            say("150 coming")
            data.sendall(b"the file")
            data.close()
            say("226 done")
        else:
            say("221 bye" if word == "QUIT" else "230 ok")

threading.Thread(target=serve, daemon=True).start()
ftp = ftplib.FTP()
ftp.connect("127.0.0.1", server.getsockname()[1], timeout=20, source_address=("127.0.0.1", 0))
ftp.login()
ftp.set_pasv(False)
ftp.retrbinary("RETR x", lambda got: print(got.decode()))
ftp.quit()
""")
    assert said == "the file\n"


@pytest.mark.parametrize("at", ["127.0.0.1", ""])
def test_another_process_asks(served, at):
    """A forked child, and a program that inherits the descriptor, see what they would see plainly."""
    script = f"""
import os, socket, subprocess, sys
s = socket.socket()
s.bind(("{at}", 0))
child = os.fork()
if child == 0:
    os._exit(0 if 40000 <= s.getsockname()[1] <= 40999 else 1)
print("child", os.waitpid(child, 0)[1], 40000 <= s.getsockname()[1] <= 40999)
t = socket.socket()
t.bind(("127.0.0.1", 0))
t.set_inheritable(True)
print(subprocess.run([sys.executable, "-c", "import socket, sys; "
      "print(40000 <= socket.socket(fileno=int(sys.argv[1])).getsockname()[1] <= 40999)",
      str(t.fileno())], close_fds=False, capture_output=True, text=True).stdout)
"""
    assert python(served, script) == "child 0 True\nTrue\n\n"


def test_second_bind_is_refused(served):
    for at in ("127.0.0.5", "0.0.0.0"):
        answers = []
        for preload in (None, "run"):
            steps = served.steps(preload=preload)
            fd = bound(steps, at)
            answers.append([steps(f"bind {fd} 127.0.0.6 0"), steps(f"bind {fd} {at} 40123"),
                            name(steps, fd)[0]])
        assert answers[0] == answers[1] == ["EINVAL", "EINVAL", at]


# What the program has set itself

def test_own_no_port_bind_stays_without_port(served):
    for preload in (None, "run"):
        steps = served.steps(preload=preload)
        fd = steps.socket()
        assert steps(f"option {fd} no-port") == "0"
        assert steps(f"bind {fd} 127.0.0.5 0") == "0"
        assert name(steps, fd) == ("127.0.0.5", 0)


def test_own_port_range_is_kept(served):
    """IP_LOCAL_PORT_RANGE set by the program, with bind() and without."""
    said = python(served, f"""
import socket, struct
for bind in (True, False):
    opened = []
    for i in range(11):
        s = socket.socket()
        try:
            s.setsockopt(socket.IPPROTO_IP, 51, struct.pack("I", 40109 << 16 | 40100))
        except OSError:  # before Linux 6.3
            break
        try:
            if bind:
                s.bind(("127.0.0.1", 0))
            s.connect(("{TO}", {PORT}))
            opened.append(s)
        except OSError as e:
            print(i, e.errno)
    print(sorted(s.getsockname()[1] for s in opened))
    for s in opened:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
        s.close()
""")
    if said != "[]\n[]\n":
        assert "10 98\n" + str(list(range(40100, 40110))) in said


def test_options_read_the_same(served):
    """Before connect() nothing shows."""
    assert python(served, """
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockopt(socket.IPPROTO_IP, 24), s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
""") == "0 0\n"


# When it goes wrong

@backends
def test_refused_then_retried_then_bound_anew(served, backend):
    """After a refusal the socket has lost its port, and may be bound again, as without."""
    answers = []
    for preload in (None, "run"):
        steps = served.steps(preload=preload, backend=backend)
        fd = bound(steps, "127.0.0.5")
        said = [steps.connect(fd, TO, NOBODY), steps.connect(fd, TO, NOBODY)]
        if backend == "late":
            said += [steps(f"bind {fd} 127.0.0.6 0"), name(steps, fd)[0],
                     name(steps, fd)[1] in served.ports]
        said += [steps.connect(fd, TO, PORT), name(steps, fd)[0]]
        answers.append(said)
        steps(f"close {fd}")
    assert answers[0] == answers[1]
    assert served.claims() == []


def test_unreachable_then_asked(served):
    """No route: the port that the program then asks for is there as it would be, at its address."""
    answers = []
    for preload in (None, "run"):
        steps = served.steps(preload=preload, addrs=POOL)
        said = []
        for at in ("127.0.0.5", "0.0.0.0"):
            fd = bound(steps, at)
            said.append(steps.connect(fd, "198.51.100.1", PORT))
            address, port = name(steps, fd)
            said += [address, port in served.ports]
        answers.append(said)
    assert answers[0] == answers[1]


@backends
def test_ports_bound_on_another_address(served, backend):
    """The kernel's bind() gives a port that a stranger holds on another address; its connect() would
    not, and nor would late bind."""
    served.set_ports(40000, 40009)
    stranger = served.steps(preload=None)
    for _ in range(10):
        bound(stranger, "127.0.0.5")
    for preload in (None, "run"):
        steps = served.steps(preload=preload, backend=backend)
        answers = []
        for _ in range(10):
            fd = steps.socket()
            steps(f"option {fd} reset")
            assert steps(f"bind {fd} 127.0.0.6 0") == "0"
            answers.append(steps.connect(fd, TO, PORT))
        assert answers == ["0"] * 10
        assert {(t.laddr, t.lport) for t in served.tuples(PORT)} == \
            {("127.0.0.6", port) for port in served.ports}
        steps.program.close()
        harness.eventually(lambda: served.tuples(PORT) == [])


@pytest.mark.parametrize("full", ["fail", "kernel"])
def test_full(served, full):
    """No tuple left: the failure is connect()'s, and the socket can be used for elsewhere."""
    served.set_ports(40000, 40003)
    steps = served.steps(full=full)
    opened = [bound(steps, "127.0.0.5") for _ in range(5)]
    assert [steps.connect(fd, TO, PORT) for fd in opened] == ["0"] * 4 + ["EADDRNOTAVAIL"]
    assert steps.connect(opened[4], TO, 8002) == "0"
    assert name(steps, opened[4])[0] == "127.0.0.5"


def test_left_to_the_kernel(served):
    """Destinations to skip: the address stays the program's choice, the port is the kernel's."""
    steps = served.steps(skip=TO, addrs=POOL)
    fd = bound(steps, "127.0.0.5")
    assert steps.connect(fd, TO, PORT) == "0"
    assert name(steps, fd)[0] == "127.0.0.5"
    assert served.claims() == []


def test_an_address_of_another_host(served):
    for preload in (None, "run"):
        steps = served.steps(preload=preload)
        fd = steps.socket()
        assert steps(f"bind {fd} 198.51.100.7 0") == "EADDRNOTAVAIL"
        assert steps(f"bind {fd} 127.0.0.5 0") == "0"
        assert steps.connect(fd, TO, PORT) == "0"


def test_tcp_not_taken_over(served):
    """With UDP alone, bind() and connect() of TCP sockets are the kernel's."""
    steps = served.steps(protocols="udp", addrs=POOL)
    fd = bound(steps, "127.0.0.5")
    assert steps.connect(fd, TO, PORT) == "0"
    fd = steps.socket()
    assert steps.connect(fd, TO, PORT) == "0"
    assert name(steps, fd)[0] == TO
    assert served.claims() == []
