"""The rows of the matrix: programs, what they are asked to do, and how to tell that they did it."""

import dataclasses
import re
import signal
import typing

import harness
import servers
import web
from ground import HERE

LIMIT = 120  # seconds for a program that should take one or two
GET = "GET / HTTP/1.0\r\n\r\n"


def times(word, count):
    """A check: the output has the word so many times."""
    return lambda out: out.count(word) == count


def has(pattern):
    return lambda out: re.search(pattern, out)


@dataclasses.dataclass
class Client:
    """A program that connects and ends."""

    name: str
    how: str
    server: typing.Callable  # one of servers
    words: typing.Callable  # (ground, target) -> its command line
    right: typing.Callable  # of its output
    least: int = 1  # so many connections
    stdin: str = ""
    silent: bool = True  # nothing on stderr when all is well
    environment: typing.Callable = lambda ground: {}
    protocol: str = "tcp"
    left_alone: bool = False  # binds its UDP sockets or does not connect them: as if tuplebind were not there

    def visit(self, ground, target, settings):
        result = ground.host.run(*self.words(ground, target), stdin=self.stdin, limit=LIMIT,
                                 environment=self.environment(ground), **settings)
        assert result.code == 0, result
        assert "tuplebind" not in result.err, result
        assert not self.silent or result.err == "", result
        assert self.right(result.out), result


CURL = ["curl", "-sS", "-g", "--no-progress-meter", "--parallel", "--parallel-immediate", "--parallel-max"]


@dataclasses.dataclass
class Proxy:
    """A program that serves 127.0.0.1:8080 and connects on behalf of others, who are strangers."""

    name: str
    how: str
    server: typing.Callable
    start: typing.Callable  # (ground, target, settings) -> Program
    last_signal: int = signal.SIGTERM
    codes: tuple = (0,)  # one of these is its exit code then
    asking: tuple = (*CURL, 20, *["http://127.0.0.1:8080/"] * 60)
    right: typing.Callable = times("served", 60)
    least: int = 60
    protocol: str = "tcp"
    left_alone: bool = False

    def visit(self, ground, target, settings):
        complaints = ground.directory / f"complaints-{target.port}"  # workers have no stderr any more
        complaints.touch()
        complaints.chmod(0o666)
        program = self.start(ground, target, settings | {"log_file": complaints})
        ground.listening(8080, self.protocol, program)
        out = ground.host.must(*self.asking, limit=LIMIT)
        assert self.right(out), out
        program.signal(self.last_signal)
        code = program.wait(LIMIT)
        assert code in self.codes, (code, program.errors())
        assert "tuplebind" not in program.errors(), program.errors()
        assert complaints.read_text() == ""


# Clients

def connections(way, count):
    return lambda ground, to: [harness.PYTHON, HERE / "connections.py", way, to.url, count]


def java(way, count):
    return lambda ground, to: ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", ground.classes(),
                               "Client", way, to.host, to.port, count]


PYMEMCACHE = """
import sys
from pymemcache.client.base import Client
clients = [Client((sys.argv[1], int(sys.argv[2])), default_noreply=False) for _ in range(30)]
for number, client in enumerate(clients):
    client.set(f"key{number}", "served")
for number in range(30):
    print(clients[number - 1].get(f"key{number}").decode())
"""

NODE_HTTP = """
for (let i = 0; i < 40; i++)
  require("http").get(process.argv[1], { agent: false }, answer => {
    let text = ""; answer.on("data", part => text += part); answer.on("end", () => console.log(text));
  });
"""

NODE_FETCH = """
Promise.all(Array.from({ length: 40 }, () => fetch(process.argv[1]).then(answer => answer.text())))
  .then(texts => console.log(texts.join("\\n")));
"""

NODE_RESOLVER = """
const resolver = new (require("dns").promises.Resolver)();
resolver.setServers([process.argv[1]]);
Promise.all(Array.from({ length: 20 }, (_, i) => resolver.resolve4(`a${i}.example`)))
  .then(answers => console.log(answers.join("\\n")));
"""

PERL = """
for (1 .. 20) { my $answer = HTTP::Tiny->new->get($ARGV[0]); die $answer->{content} unless $answer->{success};
                print "$answer->{content}\\n" }
"""

RUBY = "puts Array.new(20) { Thread.new { Net::HTTP.get(URI(ARGV[0])) } }.map(&:value)"

PHP = 'for ($i = 0; $i < 20; $i++) echo file_get_contents($argv[1]), "\\n";'


