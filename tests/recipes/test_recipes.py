"""docs/recipes.md, run as it stands, judged by what the upstream saw."""

import collections
import ipaddress
import os
import pathlib

import harness
import pytest
import recipes
import web
from machine import POOL, UPSTREAM
from origin import Origin

LONG = os.environ.get("TUPLEBIND_TEST_LONG")


def test_no_recipe_without_a_test():
    source = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    missing = [heading for heading in recipes.sections() if f'recipe("{heading}")' not in source]
    assert recipes.sections() and missing == []


@pytest.fixture
def proxy(pool):
    """The machine with the pool and nginx, not yet started, in front of the upstream."""
    recipes.Recipe("One upstream, fifty addresses").write(pool, "/etc/nginx/conf.d/upstream.conf")
    return pool


def under_systemd(recipe, machine):
    """nginx, started as the recipe has it; what its commands printed."""
    recipe.write(machine, "/etc/systemd/system/nginx.service.d/tuplebind.conf")
    return machine.shell(recipe.commands("systemctl restart nginx"))


def visit(machine, count=8):
    """Requests through the machine's nginx."""
    for _ in range(count):
        assert machine.must("curl", "-s", "http://127.0.0.1:8080/") == "served"


@pytest.mark.recipe("The addresses")
def test_addresses(recipe, machine, origin):
    for addresses in ("10.0.0.5-10.0.0.54", "10.0.0.3-10.0.0.4", "10.0.0.3-10.0.0.4"):
        result = machine.run("tuplebind", "run", "--addrs", addresses, "curl", "-s", f"http://{UPSTREAM}:8001/")
        assert result.out == "served"
        if addresses.startswith("10.0.0.5-"):
            assert "event=set-aside" in result.err
    assert origin.visitors(3) == {"10.0.0.4"}

    machine.shell(recipe.commands("ip address add"))
    shown = machine.must("ip", "-4", "-o", "address", "show", "dev", "eth0")
    assert [line.split()[3] for line in shown.splitlines()] == ["10.0.0.4/24"] + [f"{a}/24" for a in POOL]


def main_process(machine):
    return machine.must("systemctl", "show", "--property=MainPID", "--value", "nginx").strip()


def upgrade(machine):
    """A new binary is started by the old one, which then leaves."""
    old = main_process(machine)
    machine.must("kill", "-USR2", old)
    harness.eventually(lambda: machine.run("cat", "/run/nginx.pid").out.strip() not in ("", old))
    machine.must("kill", "-QUIT", old)
    harness.eventually(lambda: machine.run("test", "-e", f"/proc/{old}").code != 0)


def workers(machine):
    """Processes of nginx's workers that run, and have a parent to serve for."""
    return set(machine.must("pgrep", "--full", "nginx: worker process$").split())


def reload(machine):
    before = workers(machine)
    machine.must("systemctl", "reload", "nginx")
    harness.eventually(lambda: not before & workers(machine) and workers(machine))


@pytest.mark.recipe("nginx under systemd")
def test_nginx_under_systemd(recipe, proxy, origin):
    proxy.must("systemctl", "restart", "nginx")
    visit(proxy)
    assert origin.visitors(8) == {"10.0.0.4"}

    assert "network namespace" in under_systemd(recipe, proxy)
    visit(proxy)
    assert origin.visitors(8) <= set(POOL)
    reload(proxy)
    visit(proxy)
    assert origin.visitors(8) <= set(POOL)
    proxy.must("systemctl", "restart", "nginx")
    visit(proxy)
    assert origin.visitors(8) <= set(POOL)

    recipe.write(proxy, "/etc/nginx/modules-enabled/tuplebind.conf")
    proxy.must("systemctl", "restart", "nginx")
    upgrade(proxy)
    visit(proxy)
    assert origin.visitors(8) <= set(POOL)

    recipe.write(proxy, "/etc/systemd/system/nginx.service.d/sandbox.conf")
    under_systemd(recipe, proxy)
    visit(proxy)
    assert origin.visitors(8) <= set(POOL)

    assert "tuplebind" not in proxy.journal("nginx")
    table = proxy.status()
    assert table["counters"]["bound"] == 40 and table["counters"]["passed"] == 0, table
    assert {process["name"] for process in table["processes"]} == {"nginx"}
    assert proxy.must("stat", "--format=%U %a", *proxy.tables()) == "root 600\n"


