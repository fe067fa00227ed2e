"""`tuplebind doctor`: every finding appears when something is wrong, names a command, and goes when that
command has been run.

Each case is looked at three times: as the host is, with something wrong, and with that and the
printed command. What is wrong is wrong in a network namespace, and a mount namespace where it must be.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import harness
import ptys
import pytest
import storms
import tables

from harness import BUILD, COMMAND, LIBRARY

TO, PORT = "127.0.0.1", 8001
# A kernel file system that has no more than what is put there.
SYSCTLS = "mount -t tmpfs tmpfs /proc/sys/net && mkdir -p /proc/sys/net/{0} && cd /proc/sys/net/{0} && "


@pytest.fixture
def usual(host):
    """A host with the kernel's own port range."""
    host.set_ports(32768, 60999)
    return host


def look(host, words=(), setup="", command="", environment=None, **settings):
    """(exit status, the findings by name) after what is wrong was set up and a command was run."""
    script = "\n".join([setup or ":", f"{command or ':'}", 'exec "$0" doctor --json "$@"'])
    result = host.run("unshare", "--mount", "--propagation", "private", "bash", "-ec", script,
                      COMMAND, *words, environment={"PATH": f"{BUILD}/tools:{os.environ['PATH']}"}
                      | (environment or {}), **settings)
    assert result.code in (0, 1) and result.err == "", result
    said = json.loads(result.out.splitlines()[-1])
    findings = {}
    for finding in said["findings"]:
        assert list(finding) == ["level", "name", "figure", "why", "command"]
        assert (finding["level"] == "ok") == (finding["why"] is None), finding
        assert finding["level"] != "ok" or finding["command"] is None
        findings.setdefault(finding["name"], []).append(finding)
    assert result.code == (1 if said["mend"] else 0)
    assert said["mend"] == sum(f["level"] == "mend" for name in findings.values() for f in name)
    return result.code, findings


def worst(findings, name):
    """The finding of that name that is not ok, if there is one."""
    bad = [finding for finding in findings.get(name, []) if finding["level"] != "ok"]
    assert len(bad) <= 1, bad
    return bad[0] if bad else None


def is_mended(host, name, level, setup="", words=(), before=(), **settings):
    """The finding is not there, appears, and its command mends it. What it said."""
    assert worst(look(host, before, **settings)[1], name) is None
    found = worst(look(host, words, setup, **settings)[1], name)
    assert found is not None and found["level"] == level, found
    assert found["command"] is not None
    mended = look(host, words, setup, found["command"], **settings)[1]
    assert worst(mended, name) is None, (found, mended)
    return found


# The kernel's settings.

@pytest.mark.parametrize("name, level, setting", [
    ("ip_local_port_range", "mend", 'net.ipv4.ip_local_port_range="40000 40099"'),
    ("ip_local_port_range", "note", 'net.ipv4.ip_local_port_range="40000 60000"'),
    ("ip_local_reserved_ports", "mend", "net.ipv4.ip_local_reserved_ports=32768-50000"),
    ("ip_local_reserved_ports", "mend", "net.ipv4.ip_local_reserved_ports=1-65535"),
    ("ip_local_reserved_ports", "note", "net.ipv4.ip_local_reserved_ports=40000,41000-41010"),
    ("tcp_timestamps", "mend", "net.ipv4.tcp_timestamps=0"),
    ("tcp_fastopen", "note", "net.ipv4.tcp_fastopen=2"),
    ("tcp_tw_reuse", "note", "net.ipv4.tcp_tw_reuse=0"),
    ("tcp_max_tw_buckets", "note", "net.ipv4.tcp_max_tw_buckets=100"),
    ("tcp_max_tw_buckets", "mend", "net.ipv4.tcp_max_tw_buckets=0"),
    ("somaxconn", "note", "net.core.somaxconn=128"),
])
def test_sysctls(usual, name, level, setting):
    usual.sysctl("net.ipv4.tcp_max_tw_buckets", 65536)  # what it is depends on the memory
    is_mended(usual, name, level, f"sysctl -qw {setting}")


def test_figures(usual):
    usual.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
    usual.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40009")
    _, findings = look(usual)
    assert findings["ip_local_port_range"][0]["figure"] == "100 ports, 40000-40099"
    assert findings["ip_local_reserved_ports"][0]["figure"] == "10 ports of the range are reserved"


