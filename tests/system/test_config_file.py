"""The configuration file: what it says reaches the program, options are stronger and the environment
is weaker, and whatever is wrong in it is told in one line with its place, before anything starts."""

import os
import random
import re

import harness
import pytest
from test_bad_values import BAD

# Each key, a value, and how the variable has it.
KEYS = {
    "addrs": ("127.0.0.2-127.0.0.3, lo", "127.0.0.2-127.0.0.3, lo"),
    "ports": ("20000-30000/4:2", "20000-30000/4:2"),
    "protocols": ("tcp,udp", "tcp,udp"),
    "balance": ("pack", "pack"),
    "skip": ("127.0.0.1:80, [::1]:80", "127.0.0.1:80, [::1]:80"),
    "full": ("kernel", "kernel"),
    "backend": ("explicit", "explicit"),
    "table": ("mine", "mine"),
    "table-size": ("1M", "1M"),
    "log": ("info", "info"),
    "log-file": ("/dev/null", "/dev/null"),
    "strict": ("yes", "1"),
    "disable": ("no", "0"),
}

# The same key in the environment and as an option, each unlike the file's.
OTHERS = {
    "addrs": ("127.0.0.4", "127.0.0.5"), "ports": ("1-2", "3-4"), "protocols": ("udp", "tcp"),
    "balance": ("random", "hash"), "rules": ("127.0.0.9=skip", "127.0.0.8=skip"),
    "skip": ("127.0.0.1:81", "127.0.0.1:82"), "full": ("fail", "fail"),
    "backend": ("late", "auto"), "table": ("theirs", "ours"), "table-size": ("2M", "3M"),
    "log": ("off", "error"), "log-file": ("/dev/zero", "/dev/full"),
    "strict": ("0", None), "disable": ("0", None),
}


@pytest.fixture
def file(one_host, tmp_path):
    return File(one_host, tmp_path / "tuplebind.conf")


class File:
    """A configuration file, and the command that is given it."""

    def __init__(self, host, path):
        self.host, self.path = host, path

    def write(self, text):
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def run(self, *words, **options):
        return self.host.tuplebind("run", "-c", self.path, *words, **options)

    def variables(self, text, *options, environment=None):
        """The variables of a program that is started with a file of this text."""
        self.write(text)
        result = self.run(*options, "env", environment=environment)
        assert (result.code, result.err) == (0, ""), result
        return {name.removeprefix("TUPLEBIND_"): value for name, _, value in
                (line.partition("=") for line in result.out.splitlines())
                if name.startswith("TUPLEBIND_")}

    def refused(self, text, line, *parts, command=("run", "echo", "ran")):
        """The one line that answers a file of this text, which is at fault in line @line."""
        self.write(text)
        result = self.host.tuplebind(command[0], "-c", self.path, *command[1:])
        assert (result.code, result.out) == (125, ""), result
        assert result.err.count("\n") == 1 and result.err.endswith("\n"), result.err
        place = f"{self.path}:{line}" if line else str(self.path)
        assert result.err.startswith(f"tuplebind: {command[0]}: {place}: "), result.err
        for part in parts:
            assert part in result.err, result.err
        return result.err


def variable(key):
    return key.upper().replace("-", "_")


# What it says.

def test_every_key(file):
    text = "[tuplebind]\n" + "".join(f"{key} = {value}\n" for key, (value, _) in KEYS.items())
    assert file.variables(text) == {variable(key): value for key, (_, value) in KEYS.items()}


def test_underscores_as_in_the_variables(file):
    seen = file.variables("[tuplebind]\ntable_size = 1M\nlog_file = /dev/null\n")
    assert seen == {"TABLE_SIZE": "1M", "LOG_FILE": "/dev/null"}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n; at all\n", "[tuplebind]\n", "[tuplebind]"])
def test_nothing_is_set_that_was_not_said(file, text):
    assert file.variables(text) == {}


@pytest.mark.parametrize("word, value", [
    ("yes", "1"), ("true", "1"), ("1", "1"), ("no", "0"), ("false", "0"), ("0", "0")])
def test_switches(file, word, value):
    assert file.variables(f"[tuplebind]\nstrict = {word}") == {"STRICT": value}


