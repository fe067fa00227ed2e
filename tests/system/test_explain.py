"""`tuplebind explain`: says what becomes of a connect, and the connect that follows does just that.

Each case is asked first, then done by a program that starts under the same settings: the address,
the error or that it was left to the kernel have to be what was said.
"""

import json
import os
import pathlib

import harness
import pytest
import tables

TO, PORT = "127.0.0.1", 8001
POOL = "127.0.0.2-127.0.0.5"


@pytest.fixture
def small(host):
    """Twenty ports, and who accepts connections."""
    host.set_ports(40000, 40019)
    host.sink(f"0.0.0.0 {PORT}", f"::1 {PORT}")
    return host


def explain(host, destination, *words, **settings):
    """(exit status, the JSON object)"""
    result = host.tuplebind("explain", "--json", destination, *words, **settings)
    assert result.err == "" and result.code in (0, 1), result
    said = json.loads(result.out)
    assert said["served"] == (result.code == 0)
    return said


def text(host, destination, **settings):
    result = host.tuplebind("explain", destination, **settings)
    assert result.err == "" and result.code in (0, 1), result
    return result.out


def passed(host, settings):
    if host.tables() == [] or settings.get("disable"):
        return 0
    return host.status()["counters"]["passed"]


def agrees(host, to, port, kind="v4", **settings):
    """What is said, when a connect that follows does as it was said."""
    name = f"[{to}]:{port}" if ":" in to else f"{to}:{port}"
    said = explain(host, name, *(["--protocol", "udp"] if "udp" in kind else []), **settings)
    before = passed(host, settings)
    steps = host.steps(**settings)
    fd = steps.socket(kind)
    answer = steps.connect(fd, to, port)
    if said["verdict"] in ("served", "after reap"):
        assert answer == "0", (said, answer)
        assert passed(host, settings) == before
        if said["address"] is not None:
            assert steps(f"name {fd}").split()[0] == said["address"], said
    elif said["verdict"] == "fails":
        assert answer == said["error"], (said, answer)
    else:
        assert passed(host, settings) == before + 1, said
    return said


# Served.

@pytest.mark.parametrize("balance", ["rotate", "hash", "pack"])
def test_address_is_the_next_programs(small, balance):
    small.must("true", preload="run")  # where rotate begins is drawn with the table
    said = [agrees(small, TO, PORT, addrs=POOL, balance=balance) for _ in range(6)]
    assert {s["verdict"] for s in said} == {"served"}
    assert len({s["address"] for s in said}) == (4 if balance == "rotate" else 1)
    assert [a["free"] for a in said[0]["addresses"]] == [20] * 4
    assert said[-1]["pool"] == 4


def test_routing_chooses(small):
    said = agrees(small, TO, PORT)
    assert said["automatic"] and said["address"] == TO and said["rule"]["variable"] is None
    assert agrees(small, "::1", PORT, "v6")["address"] == "::1"
    # A pool of the other family serves it no more than none.
    assert agrees(small, "::1", PORT, "v6", addrs=POOL)["automatic"]


@pytest.mark.parametrize("backend, way", [("auto", "late"), ("late", "late"), ("explicit", "explicit")])
def test_way_of_binding(small, backend, way):
    assert agrees(small, TO, PORT, backend=backend)["way"] == way
    assert small.status()["counters"][way] == 1


def test_ports_past_the_kernels(small):
    """Ten of them are late bind's, the others are not in the kernel's range."""
    said = agrees(small, TO, PORT, ports="40010-40029")
    assert (said["ports"], said["late_ports"], said["way"]) == (20, 10, "late")
    said = agrees(small, TO, PORT, ports="41000-41004")
    assert (said["ports"], said["late_ports"], said["way"]) == (5, 0, "explicit")


def test_udp(small):
    small.must("true", preload="run")
    said = agrees(small, TO, PORT, "udp", protocols="tcp,udp", addrs=POOL)
    assert said["verdict"] == "served" and said["protocol"] == "udp"


# How full.