def test_ports_past_the_range(usual):
    """Of those that are given, the range says only how they are bound."""
    usual.sysctl("net.ipv4.ip_local_reserved_ports", "33000-33009")
    assert worst(look(usual, ["--ports", "33000-33999"])[1], "ip_local_reserved_ports") is None
    found = is_mended(usual, "ip_local_port_range", "note", words=["--ports", "20000-40000"])
    assert found["figure"].startswith("12768 of 20001 ports of 20000-40000")


def test_many_in_timewait(usual):
    storms.echo(usual, f"{TO} {PORT}")
    storms.churn(usual, TO, PORT, 20, preload=None)
    harness.eventually(lambda: [s.state for s in usual.sockets(PORT)] == ["TIME-WAIT"] * 20)
    found = is_mended(usual, "tcp_max_tw_buckets", "mend", "sysctl -qw net.ipv4.tcp_max_tw_buckets=21",
                      words=["--ports", "40000-40009"], before=["--ports", "40000-40009"])
    assert found["figure"] == "20 of 21 in TIME_WAIT"


@pytest.mark.parametrize("used, level", [(95, "mend"), (60, "note")])
def test_conntrack(usual, used, level):
    setup = SYSCTLS.format("netfilter") + f"echo {used} > nf_conntrack_count && echo 100 > nf_conntrack_max"
    found = is_mended(usual, "nf_conntrack", level, setup)
    assert found["figure"] == f"{used} of 100 connections tracked"
    assert look(usual, setup=SYSCTLS.format("core") + ":")[1]["nf_conntrack"][0]["figure"] == "not loaded"


def test_neighbours(usual):
    setup = SYSCTLS.format("ipv4/neigh/default") + "echo 1024 > gc_thresh3"
    found = is_mended(usual, "gc_thresh3", "note", setup, words=["--addrs", "10.0.0.0/20"])
    assert found["figure"] == "1024, the pools have 4096 addresses"
    assert worst(look(usual, ["--addrs", "127.0.0.0/8"], setup)[1], "gc_thresh3") is None


@pytest.mark.parametrize("limit, level", [(1024, "mend"), (1500, "note")])
def test_descriptors(usual, limit, level):
    words = ["--ports", "40000-41999"]  # so that the least hard limit a machine has is enough
    is_mended(usual, "nofile", level, f"ulimit -Sn {limit}", words, words)


def test_hard_limit_of_descriptors(usual):
    found = worst(look(usual, setup="ulimit -n 1000")[1], "nofile")
    assert found["level"] == "mend" and found["command"].startswith("prlimit ")


# What the kernel may not have.