def clone_and_push(ground, to):
    return ["sh", "-ec", """
        git clone -q "$1" "$2"
        cd "$2"
        git commit -q --allow-empty -m "$2"
        git push -q origin main
        git fetch -q
        git log --format=%s origin/main
    """, "sh", f"{to.url}repository.git", ground.directory / f"clone-{to.port}"]


def memcached_tools(ground, to):
    (ground.directory / "key").write_text("served")
    return ["sh", "-ec", 'memccp --servers="$1" "$2" && memccat --servers="$1" key', "sh",
            to.endpoint, ground.directory / "key"]


def ssh(ground, to):
    folder = ground.directory / "ssh"
    return ["ssh", "-F", "none", "-i", folder / "user", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
            "-o", f"UserKnownHostsFile={folder}/known", "-o", "BatchMode=yes", "-p", to.port,
            f"root@{to.address}", "echo served; cat"]


NAMES = [f"a{number}.example" for number in range(20)]


def resolve(program, *options):
    return lambda ground, to: [program, f"@{to.address}", "-p", to.port, "+short", *options, *NAMES]


def http(name, how, words, count, **more):
    """A client that makes so many requests of a server that closes, and prints what it got."""
    return Client(name, how, servers.http, words, times("served", count), count, **more)


TCP = [
    http("curl", "100 at once", lambda ground, to: [*CURL, 100, *[to.url] * 100], 100),
    http("wget", "20 in turn", lambda ground, to: ["wget", "-q", "-O", "-", *[to.url] * 20], 20),
    http("python3 urllib", "20 in turn", connections("sync", 20), 20),
    http("python3 asyncio", "100 at once", connections("asyncio", 100), 100),
    http("python3 subprocess", "10 of its own, 10 by children", connections("subprocess", 20), 20),
    http("node http", "40 at once", lambda ground, to: ["node", "-e", NODE_HTTP, to.url], 40),
    http("node fetch", "40 at once",
         lambda ground, to: ["node", "--no-warnings", "-e", NODE_FETCH, to.url], 40),
    http("java HttpClient", "40, 8 threads", java("http", 40), 40),
    http("java Socket", "40, 8 threads", java("socket", 40), 40),
    http("perl HTTP::Tiny", "20 in turn", lambda ground, to: ["perl", "-MHTTP::Tiny", "-e", PERL, to.url], 20),
    http("ruby net/http", "20 threads", lambda ground, to: ["ruby", "-rnet/http", "-e", RUBY, to.url], 20),
    http("php file_get_contents", "20 in turn", lambda ground, to: ["php", "-r", PHP, to.url], 20),
    http("socat", "one", lambda ground, to: ["socat", "-t30", "-", f"TCP:{to.endpoint}"], 1, stdin=GET),
    http("ncat", "one", lambda ground, to: ["ncat", to.address, to.port], 1, stdin=GET),
    Client("wrk", "40 at once for 1 s", servers.http,
           lambda ground, to: ["wrk", "-t2", "-c40", "-d1s", "--timeout", "60s", to.url],
           lambda out: has(r"requests in")(out) and not has("Socket errors|Non-2xx")(out), 40),
    Client("ab", "400, 40 at once", servers.http,
           lambda ground, to: ["ab", "-q", "-n", 400, "-c", 40, to.url],
           has(r"(?s)Complete requests: +400\n.*Failed requests: +0\n"), 400),
    Client("iperf3", "8 at once", servers.iperf3,
           lambda ground, to: ["iperf3", "-c", to.address, "-p", to.port, "-P", 8, "-n", "1M"],
           has(r"\[SUM\].* receiver"), 9),
    Client("h2load", "40 of HTTP/2", servers.http2,
           lambda ground, to: ["h2load", "-n", 400, "-c", 40, to.url],
           has(r"400 succeeded, 0 failed, 0 errored, 0 timeout"), 40),
    Client("redis-cli", "one", servers.redis, lambda ground, to: ["redis-cli", "-h", to.address, "-p", to.port],
           lambda out: out == "OK\nserved\n", stdin="SET key served\nGET key\n"),
    Client("redis-benchmark", "200 anew, 40 at once", servers.redis,
           lambda ground, to: ["redis-benchmark", "-h", to.address, "-p", to.port, "-t", "set", "-n", 200, "-c", 40,
                               "-k", 0, "--csv"],
           has('"SET","'), 200, silent=False),
    Client("memccp, memccat", "one each", servers.memcached, memcached_tools, times("served", 1), 2),
    Client("python3 pymemcache", "30 at once", servers.memcached,
           lambda ground, to: [harness.PYTHON, "-c", PYMEMCACHE, to.address, to.port], times("served", 30), 30),
    Client("psql", "one", servers.postgres,
           lambda ground, to: ["psql", "-X", "-h", to.address, "-p", to.port, "-U", "tests", "-d", "postgres", "-Atc",
                               "select 6 * 7"], lambda out: out == "42\n"),
    Client("pgbench", "80, 8 at once", servers.postgres,
           lambda ground, to: ["pgbench", "-h", to.address, "-p", to.port, "-U", "tests", "-n", "-C", "-c", 8, "-j", 2,
                               "-t", 10, "-f", "/dev/stdin", "postgres"],
           has("actually processed: 80/80"), 80, stdin="select 1;\n", silent=False),
    Client("mariadb", "one", servers.mariadb,
           lambda ground, to: ["mariadb", "--no-defaults", "-h", to.address, "-P", to.port, "-u", "root", "-Bse",
                               "select 6 * 7"], lambda out: out == "42\n"),
    Client("ssh", "one", servers.ssh, ssh, lambda out: out == "served\nthrough\n", stdin="through\n"),
    Client("git", "clone, push, fetch over http", servers.git, clone_and_push, has("(?s)clone-.*first\n"), 3,
           environment=servers.git_environment),
    Client("dig +tcp", "20 in turn", servers.dns, resolve("dig", "+tcp"), times("192.0.2.7\n", 20), 20),
    Client("kdig +tcp", "20 in turn", servers.dns, resolve("kdig", "+tcp"), times("192.0.2.7\n", 20), 20),
]