def test_counts(small):
    """Three of ours, two of a stranger, a listener, and our own end where that is an address of ours."""
    ours, stranger = small.steps(addrs="127.0.0.2"), small.steps(preload=None)
    ours.open(TO, PORT, 3)
    stranger.open(TO, PORT, 2)
    said = explain(small, f"{TO}:{PORT}", addrs="127.0.0.2")
    [address] = said["addresses"]
    assert (address["claimed"], address["free"], address["others"]) == (3, 17, 0)
    assert (said["kernel"]["address"], said["kernel"]["ports"], said["kernel"]["used"]) == (TO, 20, 2)
    assert explain(small, f"{TO}:{PORT}")["addresses"][0]["others"] == 2
    small.sink(f"127.0.0.9 {min(small.ports - {t.lport for t in small.tuples(PORT)})}")
    assert explain(small, f"{TO}:{PORT}", addrs="127.0.0.2")["addresses"][0]["others"] == 1
    # Connected to itself: the one port that is the destination's.
    assert explain(small, f"{TO}:40019")["addresses"][0]["free"] == 18


def test_full(small):
    small.steps().open(TO, PORT, 20)
    said = agrees(small, TO, PORT)
    assert (said["verdict"], said["error"]) == ("fails", "EADDRNOTAVAIL")
    assert said["addresses"][0]["claimed"] == 20
    assert said["kernel"]["used"] == 20
    assert agrees(small, TO, PORT, full="kernel")["verdict"] == "kernel"
    # Another destination has all of them still.
    assert agrees(small, "127.0.0.9", PORT)["verdict"] == "served"


def test_next_address_takes_over(small):
    small.steps(addrs="127.0.0.2").open(TO, PORT, 20)
    said = agrees(small, TO, PORT, addrs="127.0.0.2,127.0.0.7", balance="pack")
    assert said["address"] == "127.0.0.7"
    assert [a["free"] for a in said["addresses"]] == [0, 20]


def test_strangers_alone_fill_it(small):
    small.steps(preload=None).open(TO, PORT, 20)
    said = agrees(small, TO, PORT)
    assert (said["verdict"], said["error"]) == ("fails", "EADDRNOTAVAIL")
    assert said["addresses"][0]["others"] == 20


def test_after_a_reap(small):
    """All claimed by a program that was killed, after its peer."""
    peer, dead = small.sink(f"127.0.0.9 {PORT + 1}"), small.steps()
    dead.open("127.0.0.9", PORT + 1, 20)
    peer.signal()
    dead.program.signal()
    harness.eventually(lambda: small.sockets(PORT + 1) == [])
    small.sink(f"127.0.0.9 {PORT + 1}")
    said = agrees(small, "127.0.0.9", PORT + 1)
    assert said["verdict"] == "after reap" and said["addresses"][0]["sockless"] == 20


def test_table_full(small):
    """The smallest table, filled with destinations."""
    tables.fill(small, PORT)
    # Not every lane has its place where all is full.
    said = [agrees(small, f"127.2.0.{i}", PORT) for i in range(1, 9)]
    assert "kernel" in {s["verdict"] for s in said}
    assert all("table is full" in s["why"] for s in said if s["verdict"] == "kernel")


# Addresses that are passed over.

def test_not_this_hosts(small):
    small.add_addresses("10.9.0.1", "10.9.0.200")
    said = agrees(small, "10.9.0.200", PORT, addrs="10.9.0.7,10.9.0.1", balance="pack")
    assert said["address"] == "10.9.0.1" and said["unusable"] == 1
    assert [a["error"] for a in said["addresses"]] == ["EADDRNOTAVAIL", None]
    assert "is no address of this host" in text(small, f"10.9.0.200:{PORT}", addrs="10.9.0.7")
    # None of them: the kernel's business.
    small.departures_expected = True
    assert agrees(small, "10.9.0.200", PORT, addrs="10.9.0.7,10.9.0.8")["verdict"] == "kernel"


@pytest.mark.parametrize("backend", ["auto", "explicit"])
def test_no_route_from_it(two_hosts, backend):
    client, server = two_hosts
    server.sink(f"10.7.0.100 {PORT}")
    client.must("ip", "rule", "add", "from", "10.7.0.2", "unreachable")
    said = agrees(client, "10.7.0.100", PORT, addrs="10.7.0.2,10.7.0.3", balance="pack",
                  backend=backend)
    if backend == "auto":
        assert said["address"] == "10.7.0.3" and said["addresses"][0]["error"] == "ENETUNREACH"
    else:  # its socket cannot change the address
        assert (said["verdict"], said["error"]) == ("fails", "ENETUNREACH")


