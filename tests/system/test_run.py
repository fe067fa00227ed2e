"""`tuplebind run`: options become variables, the program's exit code comes through, and what cannot
be started is told by the codes env(1) and nohup(1) use."""

import os

import harness
import pytest

OPTIONS = {
    "addrs": "127.0.0.2-127.0.0.3,lo", "ports": "20000-30000", "protocols": "tcp",
    "balance": "pack", "rules": "127.0.0.1=skip;10.0.0.0/8=auto@40000", "skip": "127.0.0.1:80",
    "full": "kernel", "backend": "explicit", "table": "mine", "table-size": "1M", "log": "info",
    "log-file": "/dev/null",
}


def environment_of(result):
    assert result.code == 0, result
    return dict(line.split("=", 1) for line in result.out.splitlines())


@pytest.mark.parametrize("form", ["--{} {}", "--{}={}"], ids=["apart", "joined"])
def test_options_are_the_variables(host, form):
    words = []
    for name, value in OPTIONS.items():
        words += [f"--{name}={value}"] if "=" in form else [f"--{name}", value]
    seen = environment_of(host.tuplebind("run", *words, "--strict", "env"))
    for name, value in OPTIONS.items():
        assert seen["TUPLEBIND_" + name.upper().replace("-", "_")] == value
    assert seen["TUPLEBIND_STRICT"] == "1"
    assert seen["LD_PRELOAD"] == str(harness.LIBRARY)


def test_nothing_is_set_that_was_not_given(host):
    seen = environment_of(host.tuplebind("run", "env"))
    assert [name for name in seen if name.startswith("TUPLEBIND_")] == []


def test_disable(host):
    seen = environment_of(host.tuplebind("run", "--disable", "env"))
    assert seen["TUPLEBIND_DISABLE"] == "1"


def test_option_wins_over_variable(host):
    seen = environment_of(host.tuplebind("run", "--ports", "1-2", "env",
                                         environment={"TUPLEBIND_PORTS": "3-4",
                                                      "TUPLEBIND_FULL": "kernel"}))
    assert (seen["TUPLEBIND_PORTS"], seen["TUPLEBIND_FULL"]) == ("1-2", "kernel")


def test_other_preloads_are_kept(host):
    """Ours first, theirs behind it; ours is not added twice."""
    other = harness.program("counting.so")
    result = host.run("env", f"LD_PRELOAD={other}", harness.COMMAND, "run", harness.COMMAND, "run",
                      "env")
    assert environment_of(result)["LD_PRELOAD"] == f"{harness.LIBRARY}:{other}"


@pytest.mark.parametrize("words", [[], ["sh", "-c", '"$0"; exit $?']], ids=["itself", "as a child"])
def test_program_with_a_sanitizer(host, words):
    """gcc's AddressSanitizer wants to come first. It runs, it is served, and it still finds what it is for."""
    if not os.path.exists(harness.program("sanitized")):
        pytest.skip("no AddressSanitizer here")
    host.sink("127.0.0.1 8001")
    plain = host.run(*words, harness.program("sanitized"), stdin="socket v4\nconnect 3 127.0.0.1 8001\n")
    assert (plain.code, plain.out) == (0, "3\n0\n"), plain
    running = host.start(*words, harness.program("sanitized"), preload="run", addrs="127.0.0.9")
    steps = harness.Steps(running)
    [fd] = steps.open("127.0.0.1", 8001)
    assert host.claims(8001) == host.tuples(8001) != [] and host.tuples(8001)[0].laddr == "127.0.0.9"
    assert steps(f"close {fd}") == "0" and host.claims(8001) == []
    assert running.end() == 0 and running.errors() == ""


@pytest.mark.parametrize("before, after", [
    (None, "verify_asan_link_order=0"),
    ("", "verify_asan_link_order=0"),
    ("detect_leaks=0", "detect_leaks=0:verify_asan_link_order=0"),
    ("verify_asan_link_order=1:detect_leaks=0", "verify_asan_link_order=1:detect_leaks=0"),
])
def test_options_of_a_sanitizer_are_kept(host, before, after):
    given = [f"ASAN_OPTIONS={before}"] if before is not None else ["-u", "ASAN_OPTIONS"]
    result = host.run("env", *given, harness.COMMAND, "run", harness.COMMAND, "run", "env")
    assert environment_of(result)["ASAN_OPTIONS"] == after