# Proxies

def nginx(location, top=""):
    """nginx with two workers. location and top have TARGET where the endpoint is to be."""
    server = "listen 127.0.0.1:8081;"
    if location:
        server = f"listen 127.0.0.1:8080 backlog=4096; location / {{ {location} }}"

    def start(ground, to, settings):
        return web.Nginx(ground.host, ground.directory / f"proxy-{to.port}", server.replace("TARGET", to.endpoint),
                         workers=2, top=top.replace("TARGET", to.endpoint), **settings).program
    return start


MODULE = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
STREAM = MODULE + """
stream {
    server { listen 127.0.0.1:8080 backlog=4096; proxy_pass TARGET; }
}
"""


def fastcgi_script(ground):
    (ground.directory / "script").write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nserved\\n'\n")
    (ground.directory / "script").chmod(0o755)
    return servers.fastcgi(ground)


def nginx_fastcgi(ground, to, settings):
    return nginx("include /etc/nginx/fastcgi_params; fastcgi_pass TARGET; "
                 f"fastcgi_param SCRIPT_FILENAME {ground.directory}/script;")(ground, to, settings)


def written(ground, name, text):
    """A configuration file. Some insist on a last line that ends."""
    file = ground.directory / name
    file.write_text(text.rstrip() + "\n")
    return file


def haproxy(mode):
    def start(ground, to, settings):
        config = written(ground, f"haproxy-{to.port}", f"""
            global
                nbthread 2
                maxconn 1000
            defaults
                mode {mode}
                timeout connect 60s
                timeout client 60s
                timeout server 60s
                {"option httpclose" if mode == "http" else ""}
            frontend front
                bind 127.0.0.1:8080
                default_backend back
            backend back
                server one {to.endpoint}
        """)
        return ground.host.start("haproxy", "-db", "-f", config, **settings)
    return start


def apache(ground, to, settings):
    servers.only_as_root()
    folder = ground.folder(f"apache-{to.port}")
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
                        for name in ("mpm_event", "authz_core", "proxy", "proxy_http"))
    config = written(ground, folder / "config", f"""
        {modules}
        ServerRoot {folder}
        DefaultRuntimeDir {folder}
        ServerName localhost
        PidFile {folder}/pid
        ErrorLog {folder}/error.log
        User nobody
        Group nogroup
        Listen 127.0.0.1:8080
        ProxyPass / {to.url} disablereuse=on
    """)
    return ground.host.start("apache2", "-D", "FOREGROUND", "-f", config, **settings)


def lighttpd(ground, to, settings):
    config = written(ground, f"lighttpd-{to.port}", f"""
        server.bind = "127.0.0.1"
        server.port = 8080
        server.document-root = "{ground.directory}"
        server.modules = ("mod_proxy")
        proxy.server = ("" => (("host" => "{to.address}", "port" => {to.port})))
    """)
    return ground.host.start("lighttpd", "-D", "-f", config, **settings)


