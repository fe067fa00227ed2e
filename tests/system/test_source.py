"""The source address is the kernel's to choose, unless a pool says otherwise.

What it depends on, nobody but the socket itself can tell: its options, and rules by protocol, port, mark, type of
service, user. So for a table of (option x rule x protocol x family) plain and preloaded sockets choose the same.
"""

import contextlib
import json

import harness
import pytest

TARGETS = {"v4": "9.9.9.9", "v6": "fd09::9"}

# Sockets that only begin to connect: nobody answers.
PROGRAM = """
import errno, json, socket, sys
IP, IPV6 = socket.SOL_IP, socket.IPPROTO_IPV6
def index(name): return socket.if_nametoindex(name)
OPTIONS = {
    "none": {},
    "interface of unicast": {"v4": (IP, 50, socket.htonl(index("up2"))), "v6": (IPV6, 76, socket.htonl(index("up2")))},
    "type of service": {"v4": (IP, 1, 0x10), "v6": (IPV6, 67, 0x10)},
    "mark": dict.fromkeys(("v4", "v6"), (socket.SOL_SOCKET, 36, 7)),
    "device": dict.fromkeys(("v4", "v6"), (socket.SOL_SOCKET, 25, b"up2\\0")),
    "care-of address": {"v6": (IPV6, 72, 0x0004)},
    "home address": {"v6": (IPV6, 72, 0x0400)},
}
targets = json.loads(sys.argv[1])
for protocol in ("tcp", "udp"):
    for family, to in targets.items():
        for name, options in OPTIONS.items():
            for port in (53, 54):
                kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
                s = socket.socket(socket.AF_INET if family == "v4" else socket.AF_INET6, kind)
                s.setblocking(False)
                if family in options:
                    s.setsockopt(*options[family])
                answer = s.connect_ex((to, port))
                print(protocol, family, name, port, errno.errorcode.get(answer, answer),
                      s.getsockname()[0] if answer in (0, errno.EINPROGRESS) else "-")
                s.close()
"""

RULES = {
    "none": [],
    "by protocol and port": [["ipproto", "udp", "dport", "53"]],
    "by port": [["dport", "54"]],
    "by type of service": [["tos", "0x10"]],
    "by mark": [["fwmark", "7"]],
    "by user": [["uidrange", "0-0", "dport", "53"]],
}


@pytest.fixture(scope="module")
def host():
    with contextlib.closing(harness.Host()) as made:
        for n in "1", "2":
            made.must("ip", "link", "add", f"up{n}", "type", "veth", "peer", "name", f"far{n}")
            made.add_addresses(f"10.{n}.0.2/24", f"fd0{n}::2/64", device=f"up{n}")
            for end in f"up{n}", f"far{n}":
                made.must("ip", "link", "set", end, "up")
        made.must("ip", "-6", "address", "add", "fd01::3/64", "dev", "up1", "nodad", "home")
        # A router that does not answer would be passed over after some seconds.
        for n in "1", "2":
            for router in f"10.{n}.0.1", f"fd0{n}::1":
                made.must("ip", "neighbour", "replace", router, "lladdr", "02:00:00:00:00:01", "dev", f"up{n}")
        for family, net in ("-4", "10.{}.0.1"), ("-6", "fd0{}::1"):
            made.must("ip", family, "route", "add", "default", "via", net.format(1), "dev", "up1")
            made.must("ip", family, "route", "add", "default", "via", net.format(2), "dev", "up2", "metric", "9999")
            made.must("ip", family, "route", "add", "default", "via", net.format(2), "dev", "up2", "table", "2")
        yield made


def sources(host, preload, **settings):
    said = host.run(harness.PYTHON, "-c", PROGRAM, json.dumps(TARGETS), preload=preload, **settings)
    assert said.code == 0, said
    return said.out.splitlines()


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_same_source_as_plain(host, rules):
    for family in ("-4", "-6"):
        for rule in rules:
            host.must("ip", family, "rule", "add", *rule, "lookup", "2")
    try:
        plain = sources(host, None)
        chosen = {line.split()[-1] for line in plain}
        assert len(plain) == 2 * 2 * 7 * 2 and {"10.1.0.2", "10.2.0.2", "fd02::2"} <= chosen, plain
        for backend in ("auto", "explicit"):
            assert sources(host, "run", protocols="tcp,udp", backend=backend) == plain, backend
    finally:
        for family in ("-4", "-6"):
            for rule in rules:
                host.must("ip", family, "rule", "delete", *rule, "lookup", "2")


