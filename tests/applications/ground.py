"""What a program of the matrix is tried on: a host, a pool, and witnesses in front of servers."""

import collections
import contextlib
import pathlib

import harness

HERE = pathlib.Path(__file__).resolve().parent

POOLS = {"v4": [f"127.0.0.{i}" for i in range(2, 6)], "v6": [f"fd00::{i}" for i in range(2, 6)]}
SERVERS = {"v4": "127.0.0.1", "v6": "fd00::1"}

Visit = collections.namedtuple("Visit", "address port number")


class Target:
    """Where a program is to connect to."""

    def __init__(self, address, port):
        self.address, self.port = address, port
        self.host = f"[{address}]" if ":" in address else address
        self.endpoint = f"{self.host}:{port}"
        self.url = f"http://{self.endpoint}/"
        self.six = ":" in address


class Witness(Target):
    """A running witness.py."""

    def __init__(self, host, kind, address, port, to_port, directory):
        super().__init__(address, port)
        self.host_of, self.kind, self.log = host, kind, directory / f"witness-{port}"
        program = host.start(harness.PYTHON, HERE / "witness.py",
                             kind, address, port, to_port, self.log)
        assert program.line() == "ready", program.errors()

    def lines(self, sign):
        return [Visit(address, int(port), int(number)) for mark, address, port, number in
                (line.split() for line in self.log.read_text().splitlines()) if mark == sign]

    def settled(self):
        """All connections are over, also in the witness's books; datagrams have no end."""
        if self.kind == "udp":
            return True
        if any(s.state != "TIME-WAIT" for s in self.host_of.sockets(self.port, server=True)):
            return False
        return len(self.lines("+")) == len(self.lines("-"))

    def visits(self):
        """Who came, once all have gone."""
        harness.eventually(self.settled)
        return self.lines("+")

    def twins(self):
        """Visits by a tuple that another visit still held."""
        held, found = {}, []
        for line in self.log.read_text().splitlines():
            sign, address, port, number = line.split()
            if sign == "-":
                held.pop((address, port), None)
            elif held.setdefault((address, port), number) != number:
                found.append(line)
        return found


class Ground:
    """One host; programs started on it connect to `server`, from `pool` when under tuplebind."""

    def __init__(self, host, directory, family, classes):
        self.host, self.directory, self.family, self.classes = host, directory, family, classes
        self.server, self.pool = SERVERS[family], POOLS[family]
        host.add_addresses(SERVERS["v6"], *POOLS["v4"], *POOLS["v6"])
        self.last_port = 7000
        self.at_end = contextlib.ExitStack()

    def witness(self, kind, to_port):
        self.last_port += 1
        return Witness(self.host, kind, self.server, self.last_port, to_port, self.directory)

    def settings(self, preload, protocol):
        """For Host.run and Host.start: how the program is started."""
        protocols = "tcp" if protocol == "tcp" else "tcp,udp"
        return {"preload": preload, "addrs": ",".join(self.pool), "protocols": protocols}

    def folder(self, name):
        made = self.directory / name
        made.mkdir()
        made.chmod(0o755)
        return made

    def listening(self, port, protocol="tcp", program=None):
        """Waits until there is a server on this port; not when the program has ended."""
        def found():
            assert program is None or program.process.poll() is None, program.errors()
            return self.host.must("ss", "-lnH", "--" + protocol, "sport", "=", f":{port}")
        harness.eventually(found)
        return port
