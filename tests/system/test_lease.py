"""`tuplebind run --lease`: a part of the ports from a real etcd, what is written there and what is left
of it, and everything that is refused."""

import json
import os
import re

import harness
import leasing
import pytest

READY = ["sh", "-c", "echo ready; exec cat"]


@pytest.fixture
def one(tmp_path):
    with leasing.ground(tmp_path) as made:
        yield made


@pytest.fixture
def two(tmp_path):
    with leasing.ground(tmp_path, 2) as made:
        yield made


def refused(result, *parts):
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1), result
    for part in parts:
        assert part in result.err, result


def part_of(environment_text):
    return re.search(r"^TUPLEBIND_PORTS=(.*)/(\d+):(\d+)$", environment_text, re.M).groups()


def test_part_is_leased_and_given_back(one):
    etcd, host = one
    running = leasing.start_lease(host, "--ports", "auto/8", "--", "sh", "-c",
                                  "env >&2; echo ready; exec cat")
    [number] = etcd.parts("web")
    assert part_of(running.errors()) == ("auto", "8", str(number))
    assert "TUPLEBIND_LEASE" not in running.errors()
    keys = etcd.keys("web")
    assert keys["count"] == ("8", 0)
    key = keys[f"parts/{number}"]
    holder = json.loads(key.value)
    assert (holder["host"], holder["pid"]) == (os.uname().nodename, running.pid)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", holder["time"])
    assert etcd.leases() == [key.lease] and 40 < etcd.seconds_left(key.lease) <= 60
    assert running.end() == 0
    assert etcd.keys("web") == {"count": ("8", 0)} and etcd.leases() == []


def test_only_ports_of_the_part_are_used(one):
    etcd, host = one
    host.sink("127.0.0.1 8001", "127.0.0.1 8002")
    rules = "127.0.0.1:8002=127.0.0.9@50000-50999"
    steps = harness.Steps(host.start(*leasing.words(
        host, "--ports", "auto/4", "--rules", rules, harness.program("steps"))))
    steps.open("127.0.0.1", 8001, 200)
    steps.open("127.0.0.1", 8002, 200)
    [number] = etcd.parts("web")
    for port, ports in (8001, host.ports), (8002, range(50000, 51000)):
        used = {t.lport for t in host.tuples(port)}
        assert len(used) == 200 and used <= set(ports)
        assert {lport % 4 for lport in used} == {number - 1}


def test_long_values_stay_whole(one):
    etcd, host = one
    addresses = ",".join(f"127.0.{i // 250}.{i % 250 + 1}" for i in range(300))
    rules = f"127.0.0.2={addresses}@1000-2000;127.0.0.3=skip"
    running = leasing.start_lease(host, "--ports", "auto/2", "--rules", rules, "--", "sh", "-c",
                                  "env >&2; echo ready; exec cat")
    [number] = etcd.parts("web")
    assert f"TUPLEBIND_RULES=127.0.0.2={addresses}@1000-2000/2:{number};127.0.0.3=skip;\n" in running.errors()
    assert running.end() == 0
    odd = ",".join(str(port) for port in range(20001, 21201, 2))
    refused(host.run(*leasing.words(host, "--ports", f"{odd}/2", "true")), "has no port for part 1 of 2")


def test_parts_are_drawn_at_random(one):
    etcd, host = one
    drawn = {part_of(leasing.lease(host, "--ports", "auto/64", "env").out)[2] for _ in range(8)}
    assert len(drawn) > 1


def test_number_of_parts(two):
    """The first host's number holds for all; 16 if it names none."""
    _, host, other = two
    assert part_of(leasing.lease(host, "env", name="preset").out)[1] == "16"
    assert part_of(leasing.lease(host, "--ports", "auto/3", "env").out)[1] == "3"
    assert part_of(leasing.lease(other, "env").out)[1] == "3"
    assert part_of(leasing.lease(other, "--ports", "auto/3", "env").out)[1] == "3"
    refused(leasing.lease(other, "--ports", "auto/4", "env"), '"web"', "3 parts, not 4")


@pytest.mark.parametrize("count", ["none", "0", "2000", ""])
def test_number_of_parts_is_junk(one, count):
    etcd, host = one
    etcd.put("/tuplebind/web/count", count)
    refused(leasing.lease(host, "env"), "/tuplebind/web/count")
    assert etcd.leases() == []


