"""docs/recipes.md, run as it stands, judged by what the upstream saw."""

import collections
import json
import os
import pathlib

import harness
import pytest
import recipes
import web
from conftest import UPSTREAM

POOL = [f"10.0.0.{last}" for last in range(5, 55)]
LIBRARY = "/usr/local/lib/x86_64-linux-gnu/libtuplebind.so"
LONG = os.environ.get("TUPLEBIND_TEST_LONG")


def test_no_recipe_without_a_test():
    source = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    missing = [heading for heading in recipes.sections() if f'"{heading}"' not in source]
    assert recipes.sections() and missing == []


@pytest.fixture
def pool(machine):
    """The machine's fifty addresses."""
    machine.shell(recipes.Recipe("The addresses").commands("ip address add"))
    return machine


@pytest.fixture
def proxy(pool):
    """The same with nginx, not yet started, in front of the upstream."""
    recipes.Recipe("One upstream, fifty addresses").write(pool, "/etc/nginx/conf.d/upstream.conf")
    return pool


@pytest.fixture
def origin(upstream, directory):
    """The upstream's server; it closes each connection after the answer and logs where it came from."""
    return web.upstream(upstream, directory / "origin", UPSTREAM)


def under_systemd(recipe, machine):
    """nginx, started as the recipe has it; what its commands printed."""
    recipe.write(machine, "/etc/systemd/system/nginx.service.d/tuplebind.conf")
    return machine.shell(recipe.commands("systemctl restart nginx"))


def visit(machine, count=8):
    """Requests through the machine's nginx."""
    for _ in range(count):
        assert machine.must("curl", "-s", "http://127.0.0.1:8080/") == "served"


def visitors(origin, count):
    """The addresses the next requests came from: so many have been made since the last call."""
    seen = getattr(origin, "seen", 0)
    origin.seen = seen + count
    return {request.laddr for request in origin.requests_when(seen + count)[seen:]}


@pytest.mark.recipe("The addresses")
def test_addresses(recipe, machine):
    machine.shell(recipe.commands("ip address add"))
    shown = machine.must("ip", "-4", "-o", "address", "show", "dev", "eth0")
    assert [line.split()[3] for line in shown.splitlines()] == ["10.0.0.4/24"] + [f"{a}/24" for a in POOL]


def main_process(machine):
    return machine.must("systemctl", "show", "--property=MainPID", "--value", "nginx").strip()


def upgrade(machine):
    """A new binary is started by the old one, which then leaves."""
    old = main_process(machine)
    machine.must("kill", "-USR2", old)
    harness.eventually(lambda: machine.run("test", "-s", "/run/nginx.pid.oldbin").code == 0)
    harness.eventually(lambda: machine.must("cat", "/run/nginx.pid").strip() not in ("", old))
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
    assert visitors(origin, 8) == {"10.0.0.4"}

    assert "network namespace" in under_systemd(recipe, proxy)
    visit(proxy)
    assert visitors(origin, 8) <= set(POOL)
    reload(proxy)
    visit(proxy)
    assert visitors(origin, 8) <= set(POOL)
    proxy.must("systemctl", "restart", "nginx")
    visit(proxy)
    assert visitors(origin, 8) <= set(POOL)

    recipe.write(proxy, "/etc/nginx/modules-enabled/tuplebind.conf")
    proxy.must("systemctl", "restart", "nginx")
    upgrade(proxy)
    visit(proxy)
    assert visitors(origin, 8) <= set(POOL)

    recipe.write(proxy, "/etc/systemd/system/nginx.service.d/sandbox.conf")
    under_systemd(recipe, proxy)
    visit(proxy)
    assert visitors(origin, 8) <= set(POOL)

    assert "tuplebind" not in proxy.journal("nginx")
    table, = json.loads(proxy.must("tuplebind", "status", "--json"))["tables"]
    assert table["counters"]["bound"] == 40 and table["counters"]["passed"] == 0, table
    assert {process["name"] for process in table["processes"]} == {"nginx"}
    assert proxy.must("stat", "--format=%U %a", *proxy.must("sh", "-c", "ls /dev/shm/tuplebind.*").split()) == "root 600\n"


def drop_in(machine, *lines):
    machine.write("/etc/systemd/system/nginx.service.d/zz.conf", "\n".join(["[Service]", *lines, ""]))
    machine.must("systemctl", "daemon-reload")
    return machine.run("systemctl", "restart", "nginx").code


def test_nginx_under_systemd_is_told_of_what_is_wrong(proxy, origin):
    """What the recipe says of strict, of SIGUSR2 and of /dev/shm."""
    recipe = recipes.Recipe("nginx under systemd")
    under_systemd(recipe, proxy)
    upgrade(proxy)
    visit(proxy)
    assert visitors(origin, 8) == {"10.0.0.4"}  # without the lines in nginx.conf

    wrong = "Environment=TUPLEBIND_ADDRS=10.0.0.5x"
    assert drop_in(proxy, wrong) != 0
    assert 'TUPLEBIND_ADDRS: "10.0.0.5x"' in proxy.run("systemctl", "status", "nginx").out
    assert drop_in(proxy, wrong, "Environment=TUPLEBIND_STRICT=0") == 0
    visit(proxy)
    assert visitors(origin, 8) == {"10.0.0.4"}

    for path in ("InaccessiblePaths=/dev/shm", "ReadOnlyPaths=/dev/shm"):
        assert drop_in(proxy, path) != 0, path
        assert "/dev/shm" in proxy.run("systemctl", "status", "nginx").out
    assert drop_in(proxy, "TemporaryFileSystem=/dev/shm") == 0
    visit(proxy)
    assert visitors(origin, 8) <= set(POOL)


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