def test_no_route_at_all(host):
    said = agrees(host, "192.0.2.1", PORT)
    assert said["verdict"] == "kernel" and said["kernel"]["error"] == "ENETUNREACH"


def test_anyip_prefix(small):
    small.add_addresses("2001:db8:9::1")
    small.sink(f"2001:db8:9::1 {PORT + 1}")
    settings = {"addrs": "2001:db8:1::/64", "balance": "pack"}
    said = explain(small, f"[2001:db8:9::1]:{PORT + 1}", **settings)
    assert said["verdict"] == "kernel" and "doctor" in said["why"]
    small.must("ip", "-6", "route", "add", "local", "2001:db8:1::/64", "dev", "lo")
    assert agrees(small, "2001:db8:9::1", PORT + 1, "v6", **settings)["address"] == "2001:db8:1::"


def test_large_pool(small):
    """Not all is looked at, and the first that is left is found however far it is."""
    said = agrees(small, TO, PORT, addrs="127.3.0.0/16", balance="pack")
    assert said["pool"] == 65536 and said["looked_at"] == 512 == len(said["addresses"])
    said = explain(small, f"10.8.7.255:{PORT}", addrs="10.8.0.0-10.8.3.255")
    assert said["verdict"] == "kernel" and said["looked_at"] == said["unusable"] > 512
    small.must("ip", "address", "add", "10.8.3.255/32", "dev", "lo")
    small.must("ip", "address", "add", "10.8.7.255/32", "dev", "lo")
    said = explain(small, f"10.8.7.255:{PORT}", addrs="10.8.0.0-10.8.3.255", balance="pack")
    assert said["address"] == "10.8.3.255" and said["looked_at"] == 1024
    assert len(text(small, f"{TO}:{PORT}", addrs="127.3.0.0/16").splitlines()) < 24


# Rules, and what is left alone.

def test_rules(small, tmp_path):
    file = tmp_path / 'a "file".conf'
    file.write_text("[rule one]\ndest = 127.0.0.9\naddrs = 127.0.0.8\n"
                    "[rule two]\ndest = 127.0.0.1:8001\naddrs = 127.0.0.6\nports = 40000-40004\n")
    said = explain(small, f"{TO}:{PORT}", "-c", str(file))
    assert said["address"] == "127.0.0.6" and said["ports"] == 5
    assert said["rule"] == {"number": 2, "variable": "TUPLEBIND_RULES", "from": f"{file}:4",
                            "text": "127.0.0.1:8001=127.0.0.6@40000-40004"}
    said = agrees(small, TO, PORT, skip="10.0.0.0/8", rules=";; 127.0.0.2=auto; 127.0.0.1 = 127.0.0.5 ;")
    assert said["rule"]["number"] == 2 and said["rule"]["from"] == "environment"
    assert said["address"] == "127.0.0.5"
    said = agrees(small, TO, PORT, skip="10.0.0.0/8,127.0.0.1", rules="127.0.0.1=127.0.0.5")
    assert said["rule"] == {"number": 2, "variable": "TUPLEBIND_SKIP", "from": "environment",
                            "text": "127.0.0.1"}
    assert said["verdict"] == "kernel" and said["kernel"]["address"] == TO


@pytest.mark.parametrize("to, settings", [
    ("224.0.0.1", {}),
    ("255.255.255.255", {}),
    ("127.0.0.1", {"rules": "127.0.0.0/8:8001=skip"}),
    ("0.0.0.0", {"addrs": "0.0.0.1-0.0.0.9"}),
])
def test_left_alone(small, to, settings):
    assert agrees(small, to, PORT, **settings)["verdict"] == "kernel"


def test_any_address_is_this_host(small):
    assert agrees(small, "0.0.0.0", PORT)["address"] == "127.0.0.1"


@pytest.mark.parametrize("settings, words, why", [
    ({"protocols": "udp"}, [], "tcp is not among"),
    ({}, ["--protocol", "udp"], "udp is not among"),
    ({"disable": "1"}, [], "TUPLEBIND_DISABLE"),
])
def test_not_taken_over(small, settings, words, why):
    said = explain(small, f"{TO}:{PORT}", *words, **settings)
    assert said["verdict"] == "kernel" and why in said["why"]


# Tables.