SECCOMP = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def step(code, yes, no, value): return struct.pack("=HBBI", code, yes, no, value)
# socket(AF_NETLINK, *, NETLINK_SOCK_DIAG), or setsockopt(*, IPPROTO_IP, IP_LOCAL_PORT_RANGE): an error
number, first, third, error = {numbers}
filter = b"".join([step(0x20, 0, 0, 0), step(0x15, 0, 5, number), step(0x20, 0, 0, 16 + 8 * first[0]),
                   step(0x15, 0, 3, first[1]), step(0x20, 0, 0, 16 + 8 * third[0]), step(0x15, 0, 1, third[1]),
                   step(6, 0, 0, 0x50000 | error), step(6, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(filter)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filter) // 8, ctypes.addressof(buffer)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"""
SOCKET = {"x86_64": (41, 54), "aarch64": (198, 208)}[os.uname().machine]


def look_without(host, numbers, *words):
    result = host.run(sys.executable, "-c", SECCOMP.replace("{numbers}", repr(numbers)),
                      COMMAND, "doctor", "--json", *words)
    assert result.code in (0, 1), result
    return {finding["name"]: finding for finding in json.loads(result.out)["findings"]}


def test_no_sock_diag(usual):
    words = ["--protocols", "tcp,udp"]
    _, before = look(usual, words)
    assert before["sock_diag"][0]["level"] == before["udp_diag"][0]["level"] == "ok"
    found = look_without(usual, (SOCKET[0], (0, 16), (2, 4), 93), *words)
    assert (found["sock_diag"]["level"], found["sock_diag"]["command"]) == ("mend", "modprobe tcp_diag")
    assert (found["udp_diag"]["level"], found["udp_diag"]["command"]) == ("mend", "modprobe udp_diag")


def test_no_late_bind(usual):
    assert look(usual)[1]["kernel"][0]["figure"].endswith("late bind")
    found = look_without(usual, (SOCKET[1], (1, 0), (2, 51), 92))
    assert found["kernel"]["level"] == "note" and "explicit bind only" in found["kernel"]["figure"]


# /dev/shm and the tables.

OVERLAY = """mount -t tmpfs tmpfs /mnt && mkdir /mnt/l /mnt/u /mnt/w
mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w overlay /dev/shm"""


@pytest.mark.parametrize("level, setup", [
    ("mend", "mount -t tmpfs -o size=4M tmpfs /dev/shm"),
    ("mend", "mount -t tmpfs -o ro tmpfs /dev/shm"),
    ("mend", "mount -t tmpfs tmpfs /dev"),
    ("note", OVERLAY),
])
def test_shared_memory(usual, level, setup):
    is_mended(usual, "/dev/shm", level, setup)


def test_shared_memory_may_be_small(usual):
    small = "mount -t tmpfs -o size=4M tmpfs /dev/shm"
    assert worst(look(usual, ["--table-size", "1M"], small)[1], "/dev/shm") is None
    assert worst(look(usual, ["--table", "private"], small)[1], "/dev/shm") is None


@pytest.fixture
def with_table(usual):
    """A host whose table a program has made that is gone."""
    usual.sink(f"0.0.0.0 {PORT}")
    usual.must("true", preload="run")
    [usual.table] = usual.tables()
    return usual


def test_sound_table(with_table):
    assert [f["level"] for f in look(with_table)[1]["table"]] == ["ok"]


@pytest.mark.parametrize("breaks, says", [
    ("truncate -s 100000 {0} && truncate -s 8388608 {0}", "holes"),
    ("rm {0} && ln -s /etc/passwd {0}", "symbolic link"),
    ("rm {0} && mkdir -p {0}/a", "a directory"),
    ("truncate -s 100000 {}", "size"),
    ("chmod 644 {}", "0600"),
])
def test_refused_tables(with_table, breaks, says):
    """In a /dev/shm of its own, with the same table."""
    table = with_table.table
    setup = f"cp -p {table} /mnt.$$ && mount -t tmpfs tmpfs /dev/shm && cp -p /mnt.$$ {table} && rm /mnt.$$\n" \
        .replace("/mnt.$$", "/tmp/table.$$") + breaks.format(table)
    found = is_mended(with_table, "table", "mend", setup)
    assert says in found["figure"]
    # As somebody else's affair it is not more than a note.
    other = look(with_table, ["--table", "other"], setup)[1]
    assert worst(other, "table")["level"] == "note"


def test_root_shares_its_default_table(usual):
    """Told with a program only: which service it is about."""
    if os.geteuid() != 0:
        pytest.skip("for root")
    found = is_mended(usual, "table", "note", words=["/usr/bin/sleep"])
    assert "all of root's programs share" in found["figure"] and found["command"].endswith("=sleep")
    assert worst(look(usual, ["--table", "mine", "sleep"])[1], "table") is None


def test_another_users_file(with_table):
    """The table is at its next place; who has the first one is told."""
    harness.give_away(with_table.table)
    found = worst(look(with_table)[1], "table")
    assert found["level"] == "note" and found["figure"] == f"{with_table.table}~1"
    with_table.must("sh", "-c", found["command"])
    os.unlink(with_table.table)
    assert worst(look(with_table)[1], "table") is None


def test_full_table(usual):
    usual.sink(f"0.0.0.0 {PORT}")
    tables.fill(usual, PORT)
    found = worst(look(usual)[1], "table")
    assert found["level"] == "mend" and "connects left to the kernel" in found["figure"]
    assert found["command"] == "tuplebind reset && export TUPLEBIND_TABLE_SIZE=1M"


def test_disagreeing_size(with_table):
    found = worst(look(with_table, ["--table-size", "16M"])[1], "table")
    assert found["level"] == "note" and found["command"].endswith("TUPLEBIND_TABLE_SIZE=16M")


def test_changes_nothing(usual):
    look(usual, ["--addrs", "10.0.0.0/24", "curl"])
    assert usual.tables() == [] and usual.sockets() == []


# The pool.

def add_links(host, **addresses):
    """Links with one address each, by their names."""
    for name, address in addresses.items():
        host.must("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}peer")
        host.must("ip", "link", "set", name, "up")
        host.must("ip", "link", "set", f"{name}peer", "up")
        host.must("ip", "address", "add", address, "dev", name)


@pytest.mark.parametrize("pool, command", [
    ("10.9.0.5-10.9.0.7", "for a in 10.9.0.5 10.9.0.6 10.9.0.7; do ip address add $a/32 dev left; done"),
    ("10.9.0.1,10.9.0.5", "ip address add 10.9.0.5/32 dev left"),
    ("10.8.0.5", "ip address add 10.8.0.5/32 dev lo"),
    ("10.7.0.0/24", "ip route add local 10.7.0.0/24 dev lo"),
    ("2001:db8:1::/64", "ip -6 route add local 2001:db8:1::/64 dev lo"),
    ("fd09::5-fd09::6", "for a in fd09::5 fd09::6; do ip -6 address add $a/128 dev right nodad; done"),
    ("fd09::5", "ip -6 address add fd09::5/128 dev right nodad"),
])
def test_addresses_that_are_missing(usual, pool, command):
    add_links(usual, left="10.9.0.1/24", right="fd09::1/64")
    found = is_mended(usual, "pool", "mend", words=["--addrs", pool])
    assert found["command"] == command
    # And as the library sees it.
    said = json.loads(usual.run(COMMAND, "explain", "--json", "--addrs", pool,
                                "[fd09::99]:80" if ":" in pool else "10.9.0.99:80").out)
    assert said["served"] and said["unusable"] == 0


def test_many_missing(usual):
    found = worst(look(usual, ["--addrs", "10.9.0.1-10.9.8.255"])[1], "pool")
    assert found["level"] == "mend" and found["command"] is None
    assert "256 of 256 looked at" in found["figure"]


def test_pools_of_rules(usual):
    usual.add_addresses("10.9.0.1")
    _, findings = look(usual, ["--rules", "10.0.0.0/8=10.9.0.1;10.1.0.0/16=10.9.0.2"])
    assert [(f["level"], f["figure"]) for f in findings["pool"]] == [
        ("ok", "10.9.0.1"), ("mend", "10.9.0.2: 1 of 1 looked at is not this host's")]


def test_interface_without_addresses(usual):
    usual.must("ip", "link", "add", "left", "type", "veth", "peer", "name", "right")
    found = worst(look(usual, ["--addrs", "left"])[1], "pool")
    assert (found["level"], found["figure"]) == ("mend", "left: 0 addresses")
    usual.must("ip", "address", "add", "10.9.0.1/24", "dev", "left")
    assert worst(look(usual, ["--addrs", "left"])[1], "pool") is None


@pytest.mark.parametrize("family, name, address", [
    ("ipv4", "ip_nonlocal_bind", "10.9.0.7"), ("ipv6", "ipv6.ip_nonlocal_bind", "2001:db8::7")])
def test_nonlocal_bind(usual, family, name, address):
    setup = f"sysctl -qw net.{family}.ip_nonlocal_bind=1"
    words = ["--addrs", f"127.0.0.5,{address}"]
    is_mended(usual, name, "note", setup, words, before=words)
    # bind() would say yes to it.
    usual.sysctl(f"net.{family}.ip_nonlocal_bind", 1)
    assert worst(look(usual, words)[1], "pool")["figure"].startswith(address)


def test_strict_filters(usual):
    add_links(usual, left="10.9.0.1/24", right="10.8.0.1/24")
    setup = "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.right.rp_filter=1"
    words = ["--addrs", "10.9.0.1,10.8.0.1"]
    usual.sysctl("net.ipv4.conf.all.rp_filter", 0)
    for device in ("left", "right"):
        usual.sysctl(f"net.ipv4.conf.{device}.rp_filter", 0)
    is_mended(usual, "rp_filter", "note", setup, words, before=words)
    assert worst(look(usual, ["--addrs", "10.8.0.1"], setup)[1], "rp_filter") is None


# Settings and programs.

@pytest.mark.parametrize("settings, says", [
    ({"addrs": "nix"}, "TUPLEBIND_ADDRS"), ({"ports": "0"}, "TUPLEBIND_PORTS"),
    ({"rules": "10.0.0.0/8=\"\x1b[2J\""}, "TUPLEBIND_RULES"), ({"table_size": "8X"}, "TUPLEBIND_TABLE_SIZE")])
def test_bad_settings(usual, settings, says):
    code, findings = look(usual, **settings)
    assert code == 1 and worst(findings, "settings")["figure"].startswith(says)
    assert findings["pool"][0]["level"] == "ok"


def test_bad_file(usual, tmp_path):
    file = tmp_path / "bad.conf"
    file.write_text("[tuplebind]\naddrs = auto\nnix = 1\n")
    found = worst(look(usual, ["-c", str(file)])[1], "settings")
    assert found["level"] == "mend" and f"{file}:3: " in found["figure"]
    assert worst(look(usual, ["-c", str(tmp_path / "none")])[1], "settings") is not None


def test_disabled(usual):
    found = worst(look(usual, disable="1")[1], "disable")
    assert found["level"] == "mend"
    assert worst(look(usual, command=found["command"], disable="1")[1], "disable") is None
    # Whatever else is wrong then.
    assert look(usual, disable="1", addrs="nix")[0] == 1


def test_log_file(usual, tmp_path):
    assert worst(look(usual, ["--log-file", str(tmp_path / "new")])[1], "log-file") is None
    assert not (tmp_path / "new").exists()
    found = worst(look(usual, ["--log-file", str(tmp_path / "no" / "new")])[1], "log-file")
    assert found["level"] == "mend" and "No such file" in found["figure"]


def test_programs(usual, tmp_path):
    for words, level in [(["sh", "-c", "exit 3"], "ok"), (["--", "no-such-program"], "mend")]:
        assert look(usual, words)[1]["program"][0]["level"] == level
    assert "program" not in look(usual)[1]
    subprocess.run(["gcc", "-static", "-x", "c", "-o", tmp_path / "static", "-"], check=True,
                   input=b"int main(void) { return 0; }", env=harness.clean_environment())
    found = worst(look(usual, [str(tmp_path / "static")])[1], "program")
    assert found["figure"] == f"{tmp_path}/static is statically linked"
    assert "use a dynamically linked build" in found["why"]


def test_other_preloads(usual, tmp_path):
    other = harness.program("counting.so")
    found = worst(look(usual, environment={"LD_PRELOAD": other})[1], "preload")
    assert found["level"] == "note" and found["figure"] == f"LD_PRELOAD: {other}"
    assert worst(look(usual, environment={"LD_PRELOAD": str(LIBRARY)}, disable="1")[1], "preload") is None
    second = shutil.copy(LIBRARY, tmp_path / "libtuplebind.so")
    found = worst(look(usual, environment={"LD_PRELOAD": str(second)}, disable="1")[1], "preload")
    assert found["level"] == "mend"


def test_preload_file(usual, tmp_path):
    """An /etc with nothing else in it."""
    other = harness.program("counting.so")
    (tmp_path / "ld.so.preload").write_text(f"# mine\n{other} {LIBRARY}\n")
    shutil.copy("/etc/ld.so.cache", tmp_path)
    found = worst(look(usual, setup=f"mount --bind {tmp_path} /etc", disable="1")[1], "preload")
    assert found["figure"] == f"/etc/ld.so.preload: {other}"


# How it is told.

def test_all_is_well(usual):
    code, findings = look(usual, ["--ports", "40000-40999", "true"], "ulimit -Sn 2000")
    assert code == 0
    assert {f["level"] for name in findings.values() for f in name} <= {"ok", "note"}


@pytest.mark.parametrize("environment, coloured", [
    ({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)])
def test_colours(usual, environment, coloured):
    usual.sysctl("net.ipv4.tcp_timestamps", 0)
    out = ptys.run(usual, COMMAND, "doctor", environment=environment).out
    assert ("\x1b[31mmend\x1b[0m  tcp_timestamps" in out) == coloured
    assert ("\x1b" in out) == coloured and "tcp_timestamps" in out
    assert "\x1b" not in ptys.run(usual, COMMAND, "doctor", "--json", environment=environment).out
    assert "\x1b" not in usual.run(COMMAND, "doctor", environment=environment).out


def test_text(usual):
    usual.sysctl("net.ipv4.tcp_timestamps", 0)
    result = usual.run(COMMAND, "doctor", "a\x1b\nb", "--table", "other")
    lines = result.out.splitlines()
    at = next(i for i, line in enumerate(lines) if "tcp_timestamps" in line)
    assert lines[at] == "mend  tcp_timestamps          off"
    assert lines[at + 2] == "      # sysctl -w net.ipv4.tcp_timestamps=1"
    assert re.fullmatch(r"\d+ to mend, \d+ notes?", lines[-1])
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", result.out) and "a??b: cannot be run" in result.out


@pytest.mark.parametrize("words", [["--nix"], ["--addrs"], ["-c", "a", "-c", "b"]])
def test_bad_words(host, words):
    result = host.tuplebind("doctor", *words)
    assert (result.code, result.out) == (125, "") and len(result.err.splitlines()) == 1


def test_help_fits_a_screen(host):
    out = host.must(COMMAND, "doctor", "--help")
    assert len(out.splitlines()) <= 24 and max(map(len, out.splitlines())) <= 80
