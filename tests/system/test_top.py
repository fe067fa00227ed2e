"""`tuplebind top` on a real terminal: what it shows is what programs hold, its keys do what they say, and
however it ends the terminal is as before."""

import contextlib
import os
import signal

import harness
import pytest
from terminal import Terminal

TO, PORT, OTHER = "127.0.0.1", 8001, 8002


@pytest.fixture
def served(host):
    """Six lanes: 8, 8, 8 and 2, 2, 2 claims."""
    host.sink(f"{TO} {PORT}", f"{TO} {OTHER}")
    host.held = host.steps(addrs="127.0.0.5-127.0.0.7")
    host.held.open(TO, PORT, 24)
    host.held.open(TO, OTHER, 6)
    return host


@contextlib.contextmanager
def top(host, *words, **options):
    with contextlib.closing(Terminal(host, harness.COMMAND, "top", *words, **options)) as terminal:
        terminal.shows(lambda lines: any("quit" in line or "ended" in line for line in lines))
        yield terminal


def rows(lines):
    """The list's rows, as words."""
    [head] = [i for i, line in enumerate(lines) if "+/s" in line]
    return [line.split() for line in lines[head + 1:-1] if line[:9].strip().isdigit()]


def ends(terminal, code=0):
    """It has ended, the screen is the one from before, and the terminal echoes and knows lines."""
    lines = terminal.shows(lambda lines: any("isig" in line for line in lines))
    assert f"ended with {code}" in lines
    modes = " ".join(lines).replace(";", " ").split()
    assert {"echo", "icanon", "isig", "onlcr"} <= set(modes)
    assert not any("+/s" in line for line in lines)
    assert terminal.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on}").split() == ["1", "0"]


def test_lanes_addresses_destinations_processes(served):
    with top(served) as terminal:
        lines = terminal.shows(lambda lines: len(rows(lines)) == 6)
        assert lines[0].startswith(f"{harness.table_user()}.{served.namespace}")
        assert "6 lanes, 30 claims, 1 process" in lines[1]
        assert "1000 ports" in lines[0]
        assert [(r[0], r[-1]) for r in rows(lines)] == [("8", f"{TO}:{PORT}")] * 3 + [("2", f"{TO}:{OTHER}")] * 3
        assert "bound 30" in lines[3]
        terminal.keys("2")
        lines = terminal.shows_text("local address")
        assert [(r[0], r[2], r[-1]) for r in rows(lines)] == [("10", "2", f"127.0.0.{i}") for i in (5, 6, 7)]
        terminal.keys("3")
        lines = terminal.shows_text("of its lanes")
        assert [(r[0], r[-2], r[-1]) for r in rows(lines)] == [("24", "3", f"{TO}:{PORT}"),
                                                               ("6", "3", f"{TO}:{OTHER}")]
        terminal.keys("4")
        lines = terminal.shows_text("runs for")
        pid = served.held.program.pid
        [row] = rows(lines)
        assert (row[0], row[2], row[-1]) == (str(len(os.listdir(f"/proc/{pid}/fd"))), str(pid), "steps")
        terminal.keys("Right")
        terminal.shows_text("of its ports")
        terminal.keys("Left")
        terminal.shows_text("runs for")


def test_it_follows(served):
    """New connections and new programs come, closed ones go."""
    with top(served) as terminal:
        terminal.shows(lambda lines: len(rows(lines)) == 6)
        fds = served.held.open(TO, PORT, 30)
        terminal.shows(lambda lines: [r[0] for r in rows(lines)][:3] == ["18"] * 3)
        terminal.shows_text("60 claims")
        other = served.steps(addrs="127.0.0.8")
        other.open(TO, PORT, 50)
        terminal.shows(lambda lines: rows(lines)[0][0] == "50" and "2 processes" in lines[1])
        for fd in fds:
            served.held(f"close {fd}")
        terminal.shows_text("80 claims")
        other.program.end()
        terminal.shows_text("1 process")


def test_rates(served):
    """What changes shows in the one interval it falls into."""
    with top(served, "--delay", "2") as terminal:
        terminal.shows(lambda lines: any("bound 0" in line for line in lines if line.startswith("per s")))
        terminal.keys("r")
        terminal.shows_text("by rate")
        served.held.open(TO, OTHER, 30)
        lines = terminal.shows(lambda lines: rows(lines)[0][1] not in ("+0", "-"))
        assert all(r[-1] == f"{TO}:{OTHER}" for r in rows(lines)[:3])
        assert float(rows(lines)[0][1]) > 0 and not lines[2].startswith("per s  bound 0 ")
        terminal.shows(lambda lines: {r[1] for r in rows(lines)} == {"+0"})


