"""What the measures stand on: hosts to connect on, the client in each of its ways, rounds.

In each round every rival does the same work once, one after the other. What is compared are ratios within a
round, and of those the median over the rounds: that bears a machine that is slower in one minute than in the next.
"""

import contextlib
import itertools
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

FIRST, LAST = 32768, 60999  # the kernel's default range
PORTS = LAST - FIRST + 1
LIMIT = 300  # seconds for one run of the client
TUPLEBIND, ORACLE = "tuplebind", "late"
BACKLOG = 2**31 - 1


def bench_program(name):
    return str(harness.BUILD / "tests" / "bench" / name)


class Ground:
    """One host, or a client and a server joined by a cable."""

    def __init__(self, ports=(FIRST, LAST), cable=False):
        self.stack = contextlib.ExitStack()
        self.first, self.last = ports
        self.host = self.stack.enter_context(contextlib.closing(harness.Host(ports)))
        self.server = self.host
        self.to, self.start = "127.0.0.1", "127.0.0.1"
        if cable:
            self.server = self.stack.enter_context(contextlib.closing(harness.Host()))
            self.start, self.to = "10.7.0.1", "10.7.0.100"
            harness.join(self.host, self.server, [f"{self.start}/24"], [f"{self.to}/24"])
        self.server.sysctl("net.core.somaxconn", BACKLOG)
        self.ports = itertools.cycle(range(8001, 9000))

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.stack.close()

    def start_client(self, way, port, *options, start=None, **settings):
        """The client, begun; `way` is one of its ways, or tuplebind: the plain way under the preload."""
        ours = way == TUPLEBIND
        ways = ["--way", "plain", "--filler", "plain"] if ours else ["--way", way]
        return self.host.start(bench_program("client"), *ways, "--from", start or self.start, "--first", self.first,
                               "--last", self.last, *options, self.to, port,
                               preload=str(harness.LIBRARY) if ours else None,
                               **({"log": "error"} | settings))

    def lines(self, running, count=None):
        """The client's lines: so many, or all there are until it ends."""
        for _ in itertools.count() if count is None else range(count):
            line = running.line(LIMIT)
            if line is None:
                break
            yield json.loads(line)

    def client(self, way, *options, port=None, server="sink", **settings):
        """One run in a lane of its own, with a table of its own: the lines the client printed."""
        listener = None
        if port is None:
            port = next(self.ports)
            listener = self.server.start(harness.program(server), self.to, port)
            assert listener.line() == "ready", listener.errors()
            self.host.remove_tables()
        running = self.start_client(way, port, *options, **settings)
        running.process.stdin.close()
        lines = list(self.lines(running))
        code = running.wait()
        assert code == 0 and lines, f"{way} {options}: exit {code}\n{running.errors()}"
        for program in (running, listener):
            if program is not None:
                program.close()
                self.forget(program)
        return lines

    def forget(self, program):
        for host in (self.host, self.server):
            with contextlib.suppress(ValueError):
                host.programs.remove(program)


def paired(ones, others):
    """The median of the ratios of values that were measured one after the other."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


median = statistics.median
