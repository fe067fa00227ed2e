"""The completions offer what the command has, neither more nor less, in each shell itself."""

import contextlib

import pytest
import shells
import told

WORDS = ["--balance", "--full", "--backend", "--log", "--protocols"]


@pytest.fixture(scope="module", params=shells.SHELLS)
def shell(request, tmp_path_factory):
    programs = tmp_path_factory.mktemp("shell") / "bin"
    programs.mkdir()
    (programs / "tuplebind-tried").write_text("#!/bin/sh\n")
    (programs / "tuplebind-tried").chmod(0o755)
    (programs.parent / "tuplebind.conf").write_text("")
    with contextlib.closing(shells.SHELLS[request.param](programs)) as made:
        yield made


def test_subcommands(shell):
    offered = {word for word in shell.offers("tuplebind ") if not word.startswith("-")}
    assert offered == set(told.subcommands())
    assert shell.offers("tuplebind st") == {"status"}
    assert {"--help", "--version"} <= shell.offers("tuplebind --")


@pytest.mark.parametrize("subcommand", told.subcommands())
def test_options(shell, subcommand):
    offered = {word for word in shell.offers(f"tuplebind {subcommand} --") if word != "--"}
    assert offered == told.options(subcommand)


@pytest.mark.parametrize("option", WORDS)
@pytest.mark.parametrize("between", [" ", "="])
@pytest.mark.parametrize("subcommand", told.with_settings())
def test_words(shell, subcommand, between, option):
    words = told.words_of(option)
    assert len(words) > 1
    assert shell.offers(f"tuplebind {subcommand} --strict {option}{between}") == words
    first = min(words)
    assert shell.offers(f"tuplebind {subcommand} {option}{between}{first[:-1]}") == {first}


def last_of_list(offered):
    """Some shells offer the item alone, some the list with it."""
    return {word.split(",")[-1] for word in offered}


@pytest.mark.parametrize("between", [" ", "="])
def test_lists(shell, between):
    assert "udp" in last_of_list(shell.offers(f"tuplebind run --protocols{between}tcp,"))
    assert {"auto", "lo"} <= shell.offers(f"tuplebind run --addrs{between}")
    assert last_of_list(shell.offers(f"tuplebind run --addrs{between}10.0.0.5,aut")) == {"auto"}


@pytest.mark.parametrize("option", ["run -c ", "run --config ", "run --config=", "run --log-file ", "metrics --output "])
def test_files(shell, tmp_path, option):
    (tmp_path / "tuplebind.conf").write_text("")
    offered = shell.offers(f"tuplebind {option}{tmp_path}/tuple")
    assert {word.split("/")[-1] for word in offered} == {"tuplebind.conf"}


@pytest.mark.parametrize("before", ["", "--strict ", "-- ", "--balance hash ", "--balance=hash -- ",
                                    "--skip 10.0.0.0/8:80,[::1]:7 ", "-c some.conf --log info "])
def test_program(shell, before):
    for subcommand in ("run", "doctor"):
        assert shell.offers(f"tuplebind {subcommand} {before}tuplebind-tri") == {"tuplebind-tried"}


@pytest.mark.parametrize("before", ["", "-- ", "--strict -- ", "--balance hash ", "--skip=10.0.0.0/8:80 "])
def test_behind_the_program_its_own(shell, before):
    """What ls offers, and nothing of ours."""
    assert shell.offers(f"tuplebind run {before}ls --auth") == {"--author"}
    assert shell.offers(f"tuplebind run {before}ls --bala") == set()


def test_protocol_is_one(shell):
    """Of explain: no list, as --protocols is."""
    assert shell.offers("tuplebind explain --protocol ") == {"tcp", "udp"}
    assert shell.offers("tuplebind explain --protocol u") == {"udp"}


def test_nothing_for_a_destination(shell):
    assert shell.offers("tuplebind run --skip ") == set()
