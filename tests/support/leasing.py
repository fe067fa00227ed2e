"""The ground for leases: an etcd on a host of its own, and hosts that lease from it.

Each host has a cable of its own to etcd's; all have the same address SHARED beside that of the
cable. What etcd holds is asked on etcd's own host, so that asking leaves no socket on the others.
"""

import base64
import collections
import contextlib
import json
import shutil

import harness

SHARED = "10.8.0.1"
PORT = 2379

Key = collections.namedtuple("Key", "value lease")


def encode(text):
    return base64.b64encode(text.encode()).decode()


class Etcd:
    """etcd, which can be stopped, killed, started again and robbed of its memory."""

    def __init__(self, directory, *options, scheme="http"):
        self.host = harness.Host()
        self.directory = directory / "etcd"
        self.options = options
        self.scheme = scheme
        self.cables = 0
        self.running = None

    def start(self):
        self.running = self.host.start(
            "etcd", "--data-dir", self.directory, "--log-level", "error",
            "--listen-client-urls", f"{self.scheme}://[::]:{PORT}",
            "--advertise-client-urls", f"{self.scheme}://127.0.0.1:{PORT}", *self.options)
        harness.eventually(self.answers)

    def answers(self):
        assert self.running.process.poll() is None, self.running.errors()
        return self.call("lease/leases", may_fail=True) is not None

    def kill(self):
        self.running.signal()

    def forget(self):
        """Killed, and started again knowing nothing."""
        self.kill()
        shutil.rmtree(self.directory)
        self.start()

    def call(self, path, may_fail=False, **body):
        result = self.host.run("curl", "-s", "-m", "5", "-k", "--data-binary", json.dumps(body),
                               f"{self.scheme}://127.0.0.1:{PORT}/v3/{path}")
        if may_fail and (result.code != 0 or not result.out.startswith('{"header"')):
            return None
        assert result.code == 0, result
        return json.loads(result.out)

    def keys(self, name):
        """What stands under a name: {"count": Key, "parts/3": Key}."""
        prefix = f"/tuplebind/{name}/"
        end = prefix[:-1] + "0"
        found = self.call("kv/range", key=encode(prefix), range_end=encode(end)).get("kvs", [])
        return {base64.b64decode(pair["key"]).decode().removeprefix(prefix):
                Key(base64.b64decode(pair.get("value", "")).decode(), int(pair.get("lease", 0)))
                for pair in found}

    def parts(self, name):
        return sorted(int(key.split("/")[1]) for key in self.keys(name) if key.startswith("parts/"))

    def put(self, key, value):
        self.call("kv/put", key=encode(key), value=encode(value))

    def delete(self, key):
        self.call("kv/deleterange", key=encode(key))

    def leases(self):
        return [int(lease["ID"]) for lease in self.call("lease/leases").get("leases", [])]

    def seconds_left(self, lease):
        return int(self.call("lease/timetolive", ID=str(lease)).get("TTL", 0))

    def join(self):
        """One more host, with an address of its own towards etcd (and SHARED), and etcd's address there."""
        self.cables += 1
        host, name, net = harness.Host(), f"host{self.cables}", f"10.9.{self.cables}"
        host.must("ip", "link", "add", "wire", "type", "veth", "peer", "name", name,
                  "netns", str(self.host.anchor.pid))
        for where, device, last in (host, "wire", 1), (self.host, name, 254):
            where.add_addresses(f"{net}.{last}/24", device=device)
            where.must("ip", "link", "set", device, "up")
        host.add_addresses(SHARED)
        for where, device in (host, "wire"), (self.host, name):  # see harness.join()
            harness.eventually(lambda where=where, device=device: "state UP" in where.must(
                "ip", "link", "show", "dev", device))
        host.etcd = f"{net}.254"
        return host

    def close(self):
        self.host.close()


def words(host, *words_, name="web", ttl=None, scheme="etcd"):
    """The options of a lease, and what more there is."""
    line = [harness.COMMAND, "run", "--lease", f"{scheme}://{host.etcd}/{name}"]
    return line + (["--lease-ttl", str(ttl)] if ttl else []) + list(words_)


def lease(host, *more, **options):
    """Runs `tuplebind run --lease` to its end."""
    own = {key: options.pop(key) for key in ("name", "ttl", "scheme") if key in options}
    return host.run(*words(host, *more, **own), **options)


def start_lease(host, *more, **options):
    """Starts it; the program has to say "ready"."""
    own = {key: options.pop(key) for key in ("name", "ttl", "scheme") if key in options}
    running = host.start(*words(host, *more, **own), **options)
    assert running.line() == "ready", running.errors()
    return running


@contextlib.contextmanager
def ground(directory, hosts=1, *options, scheme="http"):
    """(etcd, host...), closed at the end."""
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(contextlib.closing(Etcd(directory, *options, scheme=scheme)))
        etcd.start()
        yield etcd, *(stack.enter_context(contextlib.closing(etcd.join())) for _ in range(hosts))


def children(pid):
    """The processes whose parent this is."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def keeper_of(front):
    """The process that holds the lease of a running front."""
    [keeper] = children(front.pid)
    return keeper


def program_of(front):
    """The program's process under a running front (its first descendant but one)."""
    [program] = children(keeper_of(front))
    return program