def test_sorting(served):
    served.held.open(TO, OTHER, 30)
    with top(served) as terminal:
        terminal.shows(lambda lines: len(rows(lines)) == 6)
        terminal.keys("a")
        lines = terminal.shows_text("by address")
        assert [r[-3] for r in rows(lines)] == [f"127.0.0.{i}" for i in (5, 5, 6, 6, 7, 7)]
        terminal.keys("d")
        lines = terminal.shows_text("by destination")
        assert [r[-1] for r in rows(lines)] == [f"{TO}:{PORT}"] * 3 + [f"{TO}:{OTHER}"] * 3
        terminal.keys("c")
        lines = terminal.shows_text("by claims")
        assert [r[0] for r in rows(lines)] == ["12"] * 3 + ["8"] * 3


def test_filter(served):
    with top(served) as terminal:
        terminal.keys("/", "0", ".", "0", ".", "6")
        terminal.shows_text("/0.0.6_")
        lines = terminal.shows(lambda lines: len(rows(lines)) == 2)
        terminal.keys("BSpace", "7", "q", "BSpace", "Enter")
        lines = terminal.shows(lambda lines: any(line.endswith("/0.0.7") for line in lines))
        assert [r[-3] for r in rows(lines)] == ["127.0.0.7"] * 2
        assert "1-2 of 2" in lines[-1]
        terminal.keys("/", "x", "Enter")
        terminal.shows_text("nothing that the filter lets pass")
        terminal.keys("Escape")
        terminal.shows(lambda lines: len(rows(lines)) == 6)


def test_pause(served):
    with top(served) as terminal:
        terminal.shows(lambda lines: len(rows(lines)) == 6)
        terminal.keys("p")
        terminal.shows(lambda lines: lines[0].endswith("PAUSED"))
        served.held.open(TO, PORT, 30)
        terminal.keys("2")
        lines = terminal.shows_text("local address")
        assert "30 claims" in lines[1]
        terminal.keys("p")
        terminal.shows_text("60 claims")


def test_help(served):
    with top(served) as terminal:
        terminal.keys("h")
        lines = terminal.shows_text("any key: back")
        assert len(lines) == 24 and max(map(len, lines)) < 80
        terminal.keys("x")
        terminal.shows(lambda lines: any("+/s" in line for line in lines))


def test_scrolling(served):
    served.held("quit")
    many = served.steps(addrs="127.0.1.1-127.0.1.100")
    many.open(TO, PORT, 100)
    with top(served) as terminal:
        terminal.keys("a", "/", "0", ".", "1", ".", "Enter")
        foot = terminal.shows(lambda lines: " 1-" in lines[-1] and lines[-1].endswith(" of 100"))[-1]
        page = int(foot.split()[-3].split("-")[1])  # one less when there is trouble to tell of
        assert page in (16, 17)

        def begins_at(first):
            return terminal.shows_text(f" {first}-{first + page - 1} of 100")

        terminal.keys("Down", "Down")
        assert rows(begins_at(3))[0][-3] == "127.0.1.3"
        terminal.keys("NPage")
        begins_at(3 + page)
        terminal.keys("End")
        end = 101 - page
        assert rows(begins_at(end))[-1][-3] == "127.0.1.100"
        terminal.keys("Down", "PPage")
        begins_at(end - page)
        terminal.keys("Home", "Up")
        begins_at(1)


@pytest.mark.parametrize("width, height", [(40, 10), (20, 5), (10, 2), (12, 1), (200, 60), (80, 24)])
def test_sizes(served, width, height):
    """From the size it starts with to another one and back, and it still hears q."""
    with top(served) as terminal:
        terminal.shows(lambda lines: len(rows(lines)) == 6)
        terminal.resize(width, height)
        terminal.shows(lambda lines: len(lines) == height and lines[0].strip() != "" and
                       all(len(line) <= width for line in lines))
        if height >= 5:
            terminal.shows(lambda lines: len(rows(lines)) == min(6, height - (2 if height < 6 else 5
                                                                              if height < 12 else 7)))
        terminal.keys("2", "h", "h", "/", "x", "Escape", "p", "p", "Down", "End")
        terminal.resize(80, 24)
        terminal.shows(lambda lines: any("+/s" in line for line in lines) and
                       [r[-1] for r in rows(lines)] == [f"127.0.0.{i}" for i in (5, 6, 7)])
        terminal.keys("q")
        ends(terminal)


