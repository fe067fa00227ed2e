"""Much traffic, for the tests that need it: churning clients, nginx before nginx, wrk.

Numbers come in two sizes: what CI has time for, and with TUPLEBIND_TEST_LONG set what the
issue asks for. The code is the same.
"""

import collections
import json
import os
import re
import signal

import harness
import web

LONG = bool(os.environ.get("TUPLEBIND_TEST_LONG"))
CHURN_LIMIT = 600 if LONG else 60  # seconds for one run of it


def sized(short, long):
    return long if LONG else short


def echo(host, *endpoints):
    """A server that answers what it is told and closes after its client."""
    words = [word for endpoint in endpoints for word in endpoint.split()]
    server = host.start(harness.program("echo"), *words)
    assert server.line() == "ready", server.errors()
    return server


def start_churn(host, to, port, count=0, lap=1000000, preload="run", **settings):
    """Connections one after another, closed by the client first; without a count until stopped."""
    return host.start(harness.program("churn"), to, port, count, lap, preload=preload, **settings)


def stop_churn(running):
    """What came of it so far."""
    running.signal(signal.SIGTERM)
    return churn_result(running)


def churn_result(running):
    line = running.line(CHURN_LIMIT)
    assert line is not None, (running.wait(), running.errors())
    assert running.wait() == 0
    return json.loads(line)


def churn(host, *words, **options):
    return churn_result(start_churn(host, *words, **options))


def counters(host):
    """The table's counters; all zero where there is no table yet."""
    # Not must(): a table that is spoilt, of whichever host, is not this one's to complain of.
    tables = json.loads(host.tuplebind("status", "--json").out)["tables"]
    own = [table["counters"] for table in tables if table["netns"] == host.namespace]
    return collections.Counter(*own)


def nginx(host, directory, server, preload=None, **settings):
    """An nginx that keeps connections as long as its clients do, and no log of requests."""
    keeping = "access_log off; keepalive_timeout 75s; keepalive_requests 1000000000;"
    return web.Nginx(host, directory, keeping + server, workers=2, preload=preload, **settings)


def wrk(host, url, requests):
    """At least so many requests. (How many, how many were answered with another code than 2xx)"""
    done = failed = 0
    while done < requests:
        out = host.must("wrk", "-t1", "-c16", "-d2s", "--timeout", "10s", url)
        assert "Socket errors" not in out, out
        done += int(re.search(r"(\d+) requests in", out)[1])
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        failed += int(other[1]) if other else 0
    return done, failed