def test_number_of_parts_is_gone(one):
    """Deleted while parts are taken: another number could give out their ports once more."""
    etcd, host = one
    running = leasing.start_lease(host, "--ports", "auto/8", *READY)
    etcd.delete("/tuplebind/web/count")
    refused(leasing.lease(host, "--ports", "auto/4", "env"), "/tuplebind/web/count", "deleted")
    assert running.end() == 0
    assert part_of(leasing.lease(host, "--ports", "auto/4", "env").out)[1] == "4"


def test_parts_run_out(two):
    etcd, host, other = two
    first = leasing.start_lease(host, "--ports", "auto/2", *READY)
    second = leasing.start_lease(other, "--ports", "auto/2", *READY)
    assert etcd.parts("web") == [1, 2]
    refused(leasing.lease(other, "echo", "ran"), 'all 2 parts of "web"', f"(pid {first.pid})",
            f"(pid {second.pid})", "--lease-wait")
    refused(leasing.lease(other, "--lease-wait", "1", "echo", "ran"), 'all 2 parts of "web"')
    assert len(etcd.leases()) == 2
    waiting = other.start(*leasing.words(other, "--lease-wait", "30", *READY))
    assert first.end() == 0
    assert waiting.line() == "ready"
    assert (waiting.end(), second.end()) == (0, 0)
    assert etcd.parts("web") == [] and etcd.leases() == []


def test_name_is_by_itself(two):
    """Other names, also those that begin alike, have parts of their own."""
    etcd, host, other = two
    running = leasing.start_lease(host, "--ports", "auto/1", *READY, name="web")
    also = leasing.start_lease(other, "--ports", "auto/1", *READY, name="web2")
    assert etcd.parts("web") == etcd.parts("web2") == [1]
    assert (running.end(), also.end()) == (0, 0)


@pytest.mark.parametrize("words, part", [
    (["--ports", "auto/8:3"], "auto/8:3"),
    (["--ports", "auto/"], "auto/"),
    (["--ports", "auto/0"], "auto/0"),
    (["--ports", "auto/1025"], "auto/1025"),
    (["--ports", "auto/x"], "auto/x"),
    (["--ports", "nonsense/8"], "nonsense"),
    (["--rules", "127.0.0.1=auto@40000-50000/8:1"], "40000-50000/8:1"),
    (["--rules", "127.0.0.1=auto@40000-50000/8"], '"/8"'),
    (["--addrs", "nonsense"], "nonsense"),
    (["--lease-ttl", "4"], "TUPLEBIND_LEASE_TTL"),
    (["--lease-ttl", "1m"], "TUPLEBIND_LEASE_TTL"),
    (["--lease-wait", "-1"], "TUPLEBIND_LEASE_WAIT"),
    (["--lease-ca", "/nowhere"], "/nowhere"),
])
def test_bad_values(host, words, part):
    """Refused before etcd, which is not there, is asked."""
    refused(host.run(harness.COMMAND, "run", "--lease", "etcd://127.0.0.1/web", *words, "echo", "ran"), part)


def test_parts_without_ports(one):
    etcd, host = one
    refused(leasing.lease(host, "--ports", "40000-40006/8", "echo", "ran"), '"40000-40006" has no port for part 8 of 8')
    refused(leasing.lease(host, "--rules", "127.0.0.1=auto@40000", "echo", "ran"), '"40000" has no port for part 2 of 8')
    assert etcd.leases() == []


@pytest.mark.parametrize("url", [
    "", "nonsense", "http://127.0.0.1/web", "etcd:/127.0.0.1/web", "etcd://127.0.0.1", "etcd://127.0.0.1/",
    "etcd:///web", "etcd://127.0.0.1/we b", "etcd://127.0.0.1/a/b", "etcd://127.0.0.1/web?x=1",
    "etcd://127.0.0.1:/web", "etcd://127.0.0.1:0/web", "etcd://127.0.0.1:65536/web", "etcd://[::1/web",
    "etcd://[localhost]/web", "etcd://::1/web", "etcd://[::1]x/web", "etcd://a b/web", "etcd://127.0.0.1/" + "x" * 65,
    "etcd://" + "x" * 300 + "/web", "etcd://user:secret@127.0.0.1/web", "http://user:secret@127.0.0.1"])