@pytest.mark.parametrize("words, code", [
    (["sh", "-c", "exit 0"], 0),
    (["sh", "-c", "exit 7"], 7),
    (["--", "sh", "-c", "exit 8"], 8),
    (["--addrs", "127.0.0.1", "--", "sh", "-c", "exit 9"], 9),
    (["sh", "-c", "kill -TERM $$"], -15),
    (["sh", "-c", "exit 78"], 78),
    ([], 125),
    (["--"], 125),
    (["--nonsense", "true"], 125),
    (["--addrs"], 125),
    (["--", "/"], 126),
    (["--", "--help"], 127),
    (["no-such-program"], 127),
    (["./no-such-program"], 127),
])
def test_exit_codes(host, words, code):
    result = host.tuplebind("run", *words)
    assert result.code == code
    assert (result.err.count("\n") == 1) == (code in (125, 126, 127)), result.err


@pytest.mark.parametrize("content, mode", [("#!/bin/sh\nexit 0\n", 0o644), ("not a program", 0o755)])
def test_cannot_be_run(host, tmp_path, content, mode):
    path = tmp_path / "program"
    path.write_text(content)
    path.chmod(mode)
    # A file without #! that the kernel refuses is a shell script to execvp(), as to env(1).
    assert host.tuplebind("run", path).code == host.run("env", path).code
    if mode == 0o644:
        assert host.tuplebind("run", path).code == 126


def test_options_behind_the_program_are_its_own(host):
    result = host.tuplebind("run", "echo", "--addrs", "--help", "--", "-x")
    assert result.out == "--addrs --help -- -x\n"


def test_stdin_and_arguments_arrive(host):
    result = host.tuplebind("run", "cat", "-", stdin="as it was")
    assert (result.code, result.out, result.err) == (0, "as it was", "")


def test_found_by_path(host, tmp_path):
    """PATH is searched for the program, and the command itself may be called from anywhere."""
    link = tmp_path / "somewhere" / "tuplebind"
    link.parent.mkdir()
    link.symlink_to(harness.COMMAND)
    result = host.run(link, "run", "true", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["status", "--help"], ["top", "--help"],
                                   ["metrics", "--help"], ["env", "--help"], ["config", "--help"],
                                   ["--version"]])
def test_help(host, words):
    result = host.tuplebind(*words)
    assert (result.code, result.err) == (0, "")
    assert "tuplebind" in result.out
    if words[0] in ("status", "top", "metrics"):
        assert len(lines := result.out.splitlines()) < 24 and max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", [[], ["nonsense"], ["status", "--nonsense"], ["status", "too much"]])
def test_wrong_use(host, words):
    result = host.tuplebind(*words)
    assert (result.code, result.out) == (125, "")
    assert result.err


def test_static_program(host):
    """Nothing can be preloaded into it: said, and refused under --strict."""
    static = harness.program("static")
    warned = host.tuplebind("run", static, "127.0.0.1", 8001)
    assert (warned.code, warned.out) == (0, "ready\n")
    assert warned.err.count("\n") == 1
    assert static in warned.err and "static" in warned.err
    refused = host.tuplebind("run", "--strict", static, "127.0.0.1", 8001)
    assert (refused.code, refused.out) == (78, "")
    assert refused.err.count("\n") == 1 and static in refused.err


def test_no_library(host, tmp_path):
    """A command that finds no library says so, and starts nothing."""
    alone = tmp_path / "tuplebind"
    alone.write_bytes(harness.COMMAND.read_bytes())
    alone.chmod(0o755)
    result = host.run(alone, "run", "echo", "ran")
    assert (result.code, result.out) == (125, "")
    assert "libtuplebind.so" in result.err


def test_installed(host, tmp_path):
    """The installed command finds the installed library, wherever the installation was moved to."""
    host.must("meson", "install", "-C", harness.BUILD, "--no-rebuild", "--quiet",
              "--destdir", tmp_path)
    [command], [library] = tmp_path.rglob("bin/tuplebind"), tmp_path.rglob("libtuplebind.so")
    result = host.run(command, "run", "printenv", "LD_PRELOAD")
    assert (result.code, result.out.strip(), result.err) == (0, str(library), "")


def test_table_that_cannot_be_made(host):
    """A symlink where the table should be: one line, and the program runs; strict: it does not."""
    path = f"/dev/shm/tuplebind.{harness.table_user()}.{host.namespace}"
    os.symlink("/dev/null", path)
    result = host.tuplebind("run", "sh", "-c", "echo ran; exit 7")
    assert (result.code, result.out, result.err.count("\n")) == (7, "ran\n", 1)
    assert path in result.err
    result = host.tuplebind("run", "--strict", "sh", "-c", "echo ran; exit 7")
    assert (result.code, result.out, result.err.count("\n")) == (78, "", 1)