def drop_in(machine, *lines):
    machine.write("/etc/systemd/system/nginx.service.d/zz.conf", "\n".join(["[Service]", *lines, ""]))
    machine.must("systemctl", "daemon-reload")
    return machine.run("systemctl", "restart", "nginx").code


def test_nginx_under_systemd_is_told_of_what_is_wrong(proxy, origin):
    """What the recipe says of SIGUSR2, of TUPLEBIND_STRICT and of /dev/shm."""
    recipe = recipes.Recipe("nginx under systemd")
    under_systemd(recipe, proxy)
    upgrade(proxy)
    visit(proxy)
    assert origin.visitors(8) == {"10.0.0.4"}  # without the lines in nginx.conf

    wrong = "Environment=TUPLEBIND_ADDRS=10.0.0.5x"
    assert drop_in(proxy, wrong) != 0
    assert 'TUPLEBIND_ADDRS: "10.0.0.5x"' in proxy.run("systemctl", "status", "nginx").out
    assert drop_in(proxy, wrong, "Environment=TUPLEBIND_STRICT=0") == 0
    visit(proxy)
    assert origin.visitors(8) == {"10.0.0.4"}

    for path in ("InaccessiblePaths=/dev/shm", "ReadOnlyPaths=/dev/shm"):
        assert drop_in(proxy, path) != 0, path
        assert "/dev/shm" in proxy.run("systemctl", "status", "nginx").out
        assert drop_in(proxy, path, "Environment=TUPLEBIND_TABLE=private") == 0
        visit(proxy)
        assert origin.visitors(8) <= set(POOL)
    assert drop_in(proxy, "TemporaryFileSystem=/dev/shm") == 0
    visit(proxy)
    assert origin.visitors(8) <= set(POOL)


@pytest.mark.recipe("HAProxy under systemd")
def test_haproxy_under_systemd(recipe, pool, origin):
    pool.write("/etc/haproxy/haproxy.cfg", pool.must("cat", "/etc/haproxy/haproxy.cfg") + recipe.take(
        lambda block: block.language == "haproxy"))
    pool.must("systemctl", "restart", "haproxy")
    visit(pool)
    assert origin.visitors(8) == {"10.0.0.4"}

    recipe.write(pool, "/etc/tuplebind.conf")
    recipe.write(pool, "/etc/systemd/system/haproxy.service.d/tuplebind.conf")
    pool.shell(recipe.commands("systemctl restart haproxy"))
    visit(pool)
    assert origin.visitors(8) <= set(POOL)
    pool.must("systemctl", "reload", "haproxy")
    visit(pool)
    assert origin.visitors(8) <= set(POOL)
    assert "tuplebind" not in pool.journal("haproxy")


def held_from(upstream, port=8001):
    """How many connections to the upstream's port are held from each address."""
    return collections.Counter(s.tuple.faddr for s in upstream.sockets(port, server=True) if s.state == "ESTAB")


@pytest.mark.recipe("One upstream, fifty addresses")
@pytest.mark.parametrize("preload", [False, True], ids=["plain", "tuplebind"])
def test_one_upstream_fifty_addresses(recipe, pool, upstream, preload):
    """350 requests that are never answered, with 100 ports for each address."""
    pool.set_ports(41000, 41099)
    upstream.sink(f"{UPSTREAM} 8001")
    recipe.write(pool, "/etc/nginx/conf.d/upstream.conf")
    pool.must("systemctl", "restart", "nginx")
    if preload:
        under_systemd(recipes.Recipe("nginx under systemd"), pool)
    upstream.start("wrk", "--threads", 1, "--connections", 350, "--duration", "60s", "--timeout", "60s",
                   "http://10.0.0.4:8080/")
    if not preload:
        harness.eventually(lambda: "Cannot assign requested address" in pool.must("cat", "/var/log/nginx/error.log"))
        assert held_from(upstream) == {"10.0.0.4": 100}
        return
    harness.eventually(lambda: held_from(upstream).total() == 350)
    held = held_from(upstream)
    assert set(held) == set(POOL)
    assert max(held.values()) - min(held.values()) <= len(workers(pool)), held
    assert pool.must("cat", "/var/log/nginx/error.log") == ""


