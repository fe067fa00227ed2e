"""Programs as Debian ships them, unmodified: what their peer sees.

The upstream is an nginx without tuplebind, whose access log says from which address and port
each request came.
"""

import re
import signal
import time

import harness
import pytest
import web

TO = "127.0.0.1"
URL = f"http://{TO}:8001/"
POOL = "127.0.0.2-127.0.0.5"
POOL_ADDRESSES = {f"127.0.0.{i}" for i in range(2, 6)}


@pytest.fixture
def served(host, tmp_path):
    """A host and its upstream. The directory must be open to nginx's workers."""
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    host.set_ports(20000, 29999)
    host.add_addresses("fd00::1", "fd00::9")
    return host, web.upstream(host, tmp_path / "upstream", TO, "[fd00::1]")


def origins(requests):
    return [(r.laddr, r.lport) for r in requests]


def expect_from_pool(host, requests, pool=frozenset(POOL_ADDRESSES)):
    assert {r.laddr for r in requests} <= pool
    assert {r.lport for r in requests} <= host.ports
    assert {r.status for r in requests} == {200}


# Clients

CLIENTS = {
    "curl": ["curl", "-sS", URL],
    "curl, by name": ["curl", "-sS", "http://localhost:8001/"],
    "python3 urllib": [harness.PYTHON, "-c", "import urllib.request as u; "
                       f"print(u.urlopen('{URL}').read().decode())"],
    "python3 asyncio": [harness.PYTHON, "-c", f"""
import asyncio
async def main():
    reader, writer = await asyncio.open_connection("{TO}", 8001)
    writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print((await reader.read()).decode())
asyncio.run(main())
"""],
    "socat": ["socat", "-t5", "-", f"TCP:{TO}:8001"],
    "bash": ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8001; "
             "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"],
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
def test_one_request(served, client):
    """From the pool with the preload, from 127.0.0.1 without; the same answer both times."""
    host, upstream = served
    for count, preload, pool in ((1, None, {TO}), (2, "run", POOL_ADDRESSES)):
        result = host.run(*client, stdin="GET / HTTP/1.0\r\n\r\n", preload=preload, addrs=POOL)
        assert (result.code, result.err) == (0, "")
        assert "served" in result.out
        requests = upstream.requests_when(count)
        assert len(requests) == count
        expect_from_pool(host, requests[count - 1:], pool)
    host.reap()
    assert host.claims() == []


def test_curl_v6(served):
    host, upstream = served
    result = host.run("curl", "-sS", "-g", "http://[fd00::1]:8001/", preload="run", addrs="fd00::9")
    assert result == (0, "served", "")
    [request] = upstream.requests_when(1)
    assert request.laddr == "fd00::9" and request.lport in host.ports


def test_curl_names_its_port(served):
    """--interface with --local-port is the user's own choice."""
    host, upstream = served
    result = host.run("curl", "-sS", "--interface", "127.0.0.9", "--local-port", "30777", URL,
                      preload="run", addrs=POOL)
    assert result == (0, "served", "")
    assert origins(upstream.requests_when(1)) == [("127.0.0.9", 30777)]
    assert host.status()["counters"]["bound"] == 0


def test_curl_names_its_address(served):
    host, upstream = served
    result = host.run("curl", "-sS", "--interface", "127.0.0.9", URL, preload="run", addrs=POOL)
    assert result == (0, "served", "")
    assert [r.laddr for r in upstream.requests_when(1)] == ["127.0.0.9"]
    assert host.status()["counters"]["bound"] == 1  # the port is tuplebind's


def test_curl_parallel(served):
    """200 connections at once: 200 tuples, evenly from all four addresses."""
    host, upstream = served
    words = ["curl", "-sS", "--parallel", "--parallel-immediate", "--parallel-max", "200"]
    for _ in range(200):
        words += ["-o", "/dev/null", URL]
    result = host.run(*words, preload="run", addrs=POOL)
    assert (result.code, result.out) == (0, "")
    assert "curl:" not in result.err  # there is a progress meter, too
    requests = upstream.requests_when(200)
    expect_from_pool(host, requests)
    assert len(set(origins(requests))) == len(requests) == 200
    for address in POOL_ADDRESSES:
        assert [r.laddr for r in requests].count(address) == 50
    host.reap()
    assert host.claims() == []


