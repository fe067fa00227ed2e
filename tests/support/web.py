"""nginx for tests, as the upstream with a log of who came and as the proxy under tuplebind.

Everything it writes is in a directory of its own, never the system's.
"""

import collections
import pathlib

import harness

Request = collections.namedtuple("Request", "laddr lport begin end status")

LOG_FORMAT = "'$remote_addr $remote_port $msec $request_time $status'"


def user():
    """Root's nginx hands its workers to another user, where there is one (not so in unshare -Urn)."""
    first, _, count = pathlib.Path("/proc/self/uid_map").read_text().split()[:3]
    return "nobody nogroup" if int(count) > 65534 and first == "0" else "root root"


class Nginx:
    """A running nginx, its master in the foreground. top: what stands outside of http."""

    def __init__(self, host, directory, server, workers=1, preload=None, top="", connections=1000, **settings):
        directory.mkdir()
        directory.chmod(0o755)
        self.host, self.directory, self.config = host, directory, directory / "nginx.conf"
        temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};"
                              for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi"))
        self.config.write_text(f"""
            {top}
            user {user()};
            daemon off;
            worker_processes {workers};
            pid {directory}/pid;
            error_log {directory}/error.log;
            worker_shutdown_timeout 10s;
            events {{ worker_connections {connections}; }}
            http {{
                log_format tuples {LOG_FORMAT};
                access_log {directory}/access.log tuples;
                {temporary}
                keepalive_timeout 0;
                server {{ {server} }}
            }}
        """)
        self.program = host.start(*self.words(), preload=preload, **settings)
        harness.eventually((directory / "pid").exists)

    def words(self, *more):
        return ["nginx", "-p", self.directory, "-e", self.directory / "error.log",
                "-c", self.config, *more]

    def requests(self):
        """Who came, as told by the access log."""
        found = []
        for line in (self.directory / "access.log").read_text().splitlines():
            laddr, lport, end, took, status = line.split()
            end = round(float(end) * 1000)
            found.append(Request(laddr, int(lport), end - round(float(took) * 1000), end, int(status)))
        return found

    def requests_when(self, count):
        """The same once there are so many: the log is written after the answer."""
        harness.eventually(lambda: len(self.requests()) >= count)
        return self.requests()

    def errors(self):
        return (self.directory / "error.log").read_text()


def upstream(host, directory, *addresses):
    """A server that answers "served" to all, on port 8001."""
    listen = "".join(f"listen {address}:8001 backlog=4096;" for address in addresses)
    return Nginx(host, directory, listen + "return 200 served;")


def tuples_at_once(requests):
    """Tuples that two requests held at one time."""
    last, twice = {}, []
    for r in sorted(requests, key=lambda r: (r.end, r.begin)):
        if r.begin < last.get((r.laddr, r.lport), 0):
            twice.append(r)
        last[r.laddr, r.lport] = r.end
    return twice