@pytest.mark.parametrize("text", [
    "addrs = 127.0.0.2,127.0.0.3,127.0.0.4",
    "addrs=127.0.0.2,\n 127.0.0.3,\n 127.0.0.4",
    "addrs: 127.0.0.2\n\t127.0.0.3\n\t127.0.0.4",
    "addrs =\n  127.0.0.2\n  ,127.0.0.3\n\n  # the last\n  127.0.0.4  ; of three",
    "addrs = 127.0.0.2 ; one\n  127.0.0.3,127.0.0.4\nports = 1-65535\n",
])
def test_lists_on_several_lines(file, text):
    assert file.variables("[tuplebind]\n" + text)["ADDRS"] == "127.0.0.2,127.0.0.3,127.0.0.4"


def test_rules_in_order(file):
    seen = file.variables("""
        [tuplebind]
        addrs = 127.0.0.2

        [rule one of them]
        dest = 127.0.0.1:80
        addrs = 127.0.0.3-127.0.0.5
        ports = 20000-20010, 30000
        [rule 2]
        dest = 127.0.0.0/8,
               [::1]:443
        skip = yes
        [rule 3]
        dest = ::1
        skip = no
        addrs = ::1
        """.replace("\n        ", "\n"))
    assert seen == {"ADDRS": "127.0.0.2", "RULES":
                    "127.0.0.1:80=127.0.0.3-127.0.0.5@20000-20010, 30000;"
                    "127.0.0.0/8=skip;[::1]:443=skip;::1=::1"}


def test_rules_decide(host, tmp_path):
    """The kernel's view: the first rule that matches decides, and the pool is for the rest."""
    path = tmp_path / "conf"
    path.write_text("[tuplebind]\naddrs = 127.0.0.9\n"
                    "[rule a]\ndest = 127.0.0.1:8001\naddrs = 127.0.0.7\nports = 40500-40600\n"
                    "[rule b]\ndest = 127.0.0.1:8002\nskip = yes\n"
                    "[rule c]\ndest = 127.0.0.1\naddrs = 127.0.0.8\n")
    host.sink("127.0.0.1 8001", "127.0.0.1 8002", "127.0.0.1 8003", "127.0.0.2 8004")
    steps = harness.Steps(host.start(harness.COMMAND, "run", "-c", path, harness.program("steps")))
    for address, port in (("127.0.0.1", 8001), ("127.0.0.1", 8002), ("127.0.0.1", 8003),
                          ("127.0.0.2", 8004)):
        steps.open(address, port)
    assert [{t.laddr for t in host.tuples(port)} for port in (8001, 8002, 8003, 8004)] == \
        [{"127.0.0.7"}, {"127.0.0.1"}, {"127.0.0.8"}, {"127.0.0.9"}]
    assert {t.lport for t in host.tuples(8001)} <= set(range(40500, 40601))


@pytest.mark.parametrize("form", [["-c", "{}"], ["-c{}"], ["--config", "{}"], ["--config={}"]],
                         ids=" ".join)
def test_forms_of_the_option(file, form):
    file.write("[tuplebind]\nlog = info\n")
    words = [word.format(file.path) for word in form]
    assert "TUPLEBIND_LOG=info\n" in file.host.tuplebind("run", *words, "env").out


def test_read_from_a_pipe(file):
    result = file.host.tuplebind("run", "-c", "/dev/stdin", "env", stdin="[tuplebind]\nlog = info\n")
    assert "TUPLEBIND_LOG=info\n" in result.out


@pytest.mark.parametrize("key", OTHERS)
def test_strength(file, key):
    """Option over file over environment, and the order of the words decides nothing."""
    in_environment, as_option = OTHERS[key]
    if key == "rules":
        text, value = "[rule x]\ndest = 127.0.0.7\nskip = yes\n", "127.0.0.7=skip"
    else:
        text, value = f"[tuplebind]\n{key} = {KEYS[key][0]}\n", KEYS[key][1]
    environment = harness.variables({variable(key): in_environment})
    assert file.variables("", environment=environment) == {variable(key): in_environment}
    assert file.variables(text, environment=environment) == {variable(key): value}
    option = [f"--{key}"] + ([as_option] if as_option else [])
    assert file.variables(text, *option, environment=environment) == {variable(key): as_option or "1"}
    before = file.host.tuplebind("run", *option, "-c", file.path, "env", environment=environment)
    assert f"TUPLEBIND_{variable(key)}={as_option or 1}\n" in before.out