def counted(host, name):
    """One of the kernel's counters of TCP."""
    lines = host.must("cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index(name)])


@pytest.fixture
def crowd_server(upstream, directory):
    """nginx that can hold them all, and keeps connections."""
    return web.Nginx(upstream, directory / "origin", f"""
        listen {UPSTREAM}:8001 reuseport backlog=65535;
        access_log off;
        keepalive_timeout 300s;
        keepalive_requests 1000000000;
        return 200 served;
    """, workers=8, connections=19000, top="worker_rlimit_nofile 20000;")


WRKS, EACH = 6, 16667
RUN = "tuplebind run --addrs 10.0.0.5-10.0.0.8 "


@pytest.mark.recipe("A load generator")
def test_load_generator(recipe, pool, upstream, crowd_server):
    """As it stands, until all connections are there."""
    pool.start("sh", "-ec", recipe.commands("wrk"))
    harness.eventually(lambda: counted(upstream, "CurrEstab") == WRKS * EACH, limit=180)
    held = held_from(upstream)
    assert set(held) == set(POOL[:4]) and held.total() == WRKS * EACH, held
    table = pool.status()
    assert table["claims"] >= WRKS * EACH and table["counters"]["full"] == 0, table


def replaced(text, *pairs):
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def load(machine, upstream, *pairs):
    """Runs the recipe to its end, so changed. (What all wrks printed, the most connections seen at once)"""
    running = machine.start("sh", "-ec", replaced(recipes.Recipe("A load generator").commands("wrk"), *pairs))
    held = []
    def ended():
        held.append(counted(upstream, "CurrEstab"))
        return running.process.poll() is not None
    harness.eventually(ended, limit=1200)  # wrk that is refused connections may take minutes
    return running.process.stdout.read().decode() + running.errors(), max(held)


def was_refused(out):
    return "Socket errors: connect" in out or "Cannot assign requested address" in out


@pytest.mark.parametrize("ports, each", [(282, 167)] + ([(28232, EACH)] if LONG else []))
def test_load_generator_plain(pool, upstream, crowd_server, ports, each):
    """wrk alone comes to the end of its ports; also with a hundredth of them and of the connections."""
    pool.set_ports(32768, 32768 + ports - 1)
    out, held = load(pool, upstream, (str(EACH), str(each)), ("60s", "3s"), (RUN, ""))
    assert was_refused(out), out
    assert counted(upstream, "PassiveOpens") > 0.99 * ports
    assert held <= ports


def test_load_generator_to_its_end(pool, upstream, crowd_server):
    """A hundredth of the connections, through a hundredth of the ports."""
    pool.set_ports(32768, 32768 + 282 - 1)
    out, _ = load(pool, upstream, (str(EACH), "167"), ("60s", "3s"))
    assert not was_refused(out) and out.count("requests in") == WRKS, out
    # Each wrk makes and closes one connection at its start, to look whether there is a server.
    assert counted(upstream, "PassiveOpens") == WRKS * (167 + 1)


@pytest.mark.recipe("curl")
def test_curl(recipe, pool, origin):
    text = recipe.commands("curl")
    pool.shell(text.split("\\\n")[1])
    assert origin.visitors(2000) == {"10.0.0.4"}
    pool.shell(text)
    assert origin.visitors(2000) == set(POOL)
    assert web.tuples_at_once(origin.requests()) == []


@pytest.mark.recipe("A crawler with an IPv6 network")
def test_crawler(recipe, machine, upstream, directory):
    upstream.add_addresses("2001:db8::100/64", device="wire")
    machine.add_addresses("2001:db8::4/64", device="eth0")
    upstream.must("ip", "-6", "route", "add", "2001:db8:5::/64", "via", "2001:db8::4")
    origin = Origin(upstream, directory / "origin", "[2001:db8::100]")
    machine.shell(recipe.commands("curl"))
    seen = origin.visitors(200)
    network = ipaddress.ip_network("2001:db8:5::/64")
    assert len(seen) == 200 and all(ipaddress.ip_address(address) in network for address in seen), seen
