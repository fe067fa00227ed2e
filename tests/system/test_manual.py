"""The manual is sound, and true to the command: the same subcommands, options, words and defaults."""

import re
import subprocess

import harness
import pytest
import told

PAGES = ["tuplebind.1", "libtuplebind.7"]


def source(page):
    return (harness.REPOSITORY / "dist" / "man" / f"{page}.scd").read_text()


def sections(text, mark):
    """The parts of a page by their heading."""
    parts = re.split(rf"^{mark} (.*)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def entries(text):
    """The words that begin each entry of a list, and what is told of it."""
    return re.findall(r"^(\*.*)\n((?:\t.*\n)+)", text, re.M)


@pytest.mark.parametrize("page", PAGES)
def test_sound(page):
    """Nothing to complain of, but for the empty paragraphs and the long lines that scdoc makes."""
    built = harness.BUILD / "dist" / "man" / page
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", built], capture_output=True, text=True,
                          timeout=harness.LIMIT, check=False)
    assert lint.stderr == ""
    assert [line for line in lint.stdout.splitlines() if "skipping paragraph macro" not in line] == []
    shown = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", built], capture_output=True, text=True,
                           env=harness.clean_environment() | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
                           timeout=harness.LIMIT, check=True)
    assert shown.stderr == ""
    assert len(shown.stdout) > 3000 and "tuplebind" in shown.stdout
    assert re.search(r"^tuplebind \d+\.\d+\.\d+ ", shown.stdout, re.M)
    assert "@VERSION@" not in shown.stdout


def test_subcommands():
    page = sections(source("tuplebind.1"), "#")
    told_of = [re.match(r"\*(\w+)", head)[1] for head, _ in entries(page["SUBCOMMANDS"])]
    assert set(told_of) == set(told.subcommands()) and len(told_of) == len(set(told_of))
    assert set(re.findall(r"^\*tuplebind (\w+)", page["SYNOPSIS"], re.M)) == set(told.subcommands())


@pytest.mark.parametrize("subcommand", told.subcommands())
def test_options(subcommand):
    """Told of in the sections "Of ..." that name the subcommand, --help in front of them for all."""
    found = {"--help"}
    for heading, text in sections(sections(source("tuplebind.1"), "#")["OPTIONS"], "##").items():
        if subcommand in re.findall(r"\w+", heading):
            for head, _ in entries(text):
                found.update(re.findall(r"\*(--[a-z-]+)\*", head))
    assert found == told.options(subcommand)


@pytest.mark.parametrize("option", ["--balance", "--full", "--backend", "--log", "--protocols"])
def test_words(option):
    variable = "TUPLEBIND_" + option[2:].upper()
    for page, name in (("tuplebind.1", option), ("libtuplebind.7", variable)):
        text, = [text for head, text in entries(source(page)) if re.match(rf"\*{name}\*", head)]
        words = {word for bold in re.findall(r"\*(.*?)\*", text.split("Default:")[0]) for word in bold.split(",")}
        assert words == told.words_of(option), page


def test_variables():
    found = {}
    for head, text in entries(sections(source("libtuplebind.7"), "#")["ENVIRONMENT"]):
        found[head.strip("*")] = re.search(r"Default:\s+\*(.*?)\*\.", text)[1]
    assert found == told.defaults()


@pytest.mark.parametrize("words", [[], *([name] for name in told.subcommands())], ids=" ".join)
def test_help_is_one_screen(words):
    lines = told.ask(*words, "--help").splitlines()
    assert 3 < len(lines) <= 24 and max(map(len, lines)) <= 80