MANY = """
import collections, errno, json, socket, sys
kind, to, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
keep, seen, failed = [], [], collections.Counter()
for i in range(count):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    answer = s.connect_ex((to, 80))
    if answer in (0, errno.EINPROGRESS):
        keep.append(s)
        seen.append(s.getsockname())
    else:
        failed[errno.errorcode[answer]] += 1
print(json.dumps([seen, failed]), flush=True)
sys.stdin.read()
"""


def many(host, kind, to, count, preload="run", **settings):
    """So many sockets, whose names are to be each other's only. (The names, errors)"""
    running = host.start(harness.PYTHON, "-c", MANY, kind, to, count, preload=preload, protocols="tcp,udp", **settings)
    seen, failed = json.loads(running.line() or running.errors())
    seen = [tuple(name) for name in seen]
    assert len(set(seen)) == len(seen)
    if preload:
        host.reap()  # what was claimed where the source was foreseen wrongly
        assert {(t.laddr, t.lport) for t in host.claims(80, kind)} == set(seen)
    running.signal()
    host.reap()
    return seen, failed


@pytest.mark.parametrize("backend", ["auto", "explicit"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_rule_by_the_local_port(host, kind, backend):
    """The ports from 40550 on leave by the other uplink. All can be had, each from where plain Linux has it.

    (For TCP the kernel chooses the source before the port.)
    """
    host.set_ports(40500, 40599)
    host.must("ip", "rule", "add", "sport", "40550-40999", "lookup", "2")
    try:
        plain = {(port, a) for a, port in many(host, kind, "9.9.9.9", 100, preload=None)[0]}
        assert len({a for _, a in plain}) == (1 if kind == "tcp" else 2)
        seen, failed = many(host, kind, "9.9.9.9", 100, backend=backend)
        assert failed == {} and len(seen) == 100
        # With explicit bind the kernel knows the port by then.
        by_port = {(port, "10.2.0.2" if port >= 40550 else "10.1.0.2") for _, port in seen}
        assert {(port, a) for a, port in seen} == (by_port if backend == "explicit" else plain)
    finally:
        host.set_ports(40000, 40999)
        host.must("ip", "rule", "delete", "sport", "40550-40999", "lookup", "2")


@pytest.mark.parametrize("backend", ["auto", "explicit"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_equal_cost_routes_hashed_by_ports(host, kind, backend):
    """Which of the routes a connection takes, and with it the source: of TCP sockets each has its own."""
    host.set_ports(40000, 40099)
    host.sysctl("net.ipv4.fib_multipath_hash_policy", 1)
    host.must("ip", "route", "add", "8.8.0.0/16", "nexthop", "via", "10.1.0.1", "dev", "up1",
              "nexthop", "via", "10.2.0.1", "dev", "up2")
    try:
        plain = {(port, a) for a, port in many(host, kind, "8.8.8.8", 100, preload=None)[0]}
        assert len({a for _, a in plain}) == 2
        seen, failed = many(host, kind, "8.8.8.8", 100, backend=backend)
        assert failed == {} and len({a for a, _ in seen}) == 2
        if kind == "udp":
            assert {(port, a) for a, port in seen} == plain
    finally:
        host.set_ports(40000, 40999)
        host.must("ip", "route", "delete", "8.8.0.0/16")


def test_interface_of_a_pool_without_what_the_kernel_would_not_use(host):
    """Deprecated addresses, and those that are not known to be this host's alone yet."""
    host.sysctl("net.ipv6.conf.up2.accept_dad", 1)
    host.must("ip", "-6", "address", "add", "fd02::dead/64", "dev", "up2", "nodad", "preferred_lft", "0")
    host.must("ip", "-6", "address", "add", "fd02::7/64", "dev", "up2", "nodad")
    try:
        text = """
import socket
for i in range(12):
    s = socket.socket(socket.AF_INET6)
    s.setblocking(False)
    s.connect_ex(("fd09::9", 80))
    print(s.getsockname()[0])
"""
        said = host.must(harness.PYTHON, "-c", text, preload="run", addrs="up2").splitlines()
        assert set(said) == {"fd02::2", "fd02::7"}, said
    finally:
        for address in ("fd02::dead/64", "fd02::7/64"):
            host.must("ip", "-6", "address", "delete", address, "dev", "up2")
