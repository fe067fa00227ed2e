"""Suites of source packages: built, or their tests run by the interpreter that Debian ships."""
import re

import suite as s


def lines_of(pattern, words):
    """A parser for one line a test: the pattern has a group "test" and a group "word"."""
    compiled = re.compile(pattern, re.MULTILINE)

    def parse(text, code):
        return {found["test"]: words[found["word"]] for found in compiled.finditer(text)}
    return parse


# libuv: run-tests NAME runs one; all of them, each a program of its own, make a unit by the first word of their names.

def libuv(directory):
    listed = re.findall(r"^\s*TEST_ENTRY(?:_CUSTOM)?\s*\((\w+)",
                        (directory / "test/test-list.h").read_text(), re.MULTILINE)
    program = str(directory / "test/.libs/run-tests")
    script = 'p=$0; for t; do "$p" $t; done'

    def argv(tests):
        return ["sh", "-c", script, program, *tests]

    def parse(text, code):
        found = s.parse_tap(text, 0)
        del found["the program"]
        return found
    groups = {}
    for test in dict.fromkeys(listed):
        groups.setdefault(test.split("_")[0], []).append(test)
    return [s.Unit(name, argv(tests), parse, argv, cwd=directory, limit=600, environment={
        "UV_RUN_AS_ROOT": "1", "LD_LIBRARY_PATH": str(directory / ".libs")}) for name, tests in groups.items()]


# libevent: regress runs each test in a process of its own.

def libevent(directory):
    text = (directory / "tests.txt").read_text()
    program = str(directory / "test/.libs/regress")
    groups = {}
    for test in re.findall(r"^\s+([\w/]+/\w+)", text, re.MULTILINE):
        groups.setdefault(test.split("/")[0], []).append(test)
    parse = lines_of(r"^(?P<test>[\w/]+): (?:\[forking\] )?(?P<word>OK|SKIPPED|DISABLED)?",
                     {"OK": "passed", "SKIPPED": "skipped", "DISABLED": "skipped", None: "failed"})
    return [s.Unit(name, [program, *tests], parse, lambda tests: [program, *tests], cwd=directory, limit=600,
                   environment={"LD_LIBRARY_PATH": str(directory / ".libs")})
            for name, tests in groups.items()]


# apr: a program of some forty, each many assertions; it names those that failed.

def apr(directory):
    names = re.findall(r"^(\w+)$", (directory / "test/tests.txt").read_text(), re.MULTILINE)
    program = str(directory / "test/testall")
    parse = lines_of(r"^(?P<test>\w+)\s*:\s*.*?(?P<word>SUCCESS|FAILED)", {"SUCCESS": "passed", "FAILED": "failed"})
    return [s.Unit(name, [program, "-v", name], parse, cwd=directory / "test") for name in names]


# libmicrohttpd: a program is a test.

def programs(where, pattern):
    def units(directory):
        place = directory / where
        found = sorted(path for path in place.glob(pattern) if path.is_file() and path.stat().st_mode & 0o111)
        libraries = ":".join(str(path) for path in directory.glob("src/**/.libs")) + f":{directory}/.libs"
        return [s.Unit(f"{path.name}", [str(path)], s.parse_exit, cwd=place if place.name != ".libs" else place.parent,
                       limit=300, environment={"LD_LIBRARY_PATH": libraries}) for path in found]
    return units


# Perl: the interpreter is Debian's, the tests are of the same version.

PERL = ("dist/IO cpan/IO-Socket-IP cpan/HTTP-Tiny cpan/Socket cpan/libnet dist/Net-Ping").split()


def perl(directory):
    units = []
    for part in PERL:
        for path in sorted((directory / part / "t").glob("*.t")):
            # What is in "blib" is under test, or so they look for it; else they take the source tree's own modules.
            units.append(s.Unit(f"{part}/t/{path.name}", ["perl", "-I/none/blib", f"t/{path.name}"], s.parse_tap,
                                left_out=s.left_out_of_tap, cwd=directory / part, limit=120,
                                environment={"PERL_CORE": "0"}))
    for name in ("socket", "socketpair", "dup", "pipe", "eintr", "closepid", "errno"):
        units.append(s.Unit(f"t/io/{name}.t", ["perl", f"io/{name}.t"], s.parse_tap, left_out=s.left_out_of_tap,
                            cwd=directory / "t", limit=120))
    return units


# Ruby