def test_bad_url(host, url):
    result = host.run(harness.COMMAND, "run", "--lease", url, "echo", "ran")
    if url == "":  # as an empty variable: unset
        assert result.out == "ran\n"
        return
    refused(result, "TUPLEBIND_LEASE", "etcd://HOST[:PORT]/NAME")
    assert "secret" not in result.err


def test_variables_do_as_options(one):
    etcd, host = one
    result = host.run(harness.COMMAND, "run", "env", lease=f"etcd://{host.etcd}/web", lease_ttl=7,
                      ports="auto/4")
    assert part_of(result.out)[:2] == ("auto", "4")
    assert "TUPLEBIND_LEASE" not in result.out
    assert "count" in etcd.keys("web")


def test_help(host):
    text = host.must(harness.COMMAND, "run", "--help")
    for option in "--lease URL", "--lease-ttl N", "--lease-wait N", "--lease-ca FILE":
        assert option in text


def test_disabled(host):
    """Does nothing, and asks nobody."""
    result = host.run(harness.COMMAND, "run", "--lease", "etcd://127.0.0.1/web", "echo", "ran",
                      disable=1)
    assert (result.code, result.out) == (0, "ran\n")


def test_ipv6(one):
    etcd, host = one
    etcd.host.add_addresses("fd09::254/64", device="host1")
    host.add_addresses("fd09::1/64", device="wire")
    result = host.run(harness.COMMAND, "run", "--lease", "etcd://[fd09::254]:2379/web", "env")
    assert part_of(result.out)[1] == "16"


def test_proxies_are_not_obeyed(one):
    _, host = one
    proxies = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY")}
    assert leasing.lease(host, "echo", "ran", environment=proxies).out == "ran\n"


def test_who_loads_what(one):
    """The library is the program's alone, libcurl is tuplebind-lease's alone."""
    _, host = one
    running = leasing.start_lease(host, harness.COMMAND, "run", "sh", "-c", "echo ready; read line",
                                  preload=harness.LIBRARY)
    loaded = {pid: open(f"/proc/{pid}/maps", encoding="utf-8").read() for pid in
              (running.pid, leasing.keeper_of(running), leasing.program_of(running))}
    assert [("libtuplebind.so" in maps, "libcurl" in maps) for maps in loaded.values()] == \
        [(False, True), (False, True), (True, False)]
    assert "libcurl" not in host.must("ldd", harness.COMMAND)


def test_installed(one, tmp_path):
    _, host = one
    host.must("meson", "install", "-C", harness.BUILD, "--no-rebuild", "--quiet",
              "--destdir", tmp_path)
    [command], [library] = tmp_path.rglob("bin/tuplebind"), tmp_path.rglob("libtuplebind.so")
    result = host.run(command, "run", "--lease", f"etcd://{host.etcd}/web", "printenv", "LD_PRELOAD")
    assert (result.code, result.out.strip(), result.err) == (0, str(library), "")


def certificate(host, directory):
    """A key and a certificate for etcd's address, signed by itself."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    host.must("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
              "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=etcd",
              "-addext", "subjectAltName=IP:10.9.1.254,IP:127.0.0.1")
    return key, cert


def test_tls(host, tmp_path):
    key, cert = certificate(host, tmp_path)
    with leasing.ground(tmp_path, 1, "--cert-file", cert, "--key-file", key, scheme="https") as (_, client):
        # By a relative name, and renewed once.
        trusted = leasing.lease(client, "--lease-ca", cert.name, "sh", "-c", "sleep 2; echo ran", scheme="etcds", ttl=5,
                                log="info", cwd=tmp_path)
        assert (trusted.code, trusted.out) == (0, "ran\n") and "lease-not-renewed" not in trusted.err, trusted
        assert "event=lease-given-back" in trusted.err
        refused(leasing.lease(client, "echo", "ran", scheme="etcds"), "https://10.9.1.254:2379", "certificate")
        refused(leasing.lease(client, "--lease-ca", cert, "echo", "ran"), "http://10.9.1.254:2379")
