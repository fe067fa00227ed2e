"""The Debian package: built, looked at by lintian, installed into a Debian that has nothing else, used, removed.

That Debian is made by debootstrap, from where this machine's apt has its packages, with what the
package says it depends on, and man. What runs there does so in a network namespace without a way out.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import harness
import pytest

TRIPLET = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
BUILD_LIMIT = 600  # seconds, for building and debootstrap

# Shows what it is told; serves one connection and connects to it, the client under the library.
SERVER = r"""
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8001, Listen => 1) or die;
my @client = ("tuplebind", "run", "--addrs", "127.0.0.9", "--ports", "40001-40001", "perl", "-e",
    'use IO::Socket::INET; print IO::Socket::INET->new("127.0.0.1:8001")->sockport, "\n"');
fork or exec @client;
my $peer = $listener->accept;
print $peer->peerhost, " ", $peer->peerport, "\n";
wait;
exit $?;
"""


def apt(*words):
    done = subprocess.run(["apt-get", *words], capture_output=True, text=True, check=True, timeout=harness.LIMIT)
    return done.stdout.split()


def field(package, name):
    return subprocess.run(["dpkg-deb", "--field", package, name], capture_output=True, text=True,
                          check=True).stdout.strip()


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """By their names, from scripts/package."""
    folder = tmp_path_factory.mktemp("packages")
    done = subprocess.run([harness.REPOSITORY / "scripts/package", folder], capture_output=True, text=True,
                          timeout=BUILD_LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return {field(path, "Package"): pathlib.Path(path) for path in done.stdout.split()}


def run_in(host, root, *argv):
    """In the Debian at root: with processes, a /dev/shm and the network of that host, and none of its own left."""
    setup = 'mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev/shm" && exec chroot "$0" "$@"'
    return host.run("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c", setup, root, *argv,
                    environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})


@pytest.fixture(scope="module")
def debian(packages, tmp_path_factory):
    """A clean one: (a function that runs commands in it, its root)."""
    root = tmp_path_factory.mktemp("debian") / "root"
    release = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)[1]
    mirror, *_ = apt("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {release}")
    depends = [re.match(r"[a-z0-9.+-]+", item.strip())[0] for item in field(packages["tuplebind"], "Depends").split(",")]
    done = subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join([*depends, 'man-db'])}",
                           release, root, mirror], capture_output=True, text=True, timeout=BUILD_LIMIT, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    with contextlib.closing(harness.Host()) as host:
        yield lambda *argv: run_in(host, root, *argv), root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def installed(packages, debian):
    """The package installed there. What the root had before."""
    run, root = debian
    before = everything(root)
    shutil.copy(packages["tuplebind"], root / "tmp/tuplebind.deb")
    done = run("dpkg", "--install", "/tmp/tuplebind.deb")
    assert done.code == 0, done
    (root / "tmp/tuplebind.deb").unlink()
    return before


def everything(root):
    """All files but what apt, dpkg and man note for themselves."""
    notes = ("/var/lib/dpkg/", "/var/cache/", "/var/log/", "/proc/", "/etc/ld.so.cache", "/tmp/")
    return {name for path in root.rglob("*")
            if not (name := "/" + str(path.relative_to(root))).startswith(notes)}


def test_root():
    assert os.geteuid() == 0, "debootstrap and chroot want root"


def test_lintian(packages):
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning,info", *packages.values()],
                          capture_output=True, text=True, timeout=BUILD_LIMIT, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done


def test_fields(packages):
    """What they depend on was computed; libraries that were linked statically are not among it, and those
    of the command's other programs are these programs' alone."""
    assert set(packages) == {"tuplebind-dev"} | {name + symbols for name in ("tuplebind", "tuplebind-lease", "tuplebind-top")
                                                 for symbols in ("", "-dbgsym")}
    depends = field(packages["tuplebind"], "Depends")
    assert re.search(r"\blibc6 \(>= 2\.\d+\)", depends) and "libinih1" in depends
    assert not any(name in depends for name in ("libbsd", "libmd", "libcurl", "libjansson", "ncurses"))
    own = f"tuplebind (= {field(packages['tuplebind'], 'Version')})"
    lease, top = (field(packages[name], "Depends") for name in ("tuplebind-lease", "tuplebind-top"))
    assert own in lease and "libcurl" in lease and "libjansson" in lease and "ncurses" not in lease
    assert own in top and "libncurses6" in top and "libcurl" not in top


def test_complete(installed, debian):
    _, root = debian
    for name in ("bin/tuplebind", f"lib/{TRIPLET}/libtuplebind.so", "share/man/man1/tuplebind.1.gz",
                 "share/man/man7/libtuplebind.7.gz", "share/bash-completion/completions/tuplebind",
                 "share/zsh/vendor-completions/_tuplebind", "share/fish/vendor_completions.d/tuplebind.fish",
                 "share/doc/tuplebind/README.md", "share/doc/tuplebind/copyright"):
        assert f"/usr/{name}" in everything(root) - installed


def test_without_the_others(installed, debian):
    """What is in a package that is not there says so."""
    run, _ = debian
    assert run("tuplebind", "top").err.startswith("tuplebind: top: tuplebind-top (")
    assert run("tuplebind", "run", "--lease", "etcd://127.0.0.1/x", "true").err.startswith("tuplebind: run: tuplebind-lease (")


def test_others(packages):
    """Each has its program, where the command looks for it, and nothing that another has."""
    for name in ("tuplebind-lease", "tuplebind-top"):
        listed = subprocess.run(["dpkg-deb", "--contents", packages[name]], capture_output=True, text=True, check=True).stdout
        files = {line.split()[5] for line in listed.splitlines() if line[0] == "-"}
        assert {file for file in files if not file.startswith(f"./usr/share/doc/{name}/")} == {f"./usr/libexec/tuplebind/{name}"}


def test_documents(installed, debian):
    """Of docs/: what they point to in dist/ is there, uncompressed; its units start the installed command."""
    _, root = debian
    documents = root / "usr/share/doc/tuplebind"
    pointed_to = re.findall(r"\]\(\.\./(dist/[^)]+)\)", (documents / "docs/metrics.md").read_text())
    assert len(pointed_to) >= 7
    for name in pointed_to:
        assert (documents / name).is_file(), name
    started = {line.split()[0] for unit in (documents / "dist/systemd").iterdir()
               for line in unit.read_text().splitlines() if line.startswith("ExecStart=")}
    assert started == {"ExecStart=/usr/bin/tuplebind"}


def test_version(installed, debian, packages):
    run, _ = debian
    assert run("tuplebind", "--version") == (0, f"tuplebind {field(packages['tuplebind'], 'Version')}\n", "")


@pytest.mark.parametrize("page", ["tuplebind", "libtuplebind"])
def test_man(installed, debian, page):
    run, _ = debian
    shown = run("man", page)
    assert shown.code == 0 and shown.out.startswith(f"{page}("), shown


def test_run(installed, debian):
    run, _ = debian
    assert run("tuplebind", "run", "--strict", "true") == (0, "", "")
    loaded = run("tuplebind", "run", "--strict", "grep", "-o", "/usr/lib/.*/libtuplebind.so", "/proc/self/maps")
    assert set(loaded.out.split()) == {f"/usr/lib/{TRIPLET}/libtuplebind.so"}
    # The loader knows the folder, so that the name alone will do.
    named = run("env", "LD_PRELOAD=libtuplebind.so", "grep", "-c", "libtuplebind", "/proc/self/maps")
    assert named.code == 0 and named.err == "", named


def test_connect(installed, debian):
    """Both ends agree on the tuple that was asked for."""
    run, _ = debian
    done = run("perl", "-e", SERVER)
    assert sorted(done.out.splitlines()) == ["127.0.0.9 40001", "40001"], done
    assert (done.code, done.err) == (0, "")


def test_removed(installed, debian):
    """Nothing is left of it. (The last test here.)"""
    run, root = debian
    done = run("dpkg", "--purge", "tuplebind")
    assert (done.code, done.err) == (0, ""), done
    assert everything(root) == installed
    assert run("true") == (0, "", "")