def ruby(directory):
    places = ("test/socket", "test/net/http", "test/net/protocol", "test/drb", "test/openssl", "test/open-uri")
    paths = [path for where in places for path in sorted((directory / where).glob("test_*.rb"))
             if path.name != "test_engine.rb"]  # OpenSSL 3 has none
    paths += [directory / "test/ruby/test_io.rb", directory / "test/test_open3.rb"]

    def parse(text, code):
        found = {}
        for line in text.splitlines():
            if matched := re.match(r"\[\s*\d+/\d+\] (\S+#\S+)", line):
                found.setdefault(matched[1], "passed")
        bad = r"^ *\d+\) (Failure|Error|Skipped|Timeout):\n(\S+#\S+?):?(?: |$)"
        for kind, test in re.findall(bad, text, re.MULTILINE):
            found[test] = "skipped" if kind == "Skipped" else "failed"
        return found

    def unit(path):
        argv = ["ruby", "-Itool/lib", "-Itest/lib", "tool/test/runner.rb", "-v", str(path.relative_to(directory))]

        def alone(tests):
            names = "|".join(re.escape(test.partition("#")[2]) for test in tests)
            return [*argv, "-n", f"/\\A(?:{names})\\z/"]
        return s.Unit(str(path.relative_to(directory)), argv, parse, alone, cwd=directory, limit=600)
    return [unit(path) for path in paths if path.exists()]


# PHP

def php(directory):
    parts = """ext/sockets/tests ext/standard/tests/streams ext/standard/tests/network ext/standard/tests/http
        ext/openssl/tests ext/ftp/tests sapi/cli/tests ext/pcntl/tests ext/soap/tests ext/curl/tests""".split()
    parse = lines_of(r"(?P<word>PASS|FAIL|SKIP|XFAIL|BORK|WARN|LEAK) .*?\[(?P<test>\S+?\.phpt)\]",
                     {"PASS": "passed", "FAIL": "failed", "BORK": "failed", "WARN": "failed", "LEAK": "failed",
                      "SKIP": "skipped", "XFAIL": "skipped"})

    def argv(tests):
        return ["php", "run-tests.php", "-q", "--offline", "--no-color", "--no-progress", "-p", "/usr/bin/php", *tests]
    return [s.Unit(part, argv([part]), parse, argv, cwd=directory, limit=900,
                   environment={"NO_INTERACTION": "1", "TEST_PHP_EXECUTABLE": "/usr/bin/php"}) for part in parts]


# Tcl

def tcl(directory):
    parse = lines_of(r"^(?:\+\+\+\+|====) (?P<test>\S+) .*?(?P<word>PASSED|FAILED|SKIPPED)",
                     {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped"})

    def unit(name):
        argv = ["tclsh8.6", f"{name}.test", "-verbose", "pass skip error"]
        return s.Unit(name, argv, parse, lambda tests: [*argv, "-match", " ".join(tests)], cwd=directory / "tests",
                      limit=600)
    return [unit(name) for name in "socket http http11 httpold httpPipeline chan chanio io ioCmd event exec".split()]


AUTOTOOLS = ["autoconf", "automake", "libtool", "make", "dpkg-dev"]

SUITES = [
    s.Suite("libuv", "libuv 1.44: all", libuv, 390, 130, AUTOTOOLS,
            s.Source("libuv1", "./autogen.sh; ./configure; make -j2; make -j2 check TESTS="), long=True),
    s.Suite("libevent", "libevent 2.1: all of regress", libevent, 335, 70, [*AUTOTOOLS, "libssl-dev", "python3"],
            s.Source("libevent", "./autogen.sh; ./configure --disable-samples; make -j2; make -j2 check TESTS= || :; "
                     "test/regress --list-tests >tests.txt || :"), long=True),
    s.Suite("apr", "Apache's runtime 1.7: all; a test is a file of them", apr, 42, 3,
            [*AUTOTOOLS, "python3", "uuid-dev"],
            s.Source("apr", "./buildconf; ./configure; make -j2; make -j2 -C test; cd test; ./testall -l >tests.txt"),
            long=True),
    s.Suite("libmicrohttpd", "libmicrohttpd 0.9.75 with libcurl as its client",
            programs("src/testcurl/.libs", "test_*"), 66, 6000,
            [*AUTOTOOLS, "libgnutls28-dev", "libcurl4-openssl-dev"],
            s.Source("libmicrohttpd", "./configure --disable-doc; make -j2; make -j2 -C src/testcurl check TESTS="),
            long=True),
    s.Suite("perl", "Perl 5.36: IO, IO::Socket::IP, HTTP::Tiny, Socket, libnet, Net::Ping", perl, 1200, 1000,
            ["dpkg-dev", "perl"], s.Source("perl"), long=True),
    s.Suite("ruby", "Ruby 3.1: socket, net/http, drb, openssl, IO", ruby, 1200, 2000, ["dpkg-dev", "ruby", "ruby-webrick"],
            s.Source("ruby3.1"), long=True),
    s.Suite("php", "PHP 8.2: sockets, streams, http, openssl, cli server, pcntl", php, 1150, 300,
            ["dpkg-dev", "php-cli", "php-curl", "php-soap"], s.Source("php8.2"), long=True),
    s.Suite("tcl", "Tcl 8.6: sockets, http, channels", tcl, 1450, 130,
            ["dpkg-dev", "tcl8.6"], s.Source("tcl8.6"), long=True),
]
