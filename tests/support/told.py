"""What the command says of itself: its subcommands, their options, the variables and their values."""

import re

import harness


def ask(*words):
    done = harness.subprocess.run([harness.COMMAND, *words], env=harness.clean_environment(), capture_output=True,
                                  timeout=harness.LIMIT, check=False)
    return (done.stdout + done.stderr).decode()


def subcommands():
    found = re.findall(r"^  (\w+)  +\S", ask("--help"), re.M)
    assert len(found) >= 5, found
    return found


def long_options(text):
    """Those that begin a line, or follow a short one there."""
    return set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.M))


def options(subcommand):
    """The long options in the help of a subcommand; every subcommand has --help."""
    text = ask(subcommand, "--help")
    found = long_options(text) | {"--help"}
    if "the options of tuplebind run" in text:
        found |= long_options(ask("env", "--help")) & long_options(ask("config", "--help"))
    return found


def with_settings():
    """The subcommands that take the settings of run."""
    return [name for name in subcommands() if "--addrs" in options(name)]


def words_of(option):
    """The words an option accepts, as its error message has them."""
    message = ask("run", option, "nonsense", "true")
    accepted = re.search(r"accepted: (.*)$", message, re.M)
    assert accepted, message
    return set(re.findall(r"[a-z]+", accepted[1])) - {"or"}


def defaults():
    """Each variable, and what holds where nothing is set."""
    lines = [re.match(r"(TUPLEBIND_\w+) +default +(.*)", line) for line in ask("config").splitlines()]
    found = {line[1]: re.sub(r" \(.*\)$", "", line[2]) for line in lines if line}
    assert len(found) >= 14, found
    return found