def test_bad_value_of_the_environment_that_the_file_replaces(file):
    """What is not in force does no harm."""
    assert file.variables("[tuplebind]\nports = 1-2\n",
                          environment={"TUPLEBIND_PORTS": "nonsense"}) == {"PORTS": "1-2"}


def test_bad_value_that_an_option_replaces(file):
    """A file is right or wrong by itself."""
    file.write("[tuplebind]\nports = x\n")
    assert file.run("--ports", "1-2", "echo", "ran").code == 125


def test_library_reads_no_file(file):
    """The parser is the command's alone."""
    assert b"libinih" in harness.COMMAND.read_bytes()
    assert b"libinih" not in harness.LIBRARY.read_bytes()
    assert b"ini_parse" not in harness.LIBRARY.read_bytes()


# Long ones.

def addresses(size):
    """A list of addresses of about @size bytes."""
    return ",".join(f"10.{i // 40000}.{i // 200 % 200}.{i % 200 + 1}" for i in range(size // 11))


@pytest.mark.parametrize("size", [190, 200, 210, 5000, 120_000])
def test_long_lines(file, size):
    text = addresses(size)
    assert file.variables(f"[tuplebind]\naddrs = {text}\n#{'x' * size}\nlog = info\n") == \
        {"ADDRS": text, "LOG": "info"}
    assert file.variables(f"[rule x]\naddrs = {text}\ndest = 10.0.0.0/8\n") == \
        {"RULES": f"10.0.0.0/8={text}"}


def test_many_lines(file):
    text = addresses(100_000)
    assert file.variables("[tuplebind]\naddrs =\n  " + text.replace(",", "\n  "))["ADDRS"] == text


def test_fault_at_the_end_of_a_long_line(file):
    file.refused(f"[tuplebind]\naddrs = {addresses(5000)},nonsense\n", 2, '"nonsense"')


def test_more_than_a_variable_can_have(file):
    """Linux would refuse to start the program, without saying why."""
    file.refused(f"[tuplebind]\naddrs = {addresses(150_000)}\n", 2, "addrs has", "up to 131039")
    rule = "[rule {}]\ndest = 10.0.0.0/8\naddrs = " + addresses(50_000) + "\n"
    file.refused("".join(rule.format(i) for i in range(3)), 7, "the rules up to this one",
                 "up to 131039")


def test_as_much_as_a_variable_can_have(file):
    path = "/" + "x" * 131_038
    file.write(f"[tuplebind]\ndisable = yes\nlog-file = {path}\n")
    assert file.run("true") == (0, "", "")
    file.refused(f"[tuplebind]\nlog-file = {path}x\n", 2, "131040")


# What is refused.

SECTIONS = "accepted: [tuplebind] and [rule NAME]"
RULE = "accepted: dest = DESTINATIONS and either addrs = ADDRESSES or skip = yes"
A_RULE = "[rule x]\ndest = 10.0.0.1\n"

FAULTS = {
    "unknown section": ("[tuplebinds]\n", 1, "[tuplebinds]", SECTIONS),
    "section of another case": ("\n[Tuplebind]\n", 2, "[Tuplebind]", SECTIONS),
    "empty section": ("[]\n", 1, "[]", SECTIONS),
    "rule without a name": ("[rule]\nskip = yes\n", 1, "[rule]", SECTIONS),
    "rule with a blank name": ("[rule ]\n", 1, "[rule ]", SECTIONS),
    "section not closed": ("[tuplebind\nlog = info\n", 1, "[tuplebind", "accepted: [SECTION]"),
    "more behind a section": ("[tuplebind] log = info\n", 1, "log = info", "accepted: [SECTION]"),
    "comment in a section": ("[rule ;x]\n", 1, "[rule ;x]", "accepted: [SECTION]"),
    "section too long": (f"[rule {'x' * 200}]\n", 1, "[rule xxx", "accepted: [SECTION]"),
    "general section twice": ("[tuplebind]\n\n[tuplebind]\n", 3, "line 1", "accepted: one"),
    "rule twice": (A_RULE + "skip = 1\n" + A_RULE + "skip = 1\n", 4, "[rule x]", "line 1"),
    "no section": ("log = info\n", 1, '"log"', SECTIONS),
    "unknown key": ("[tuplebind]\n\nadresses = 1\n", 3, '"adresses"', "accepted: addrs, ports,"),
    "key of another case": ("[tuplebind]\nLog = info\n", 2, '"Log"', "log-file"),
    "no key": ("[tuplebind]\n= info\n", 2, '""', "accepted: addrs"),
    "rules as a key": ("[tuplebind]\nrules = 10.0.0.1=skip\n", 2, "rules", "[rule NAME]"),
    "unknown key of a rule": (A_RULE + "balance = pack\n", 3, '"balance"', "dest, addrs, ports, skip"),
    "key twice": ("[tuplebind]\nlog = info\nlog = info\n", 3, "log", "line 2", "accepted: one"),
    "key twice, two spellings": ("[tuplebind]\ntable-size = 1M\ntable_size = 1M\n", 3, "line 2"),
    "key of a rule twice": (A_RULE + "dest = 10.0.0.2\n", 3, "dest", "line 2"),
    "no value": ("[tuplebind]\nlog =\nports = 1-2\n", 2, "log has no value", "accepted"),
    "no value in any line": ("[tuplebind]\naddrs =\n\n  # none\n", 2, "addrs has no value"),
    "no equals": ("[tuplebind]\nstrict\n", 2, '"strict"', "accepted: [SECTION], KEY = VALUE"),
    "no equals at the end": ("[tuplebind]\nlog = info\nstrict", 3, '"strict"', "KEY = VALUE"),
    "bad switch": ("[tuplebind]\nstrict = on\n", 2, '"on"', "accepted: yes, no, true, false, 1, 0"),
    "bad switch of a rule": (A_RULE + "skip = maybe\n", 3, '"maybe"', "yes, no"),
    "no list": ("[tuplebind]\nbalance = pack\n  hash\n", 3, '"hash"', "balance", "one line"),
    "indented key": ("[tuplebind]\n addrs = 10.0.0.1\n ports = 1-2\n", 3, '"ports = 1-2"',
                     "at the start of a line"),
    "indented list": ("[tuplebind]\naddrs = 10.0.0.1,\n  10.0.0.2\n  nonsense,\n  10.0.0.3\n", 4,
                      'addrs: "nonsense"', "accepted: auto"),
    "empty item between lines": ("[tuplebind]\nskip = 10.0.0.1,\n  ,10.0.0.2\n", 3, '""'),
    "auto and more": ("[tuplebind]\naddrs = auto\n  10.0.0.3\n", 3, '"auto"'),
    "inline # is none": ("[tuplebind]\nlog = info # or so\n", 2, '"info # or so"', "accepted: off"),
    "quotes": ('[tuplebind]\nlog = "info"\n', 2, '""info""', "accepted: off"),
    "no dest": ("[rule x]\naddrs = 10.0.0.1\n", 1, "rule x has no dest", RULE),
    "empty rule": ("[rule x]\n[rule y]\n", 1, "rule x has no dest", RULE),
    "no dest at the end": ("\n[rule last]", 2, "rule last has no dest", RULE),
    "neither": ("[tuplebind]\n" + A_RULE, 2, "rule x has neither addrs nor skip", RULE),
    "neither, skip being no": (A_RULE + "skip = no\n", 1, "neither addrs nor skip", RULE),
    "ports alone": (A_RULE + "ports = 1-2\n", 1, "neither addrs nor skip", RULE),
    "both": (A_RULE + "addrs = 10.0.0.2\nskip = yes\n", 1, "both addrs and skip", RULE),
    "ports and skip": (A_RULE + "ports = 1-2\nskip = yes\n", 1, "both ports and skip", RULE),
    "bad dest": ("[rule x]\ndest = 10.0.0.1,\n  10.0.0.0/99\nskip = 1\n", 3, 'dest: "10.0.0.0/99"'),
    "name as dest": ("[rule x]\ndest = localhost\nskip = 1\n", 2, '"localhost"', "ADDRESS"),
    "rule in dest": ("[rule x]\ndest = 10.0.0.1=skip;10.0.0.2\nskip = 1\n", 2, "dest: "),
    "bad addrs of a rule": (A_RULE + "addrs = 10.0.0.256\n", 3, 'addrs: "10.0.0.256"', "accepted"),
    "ports in addrs": (A_RULE + "addrs = 10.0.0.2@1-2\n", 3, 'addrs: "10.0.0.2@1-2"', "accepted"),
    "skip as addrs": (A_RULE + "addrs = skip\n", 3, 'addrs: "skip"', "accepted"),
    "bad ports of a rule": (A_RULE + "addrs = 10.0.0.2\nports = 0\n", 4, 'ports: "0"', "accepted"),
    "CR LF": ("[tuplebind]\r\nlog = info\r\n", 1, "CR LF", "accepted: LF"),
    "one CR LF": ("[tuplebind]\nlog = info\r\n", 2, "CR LF"),
    "CR alone": ("[tuplebind]\rlog = info\n", 1, "0x0d", "column 12"),
    "byte order mark": (b"\xef\xbb\xbf[tuplebind]\n", 1, "byte order mark", "accepted"),
    "UTF-16": ("[tuplebind]\n".encode("utf-16"), 1, "0x00", "accepted: a text file"),
    "NUL": (b"[tuplebind]\nlog = in\0fo\n", 2, "0x00", "column 9"),
    "NUL in a comment": (b"# \0\n[tuplebind]\n", 1, "0x00"),
    "NUL at the end": (b"[tuplebind]\nlog = info\n\0", 3, "0x00"),
    "control character": (b"[tuplebind]\nlog = \x1b[0minfo\n", 2, "0x1b"),
    "a program": (b"\x7fELF\x02\x01\x01\0\0", 1, "0x7f", "accepted: a text file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(file, fault):
    file.refused(*FAULTS[fault])


@pytest.mark.parametrize("command", ["env", "config"])
@pytest.mark.parametrize("fault", ["unknown key", "both", "CR LF"])
def test_faults_of_the_other_commands(file, command, fault):
    file.refused(*FAULTS[fault], command=(command,))


# A value of the file has no line end.
BAD_KEYS = [bad for bad in BAD if bad[0] not in ("rules", "log_file", "strict", "disable") and "\n" not in bad[1]]


@pytest.mark.parametrize("key, value, part, accepted", BAD_KEYS,
                         ids=[f"{key}={value[:30]}" for key, value, *_ in BAD_KEYS])
def test_bad_values(file, key, value, part, accepted):
    """What the library refuses in a variable is refused in the file, by the same words."""
    key = key.replace("_", "-")
    file.refused(f"# first\n[tuplebind]\n{key} = {value}\n", 3, f"{key}: ", part, accepted)


# Files that cannot be read.

def test_no_file(file):
    result = file.run("echo", "ran")
    assert result == (125, "", f"tuplebind: run: {file.path}: cannot be read: "
                      "No such file or directory; accepted: a readable text file\n")


def test_directory(file, tmp_path):
    file.path = tmp_path
    result = file.run("echo", "ran")
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert "Is a directory" in result.err


def test_no_permission(file):
    file.write("[tuplebind]\n")
    file.path.chmod(0)
    result = file.host.run("setpriv", "--bounding-set", "-dac_override,-dac_read_search",
                           harness.COMMAND, "run", "-c", file.path, "echo", "ran")
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert "Permission denied" in result.err


@pytest.mark.parametrize("path, part", [("/dev/zero", "1048576"), ("/proc/self/mem", "Input/output")])
def test_endless_and_unreadable(file, path, part):
    result = file.host.tuplebind("run", "-c", path, "echo", "ran")
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert result.err.startswith(f"tuplebind: run: {path}: ") and part in result.err


def test_large_file(file):
    file.write("[tuplebind]\n" + "# comment\n" * 104_000)
    assert file.path.stat().st_size < 1 << 20
    assert file.run("echo", "ran").out == "ran\n"
    file.refused("[tuplebind]\n" + "# comment\n" * 105_000, 0, "1048576 bytes", "accepted")


def test_two_files(file):
    file.write("[tuplebind]\n")
    result = file.run("-c", "other", "echo", "ran")
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert str(file.path) in result.err and "other" in result.err


def test_name_with_a_line_break(file, tmp_path):
    """Still one line."""
    file.path = tmp_path / "a\nb"
    result = file.run("echo", "ran")
    assert (result.code, result.out, result.err.count("\n")) == (125, "", 1)
    assert "/a?b: cannot be read" in result.err


def test_file_not_named(file):
    result = file.host.tuplebind("run", "-c")
    assert (result.code, result.err.count("\n")) == (125, 1) and "-c" in result.err


# Junk.

def mutated(random_source, text):
    bytes_ = bytearray(text)
    for _ in range(random_source.randint(1, 2)):
        at = random_source.randrange(len(bytes_))
        how = random_source.randrange(4)
        if how == 0:
            bytes_[at] = random_source.randrange(256)
        elif how == 1:
            del bytes_[at:at + random_source.randint(1, 20)]
        elif how == 2:
            bytes_[at:at] = bytes(random_source.choices(b" \t\n\r[]=:;#,@/\0\xff9a", k=3))
        else:
            other = random_source.randrange(len(bytes_))
            bytes_[at:at] = bytes_[other:other + 30]
    return bytes(bytes_)


def test_junk(file):
    """Whatever is in a file: it is taken, or answered with one line."""
    source = random.Random(4711)
    good = (b"# comment, " + b"and so on " * 30 + b"\n[tuplebind]\naddrs = 10.0.0.2 ; two\n  10.0.0.3\nports = 1-2\n"
            b"log = info\nstrict = yes\n[rule x]\ndest = [2001:db8::/32]:443, 10.0.0.0/8\n"
            b"addrs = 10.0.0.5\nports = 3-4\n[rule y]\ndest = ::/0\nskip = yes\n")
    texts = [mutated(source, good) for _ in range(400)]
    texts += [source.randbytes(source.randint(1, 3000)) for _ in range(30)]
    codes = []
    for text in texts:
        file.write(text)
        done = harness.subprocess.run([harness.COMMAND, "config", "-c", file.path],
                                      capture_output=True, timeout=harness.LIMIT,
                                      env=harness.clean_environment())
        codes.append(done.returncode)
        if done.returncode == 0:
            assert done.stderr == b"", text
        else:
            assert (done.returncode, done.stdout) == (125, b""), text
            assert re.fullmatch(rb"tuplebind: config: %b(:[1-9]\d*)?: [^\n]+\n"
                                % re.escape(os.fsencode(file.path)), done.stderr), (text, done.stderr)
    assert 20 < codes.count(125) < len(texts) - 20


# The README.

def test_example_of_the_readme(file, tmp_path):
    """The file it shows is taken, and comes to what it shows."""
    readme = (harness.REPOSITORY / "README.md").read_text()
    example = re.search(r"```ini\n(.*?)```", readme, re.S)[1]
    words, shown = re.search(r"\n\$ tuplebind (config -c tuplebind\.conf .*?)\n(.*?)```", readme, re.S).groups()
    file.write(example)
    result = file.host.tuplebind(*words.split(), cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert result.out == shown
    assert file.run("echo", "ran").out == "ran\n"


def test_fault_of_the_readme(file, tmp_path):
    """The example with a mistake in the line it names is answered as it says."""
    readme = (harness.REPOSITORY / "README.md").read_text()
    example = re.search(r"```ini\n(.*?)```", readme, re.S)[1]
    told = re.search(r"`(tuplebind: run: tuplebind\.conf:5: ports: )\.\.\.`", readme)[1]
    file.write(example.replace("ports = 20000-40000", "ports = 40000-20000"))
    result = file.host.tuplebind("run", "-c", "tuplebind.conf", "echo", "ran", cwd=tmp_path)
    assert (result.code, result.out) == (125, "")
    assert result.err.startswith(told)