def squid(ground, to, settings):
    servers.only_as_root()
    config = written(ground, f"squid-{to.port}", f"""
        http_port 127.0.0.1:8080 accel defaultsite=localhost no-vhost
        cache_peer {to.address} parent {to.port} 0 no-query no-digest originserver
        never_direct allow all
        http_access allow all
        cache deny all
        cache_log /dev/null
        access_log none
        pid_filename none
        pinger_enable off
        visible_hostname localhost
        max_filedescriptors 4096
        shutdown_lifetime 1 second
    """.replace("\n        ", "\n"))
    return ground.host.start("squid", "-N", "-f", config, **settings)


def varnish(ground, to, settings):
    servers.only_as_root()
    config = written(ground, f"varnish-{to.port}.vcl", f"""
        vcl 4.1;
        backend default {{ .host = "{to.address}"; .port = "{to.port}"; }}
        sub vcl_recv {{ return (pass); }}
    """)
    return ground.host.start("varnishd", "-F", "-a", "127.0.0.1:8080", "-f", config, "-s", "malloc,8m",
                             "-n", ground.directory / f"varnish-{to.port}", **settings)


def socat_proxy(ground, to, settings):
    return ground.host.start("socat", "TCP-LISTEN:8080,bind=127.0.0.1,fork,reuseaddr,backlog=1000",
                             f"TCP:{to.endpoint}", **settings)


TCP += [
    Proxy("nginx proxy_pass", "60 requests, 2 workers", servers.http, nginx("proxy_pass http://TARGET;"),
          signal.SIGQUIT),
    Proxy("nginx stream", "60 connections, 2 workers", servers.http, nginx(None, STREAM), signal.SIGQUIT),
    Proxy("nginx fastcgi_pass", "60 requests, 2 workers", fastcgi_script, nginx_fastcgi, signal.SIGQUIT),
    Proxy("nginx grpc_pass", "60 requests of HTTP/2, 2 workers", servers.http2, nginx("grpc_pass grpc://TARGET;"),
          signal.SIGQUIT),
    Proxy("haproxy http", "60 requests, 2 threads", servers.http, haproxy("http"), signal.SIGUSR1),
    Proxy("haproxy tcp", "60 connections, 2 threads", servers.http, haproxy("tcp"), signal.SIGUSR1),
    Proxy("apache2 mod_proxy", "60 requests", servers.http, apache),
    Proxy("lighttpd mod_proxy", "60 requests", servers.http, lighttpd, signal.SIGINT),
    Proxy("squid", "60 requests", servers.http, squid),
    Proxy("varnish", "60 requests", servers.http, varnish),
    Proxy("socat as a relay", "60 connections, a child each", servers.http, socat_proxy, codes=(0, 143)),
]


# UDP. Many resolvers and QUIC clients bind their sockets before they connect, or never connect.
# `least` is less than there are sockets where they come in turn: a stranger may get a port again.

def http3(ground, to):
    folder = ground.folder(f"got-{to.port}")
    return ["sh", "-ec", 'gtlsclient -q --exit-on-all-streams-close --download "$1" "$2" "$3" "$4"; cat "$1"/*',
            "sh", folder, to.address, to.port, "https://localhost/index.html"]


DATAGRAMS = MODULE + """
stream {
    server { listen 127.0.0.1:8080 udp; proxy_pass TARGET; proxy_responses 1; }
}
"""

UDP = [
    Client("python3 datagrams", "40 at once, UDP", servers.dns, connections("datagrams", 40),
           times("192.0.2.7\n", 40), 40, protocol="udp"),
    Client("node dns.Resolver", "20 at once, UDP", servers.dns,
           lambda ground, to: ["node", "-e", NODE_RESOLVER, to.endpoint], times("192.0.2.7\n", 20), protocol="udp"),
    Proxy("nginx stream udp", "20 requests, 2 workers, UDP", servers.dns, nginx(None, DATAGRAMS), signal.SIGQUIT,
          asking=("dig", "@127.0.0.1", "-p", 8080, "+short", *NAMES), right=times("192.0.2.7\n", 20), least=10,
          protocol="udp"),
    Client("dig", "20 in turn, UDP", servers.dns, resolve("dig"), times("192.0.2.7\n", 20), 10, protocol="udp",
           left_alone=True),
    Client("kdig", "20 in turn, UDP", servers.dns, resolve("kdig"), times("192.0.2.7\n", 20), 10, protocol="udp",
           left_alone=True),
    Client("gtlsclient", "HTTP/3, UDP", servers.http3, http3, times("served", 1), silent=False, protocol="udp",
           left_alone=True),
]


ALL = TCP + UDP