@pytest.mark.parametrize("how", ["q", "C-c", "TERM", "INT", "HUP", "QUIT"])
def test_ends(served, how):
    with top(served) as terminal:
        terminal.shows(lambda lines: len(rows(lines)) == 6)
        if how in ("TERM", "INT", "HUP", "QUIT"):
            os.kill(terminal.pid("tuplebind-top"), getattr(signal, "SIG" + how))
        else:
            terminal.keys(how)
        ends(terminal)


def test_stops_and_goes_on(served):
    """Ctrl-Z gives the terminal back meanwhile."""
    with contextlib.closing(Terminal(served, "bash", "--norc", "-i")) as terminal:
        terminal.shows_text("bash-")
        terminal.keys(f"{harness.COMMAND} top", "Enter")
        terminal.shows_text("+/s")
        terminal.keys("C-z")
        terminal.shows_text("Stopped")
        terminal.keys("fg", "Enter")
        terminal.shows_text("+/s")
        terminal.keys("q")
        terminal.shows(lambda lines: not any("+/s" in line for line in lines))
        terminal.keys("exit", "Enter")
        terminal.shows_text("ended with 0")


def test_colours(served):
    served.set_ports(40000, 40009)
    full = served.steps(addrs="127.0.0.9")
    full.open(TO, PORT, 10)
    with top(served) as terminal:
        terminal.shows_text("100 %")
        assert "\x1b[31m" in terminal.coloured() or "\x1b[1m\x1b[31m" in terminal.coloured()
    with top(served, environment={"NO_COLOR": "1"}) as terminal:
        terminal.shows_text("100 %")
        assert "\x1b[31m" not in terminal.coloured()


def test_tables(served):
    """Tab goes through them; one that goes away leaves another."""
    second = served.steps(table="second")
    second.open(TO, OTHER, 3)
    with top(served) as terminal:
        terminal.shows(lambda lines: len(rows(lines)) == 6)

        def press_until(text):
            def there():
                if any(line.startswith(text) for line in terminal.screen()[:1]):
                    return True
                terminal.keys("Tab")
                return False
            harness.eventually(there)

        press_until("second")
        lines = terminal.shows(lambda lines: lines[0].startswith("second") and len(rows(lines)) == 1)
        assert rows(lines)[0][0] == "3"
        os.unlink(next(path for path in served.tables() if path.endswith(".second")))
        terminal.shows(lambda lines: lines[0].startswith(f"{harness.table_user()}.{served.namespace}"))
        served.remove_tables()
        terminal.shows(lambda lines: not lines[0].startswith(f"{harness.table_user()}.{served.namespace}"))
        terminal.keys("q")
        ends(terminal)


def test_trouble_is_told(served):
    """A file that is no table: in one line, whatever its name is."""
    path = f"/dev/shm/tuplebind.0.{served.namespace}.\x1b[31mnone"
    with open(path, "w") as file:
        file.write("x" * 1000)
        os.fchmod(file.fileno(), 0o600)
    with top(served, width=300) as terminal:
        lines = terminal.shows(lambda lines: lines[-2].strip() != "")
        assert "quit" in lines[-1] and "/dev/shm/tuplebind." in lines[-2]


def test_not_on_a_terminal(served):
    result = served.tuplebind("top")
    assert (result.code, result.out) == (125, "")
    assert result.err == "tuplebind: top: this is not a terminal; tuplebind status shows the same once\n"


@pytest.mark.parametrize("term", ["dumb", "no-such-terminal", ""])
def test_a_terminal_that_cannot(served, term):
    with top(served, width=200, environment={"TERM": term}) as terminal:
        lines = terminal.shows_text("ended with 125")
        assert f'tuplebind: top: the terminal "{term}" (TERM) cannot show it; tuplebind status ' \
            "shows the same once" in [line.strip() for line in lines]


@pytest.mark.parametrize("words, said", [
    (["--delay", "0"], '"0" is not a number of seconds'),
    (["--delay"], "--delay wants a value"),
    (["--ports", "x"], "--ports: "),
    (["--nonsense"], "--nonsense is not an option"),
    (["much"], '"much" is too much'),
])
def test_bad_options(host, words, said):
    result = host.tuplebind("top", *words)
    assert (result.code, result.out) == (125, "")
    assert result.err.count("\n") == 1 and said in result.err and "top --help" in result.err
