"""Long work shows on a terminal how far it has come, and leaves no trace of that; elsewhere it is quiet."""

import re

import harness
import ptys
import pytest

from harness import COMMAND

TO, PORT, STALE = "127.0.0.1", 8001, 3000
CLEAR = "\r\x1b[K"


@pytest.fixture
def stale(host):
    """Claims of a program that was killed."""
    host.set_ports(32768, 60999)
    server = host.sink(f"{TO} {PORT}")
    result, running = host.seed(TO, PORT, STALE)
    assert result["opened"] == STALE
    processes = host.status()["processes"]
    server.signal()
    running.signal()
    harness.eventually(lambda: not {p["pid"] for p in processes} & set(host.inhabitants()))
    harness.eventually(lambda: not host.sockets(PORT))
    return host


def result_of(host):
    return f"0.{host.namespace}: gave back {STALE} claims"


def test_on_a_terminal(stale):
    result = ptys.run(stale, COMMAND, "reap")
    assert result.code == 0
    first, *lines, last = result.out.split(CLEAR)
    # Tables of other hosts beside this one are told of behind it.
    assert first == "" and last.startswith(result_of(stale) + "\r\n")
    assert lines[0] == f"reap: 0.{stale.namespace}: asking for the kernel's sockets"
    shares = [int(re.fullmatch(rf"reap: 0\.{stale.namespace}: (\d+) % looked through, \d+ claims given back",
                               line)[1]) for line in lines[1:]]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] <= 100


def test_in_a_pipe(stale):
    result = stale.tuplebind("reap")
    assert (result.code, result.out) == (0, result_of(stale) + "\n")
    assert "\r" not in result.err and "%" not in result.err


@pytest.mark.parametrize("terminal", ["dumb", ""])
def test_on_a_terminal_that_cannot(stale, terminal):
    environment = {"TERM": terminal} if terminal else {}
    line = ["sh", "-c", 'exec "$0" reap', COMMAND] if terminal else ["env", "-u", "TERM", COMMAND, "reap"]
    result = ptys.run(stale, *line, environment=environment)
    assert result.code == 0 and result.out.startswith(result_of(stale) + "\r\n")
    assert "\x1b" not in result.out and "%" not in result.out


def test_result_goes_elsewhere(stale, tmp_path):
    """stderr is the terminal: the result is not mixed with what is shown there."""
    result = ptys.run(stale, "sh", "-c", f'"$0" reap >{tmp_path}/result', COMMAND)
    assert result.code == 0 and (tmp_path / "result").read_text() == result_of(stale) + "\n"
    assert "looked through" in result.out and CLEAR in result.out
    assert "looked through" not in result.out.split(CLEAR)[-1]


@pytest.mark.parametrize("columns", [1, 20, 300])
def test_widths(stale, columns):
    """It never comes to a second line, which would stay."""
    result = ptys.run(stale, COMMAND, "reap", columns=columns)
    assert result.code == 0 and result_of(stale) + "\r\n" in result.out
    assert all(len(line) < columns for line in result.out.split(CLEAR)[:-1])


def test_beside_a_fault(stale):
    """What is told in between has a line of its own."""
    with open(f"/dev/shm/tuplebind.0.{stale.namespace}.broken", "wb") as file:
        file.write(b"x" * 1000)
    result = ptys.run(stale, COMMAND, "reap")
    assert result.code == 125
    for line in result.out.replace(CLEAR, "\n").splitlines():
        assert line == "" or re.match(r"tuplebind: |0\.\d+: gave back|reap: ", line), line
