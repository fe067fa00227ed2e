"""Real programs under valgrind's memcheck with the library preloaded: no error, and nothing that the library lost.

memcheck sees what a sanitizer's build cannot, the library as it is shipped, and memory that was never set. Leaks are
looked at where the library's code took the memory: interpreters end without giving back all of theirs.
"""

import os
import xml.etree.ElementTree as ET

import harness
import pytest
import storms
import web

TO, PORT = "127.0.0.1", 8001
LIMIT = 300

pytestmark = pytest.mark.skipif(bool(harness.SANITIZER), reason="valgrind and a sanitizer's runtime do not go together")


def errors(folder):
    """The errors in the reports; of leaks those of the library. There must be a report."""
    reports = list(folder.iterdir())
    assert reports
    found = []
    for report in reports:
        tree = ET.parse(report)
        assert [state.text.strip() for state in tree.iter("state")][-1] == "FINISHED"
        for error in tree.iter("error"):
            frames = [(frame.findtext("obj") or "", frame.findtext("fn") or "?") for frame in error.iter("frame")]
            if not error.findtext("kind").startswith("Leak_") or any(
                    os.path.basename(obj) == "libtuplebind.so" for obj, _ in frames):
                found.append((error.findtext("kind"), [name for _, name in frames]))
    return found


def words(folder, *more):
    return ["valgrind", "--tool=memcheck", "--quiet", "--leak-check=full", "--show-leak-kinds=definite", "--xml=yes",
            f"--xml-file={folder}/%p", "--track-fds=no", *more]


@pytest.fixture
def served(host):
    storms.echo(host, f"{TO} {PORT}")
    return host


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "reports"
    made.mkdir()
    return made


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_curl(host, tmp_path, folder, backend):
    server = web.upstream(host, tmp_path / "nginx", TO)
    result = host.run(*words(folder), "curl", "-sS", "--parallel", f"http://{TO}:{PORT}/[1-20]",
                      preload=harness.LIBRARY, backend=backend, addrs="127.0.0.5-127.0.0.8", limit=LIMIT)
    assert (result.code, result.out) == (0, 20 * "served"), result
    assert {request.laddr for request in server.requests_when(20)} == {f"127.0.0.{last}" for last in range(5, 9)}
    assert errors(folder) == []


@pytest.mark.parametrize("backend", ["late", "explicit"])
def test_python(served, folder, backend):
    """Opens several hundred connections, some to a destination of a rule, is refused one, and closes them."""
    script = f"""
import socket
held = [socket.create_connection(("{TO}", {PORT})) for _ in range(400)]
for s in held[:200]:
    s.close()
held += [socket.create_connection(("{TO}", {PORT}), source_address=("127.0.0.9", 0)) for _ in range(100)]
print(socket.socket().connect_ex(("{TO}", 9)), len({{s.getsockname() for s in held[200:]}}))
"""
    result = served.run(*words(folder), harness.PYTHON, "-c", script, preload=harness.LIBRARY, backend=backend,
                        environment={"PYTHONMALLOC": "malloc"}, limit=LIMIT, rules="127.0.0.2=127.0.0.6", skip="127.0.0.3")
    assert (result.code, result.out) == (0, "111 300\n"), result
    assert errors(folder) == []


def test_threads(served, folder):
    served.set_ports(40000, 40255)
    crowd = served.start(*words(folder, "--fair-sched=yes"), harness.program("crowd"), "full", 8, 8, 40, TO, PORT,
                         preload=harness.LIBRARY)
    _, failed, error, held = crowd.line(LIMIT).split()
    assert (failed, error, held) == ("0", "0", "64")
    crowd.say("")
    assert crowd.line(LIMIT) == "64"
    assert crowd.end() == 0, crowd.errors()
    assert errors(folder) == []