# nginx

def proxy(served, tmp_path, **settings):
    host, _ = served
    return web.Nginx(host, tmp_path / "proxy", f"""
        listen {TO}:8080 backlog=4096;
        location / {{ proxy_pass http://{TO}:8001; }}
    """, workers=2, preload="run", addrs=POOL, **settings)


def load(host, seconds, connections=20):
    return host.start("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
                      f"http://{TO}:8080/")


def served_by(wrk):
    """How many requests it made, none of which may have failed."""
    lines = []
    while (line := wrk.line()) is not None:
        lines.append(line)
    out = "\n".join(lines)
    assert wrk.wait() == 0
    assert "Socket errors" not in out and "Non-2xx" not in out, out
    return int(re.search(r"(\d+) requests in", out)[1])


def quit_gently(nginx):
    nginx.program.signal(signal.SIGQUIT)
    assert nginx.program.wait() == 0


def expect_clean(nginx):
    bad = [line for line in nginx.errors().splitlines()
           if re.search(r"\[(error|crit|alert|emerg)\]", line)
           and "initgroups" not in line]  # which is not to be had in a user namespace
    assert bad == []
    assert "tuplebind" not in nginx.program.errors(), nginx.program.errors()


def worker_users(host, nginx):
    """The user ids of its workers."""
    found = set()
    for pid in host.inhabitants():
        status = dict(line.split(":\t", 1) for line in
                      open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
        if status["Name"] == "nginx" and int(status["PPid"]) == nginx.program.pid:
            found.add(status["Uid"].split()[0])
    return found


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_nginx_proxy(served, tmp_path, backend):
    """Two workers, four addresses: all are used, about evenly, and no tuple twice at once."""
    host, upstream = served
    nginx = proxy(served, tmp_path, backend=backend)
    count = served_by(load(host, 1))
    users = worker_users(host, nginx)
    quit_gently(nginx)
    requests = upstream.requests_when(count)
    expect_from_pool(host, requests)
    for address in POOL_ADDRESSES:
        assert [r.laddr for r in requests].count(address) > len(requests) / 8
    assert web.tuples_at_once(requests) == []
    assert users == ({"65534"} if web.user().startswith("nobody") else {"0"})
    expect_clean(nginx)
    host.reap()
    assert host.claims() == []


def test_nginx_proxy_sees_its_tuples(served, tmp_path):
    """While connections are under way, the kernel's sockets and the claims are the same."""
    host, _ = served
    host.sink(f"{TO} 8003")  # an upstream that never answers
    nginx = web.Nginx(host, tmp_path / "proxy", f"""
        listen {TO}:8080;
        location / {{ proxy_pass http://{TO}:8003; }}
    """, workers=2, preload="run", addrs=POOL)
    wrk = load(host, 5, connections=50)
    harness.eventually(lambda: len(host.tuples(8003)) == 50)
    assert host.claims() == host.tuples(8003)
    assert {t.laddr for t in host.claims()} == POOL_ADDRESSES
    assert len(host.status()["processes"]) >= 2
    wrk.close()
    # The clients are gone: nginx closes its side, each close gives its claim back.
    harness.eventually(lambda: host.tuples(8003) == [])
    assert host.claims() == []
    quit_gently(nginx)


def test_nginx_reload(served, tmp_path):
    """Reloaded again and again under load, no request is lost; claims of old workers are given back."""
    host, upstream = served
    nginx = proxy(served, tmp_path)
    wrk = load(host, 3)
    reloads = 0
    while wrk.process.poll() is None and reloads < 6:
        time.sleep(0.3)
        host.must(*nginx.words("-s", "reload"), preload="run", addrs=POOL)
        reloads += 1
    count = served_by(wrk)
    assert reloads == 6
    quit_gently(nginx)
    requests = upstream.requests_when(count)
    expect_from_pool(host, requests)
    assert web.tuples_at_once(requests) == []
    expect_clean(nginx)
    host.reap()
    assert host.claims() == []
