"""Source packages of Debian's, unpacked and built below build-suites/.

Fetched with lists of sources of our own, so that the machine's apt keeps its configuration. What is built
is kept, until its build commands change.
"""
import hashlib
import pathlib
import shutil
import subprocess

import harness

ROOT = harness.REPOSITORY / "build-suites"
LISTS = """\
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
LIMIT = 3600


def quietly(argv, cwd, log):
    with open(log, "ab") as file:
        done = subprocess.run(argv, cwd=cwd, stdout=file, stderr=file, stdin=subprocess.DEVNULL, timeout=LIMIT,
                              env=harness.clean_environment())
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"failed: {argv[-1]}\n{tail}")


def apt(*words):
    lists = ROOT / "apt"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources = ROOT / "debian.sources"
    sources.write_text(LISTS)
    return ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null",
            "-o", f"Dir::State::lists={lists}", *words]


def unpack(source, directory, log):
    fetched = directory / "fetched"
    fetched.mkdir(parents=True)
    if not list((ROOT / "apt").glob("*_Sources*")):
        quietly(apt("update"), ROOT, log)
    quietly(apt("--only-source", "--download-only", "source", source.package), fetched, log)
    description, = fetched.glob("*.dsc")
    quietly(["dpkg-source", "-x", str(description), str(directory / "source")], directory, log)


def built(source):
    """The directory of the built source."""
    ROOT.mkdir(exist_ok=True)
    directory = ROOT / source.package
    stamp = directory / "built"
    wanted = hashlib.sha256(source.build.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        log = pathlib.Path(f"{directory}.log")
        log.unlink(missing_ok=True)
        unpack(source, directory, log)
        quietly(["sh", "-ec", source.build], directory / "source", log)
        stamp.write_text(wanted)
    return directory / "source"