def test_changes_nothing(small):
    """No table is made, none is written to."""
    explain(small, f"{TO}:{PORT}", addrs=POOL)
    assert small.tables() == []
    small.steps().open(TO, PORT, 3)
    [table] = small.tables()
    before = pathlib.Path(table).read_bytes()
    tuples = small.sockets()
    for words in ([], ["--addrs", POOL], ["--protocols", "tcp,udp", "--protocol", "udp"]):
        explain(small, f"{TO}:{PORT}", *words)
    assert pathlib.Path(table).read_bytes() == before
    assert small.sockets() == tuples


def test_tables_that_are_refused(small):
    small.steps().open(TO, PORT)
    [table] = small.tables()
    sound = pathlib.Path(table).read_bytes()
    for broken, why in [(sound[:40], "too short"), (b"x" * len(sound), "not a tuple table"),
                        (sound[:2048] + b"\0" * 64 + sound[2112:], "written over")]:
        pathlib.Path(table).write_bytes(broken)
        said = explain(small, f"{TO}:{PORT}")
        assert said["verdict"] == "kernel" and why in said["why"]
    os.chmod(table, 0o666)
    assert "0600" in explain(small, f"{TO}:{PORT}")["why"]
    os.unlink(table)
    os.symlink("/etc/passwd", table)
    assert "symbolic link" in explain(small, f"{TO}:{PORT}")["why"]
    # Another name, another table; a private one is nobody else's.
    assert explain(small, f"{TO}:{PORT}", table="other")["verdict"] == "served"
    assert explain(small, f"{TO}:{PORT}", table="private")["verdict"] == "served"


def test_scribbled_table(small):
    """Whatever is in it, the answer comes."""
    small.steps(addrs=POOL).open(TO, PORT, 20)
    [table] = small.tables()
    size, offset = os.stat(table).st_size, small_header(table)
    with open(table, "r+b") as file:
        for _ in range(20):
            file.seek(offset)
            file.write(os.urandom(size - offset))
            file.flush()
            explain(small, f"{TO}:{PORT}", addrs=POOL)


def small_header(table):
    """Where the slabs begin: struct tuplebind_identity's slab_offset."""
    with open(table, "rb") as file:
        return int.from_bytes(file.read(16)[12:16], "little")


# What is not accepted.

@pytest.mark.parametrize("destination", [
    "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.0/8:80", "::1", "::1:80", "[::1]", "[::1:80",
    "example.org:80", "", ":80", "[fe80::1]:80", "[fe80::1%nix]:80", "1.2.3.4:5\n6", "[" * 300, "%:1"])
def test_bad_destinations(host, destination):
    result = host.tuplebind("explain", destination)
    assert (result.code, result.out) == (125, "")
    assert len(result.err.splitlines()) == 1 and "--help" in result.err


def test_link_local(two_hosts):
    client, server = two_hosts
    shown = json.loads(server.must("ip", "-j", "-6", "address", "show", "dev", "wire", "scope", "link"))
    [server_address] = [info["local"] for device in shown for info in device.get("addr_info", [])
                        if "local" in info]
    said = explain(client, f"[{server_address}%wire]:{PORT}")
    assert said["verdict"] == "served" and said["address"].startswith("fe80::")


@pytest.mark.parametrize("words", [[], ["1.2.3.4:5", "6.7.8.9:1"], ["--protocol", "sctp", "1.2.3.4:5"],
                                   ["--addrs", "nix", "1.2.3.4:5"], ["1.2.3.4:5", "--nix"]])
def test_bad_words(host, words):
    result = host.tuplebind("explain", *words)
    assert (result.code, result.out) == (125, "") and len(result.err.splitlines()) == 1


def test_help_fits_a_screen(host):
    out = host.must(harness.COMMAND, "explain", "--help")
    assert len(out.splitlines()) <= 24 and max(map(len, out.splitlines())) <= 80


def test_text(small):
    """Options behind the destination count as well."""
    small.steps(addrs="127.0.0.2").open(TO, PORT, 3)
    result = small.tuplebind("explain", f"{TO}:{PORT}", "--addrs", "127.0.0.2,127.0.0.3", "--balance", "pack")
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0] == f"tcp {TO}:{PORT}: served from 127.0.0.2 by late bind"
    assert "      17        3        0  127.0.0.2  <- this one" in lines
    assert "      20        0        0  127.0.0.3" in lines
    assert lines[-1] == f"kernel  alone: from {TO}, 0 of 20 ports in use towards this destination: " \
                        "20 before EADDRNOTAVAIL"
