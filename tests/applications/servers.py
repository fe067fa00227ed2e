"""Servers, as plain as they can be, all on 127.0.0.1 and without tuplebind.

Each function starts one and returns its port once somebody listens on it. They end with the host.
"""

import getpass
import glob
import shutil
import signal
import subprocess

import pytest
import web

USER = getpass.getuser()  # most daemons ask whom to become
POSTGRES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]


def serve(ground, port, *words, protocol="tcp", last_signal=None):
    """Starts a server. last_signal: it is ended with this one, not killed with the host."""
    program = ground.host.start(*words)
    if last_signal:
        ground.at_end.callback(lambda: (program.signal(last_signal), program.wait()))
    return ground.listening(port, protocol, program)


def http(ground):
    """Answers "served", says that it closes and does, so that each request is a connection."""
    web.Nginx(ground.host, ground.directory / "origin",
              "listen 127.0.0.1:8001 backlog=4096; location / { return 200 served; }")
    return 8001


def http2(ground):
    web.Nginx(ground.host, ground.directory / "origin",
              "listen 127.0.0.1:8001 http2 backlog=4096; keepalive_timeout 60; return 200 served;")
    return 8001


def fastcgi(ground):
    """fcgiwrap; it runs what SCRIPT_FILENAME says."""
    return serve(ground, 9000, "fcgiwrap", "-c", "2", "-s", "tcp:127.0.0.1:9000")


def git(ground):
    """A repository with one commit, behind git-http-backend."""
    root = ground.folder("git")
    bare, work = root / "repository.git", root / "work"
    for words in (["init", "-q", "--bare", bare], ["-C", bare, "config", "http.receivepack", "true"],
                  ["init", "-q", "-b", "main", work], ["-C", work, "commit", "-q", "--allow-empty", "-m", "first"],
                  ["-C", work, "push", "-q", bare, "main"], ["-C", bare, "symbolic-ref", "HEAD", "refs/heads/main"]):
        ground.host.must("git", *words, environment=git_environment(ground))
    port = fastcgi(ground)
    web.Nginx(ground.host, ground.directory / "origin", f"""
        listen 127.0.0.1:8001;
        location / {{
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
            fastcgi_param GIT_PROJECT_ROOT {root};
            fastcgi_param GIT_HTTP_EXPORT_ALL 1;
            fastcgi_param PATH_INFO $uri;
            fastcgi_pass 127.0.0.1:{port};
        }}""")
    return 8001


def git_environment(ground):
    """No settings but these, whoever runs the tests."""
    return {"HOME": str(ground.directory), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"} | {
        f"GIT_{who}_{what}": "tests@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def redis(ground):
    return serve(ground, 6379, "redis-server", "--port", 6379, "--bind", "127.0.0.1", "--save", "",
                 "--loglevel", "warning", "--dir", ground.folder("redis"))


def memcached(ground):
    return serve(ground, 11211, "memcached", "-u", USER, "-l", "127.0.0.1", "-p", 11211, "-U", 0)


def only_as_root():
    """For servers that become another user, of which there is none in a user namespace."""
    if not web.user().startswith("nobody"):
        pytest.skip("its server needs root")


def postgres(ground):
    """It does not run as root, so all of it is done by the user that the package has made."""
    only_as_root()
    data = ground.folder("postgres")
    shutil.chown(data, "postgres")
    switch = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    ground.host.must(*switch, f"{POSTGRES[0]}/initdb", "-D", data, "-A", "trust", "-U", "tests", "--no-sync", limit=120,
                     cwd=data)
    return serve(ground, 5432, *switch, f"{POSTGRES[0]}/postgres", "-D", data, "-F", "-k", data, "-p", 5432,
                 "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=50",
                 last_signal=signal.SIGINT)  # killed, it would leave shared memory behind


def mariadb(ground):
    data = ground.folder("mariadb")
    words = ["--no-defaults", f"--user={USER}", f"--datadir={data}"]
    ground.host.must("mariadb-install-db", *words, "--skip-test-db", "--auth-root-authentication-method=normal",
                     limit=120)
    return serve(ground, 3306, "mariadbd", *words, f"--socket={data}/socket", "--bind-address=127.0.0.1", "--port=3306",
                 "--skip-name-resolve", "--skip-grant-tables")


def ssh(ground):
    """sshd with keys of its own."""
    only_as_root()
    folder = ground.folder("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "config").write_text(f"""
        Port 2222
        ListenAddress 127.0.0.1
        HostKey {folder}/host
        PidFile none
        AuthorizedKeysFile {folder}/user.pub
        PermitRootLogin yes
        StrictModes no
        UsePAM no
    """)
    return serve(ground, 2222, "unshare", "--mount", "sh", "-ec", """
        mount -t tmpfs none /run
        mkdir -m 755 /run/sshd  # where it insists to lock its children in
        exec /usr/sbin/sshd -D -e -f "$1"
    """, "sh", folder / "config")


def iperf3(ground):
    return serve(ground, 5201, "iperf3", "--server", "--bind", "127.0.0.1")


def dns(ground):
    """dnsmasq: every name under .example is 192.0.2.7. Speaks TCP and UDP."""
    return serve(ground, 5300, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv",
                 "--no-hosts", f"--user={USER}", "--group=", "--pid-file=", "--port=5300", "--listen-address=127.0.0.1",
                 "--bind-interfaces", "--address=/example/192.0.2.7")


def http3(ground):
    """The server of ngtcp2's examples."""
    folder = ground.folder("http3")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=localhost", "-keyout", folder / "key", "-out", folder / "certificate"],
                   check=True, capture_output=True)
    (folder / "index.html").write_text("served\n")
    return serve(ground, 8443, "gtlsserver", "-q", "-d", folder, "127.0.0.1", 8443,
                 folder / "key", folder / "certificate", protocol="udp")
