"""Suites that are in Debian's binary packages."""
import pathlib

import harness
import suite as s

PYTHON = "/usr/bin/python3"

# Each of these takes seconds; the rest comes with --long.
PYTHON_SHORT = """
    test_asynchat test_asyncore test_epoll test_fcntl test_fork1 test_ftplib test_httplib test_httpservers test_imaplib
    test_nntplib test_os test_poll test_poplib test_posix test_select test_selectors test_smtplib
    test_socket test_socketserver test_subprocess test_telnetlib test_urllib2_localnet test_urllib test_wsgiref
    test_xmlrpc test_docxmlrpc test_robotparser test_timeout test_ssl
""".split()
PYTHON_LONG = """
    test_concurrent_futures test_eintr test_fileio test_io test_logging test_mailbox test_multiprocessing_main_handling
    test_pty test_signal test_smtpd test_support test_threading test_threadsignals test_urllib2 test_uuid test_wait3
    test_wait4
""".split()
PYTHON_DIRECTORY = pathlib.Path("/usr/lib/python3.11/test")
PYPY_DIRECTORY = pathlib.Path("/usr/lib/pypy3.9/test")
# Where the hypervisor has no such sockets it waits for ever.
PYTHON_WITHOUT = ("--without", "test.test_socket.ThreadedVSOCKSocketStreamTest")


def python_units(python, names, directory, **more):
    found = [name for name in names if (directory / f"{name}.py").exists()]
    return [s.python_unit(python, f"test.{name}", *PYTHON_WITHOUT, **more) for name in found]


def python(_):
    return python_units(PYTHON, PYTHON_SHORT, PYTHON_DIRECTORY)


def python_asyncio(_):
    names = [path.stem for path in sorted((PYTHON_DIRECTORY / "test_asyncio").glob("test_*.py"))]
    return [s.python_unit(PYTHON, f"test.test_asyncio.{name}") for name in names if "windows" not in name]


def python_rest(_):
    return python_units(PYTHON, PYTHON_LONG, PYTHON_DIRECTORY, limit=900)


def pypy(_):
    return python_units("pypy3", PYTHON_SHORT, PYPY_DIRECTORY, limit=900)


TWISTED = """
    test.test_tcp test.test_tcp_internals test.test_udp test.test_unix test.test_ssl test.test_internet test.test_ftp
    test.test_loopback test.test_protocols test.test_amp test.test_socks test.test_ident
    test.test_pcp test.test_policies
    internet.test.test_tcp internet.test.test_endpoints internet.test.test_udp internet.test.test_unix
    internet.test.test_tls internet.test.test_socket internet.test.test_core
    internet.test.test_epollreactor internet.test.test_fdset internet.test.test_posixbase internet.test.test_resolver
    names.test
""".split()
TWISTED_LONG = """
    conch.test internet.test.test_process internet.test.test_stdio internet.test.test_threads
    internet.test.test_time mail.test
    protocols.test test.test_process test.test_stdio test.test_twistd web.test
""".split()


def twisted(names):
    return lambda _: [s.python_unit(PYTHON, f"twisted.{name}", "--trial", limit=600) for name in names]


def zeromq(_):
    names = "context monitor monqueue multipart pair poll proxy_steerable pubsub reqrep retry_eintr security socket " \
            "zmqstream asyncio future device auth".split()
    return [s.python_unit(PYTHON, f"zmq.tests.test_{name}") for name in names]


INSTALLED = pathlib.Path("/usr/libexec/installed-tests")
GLIB = """
    async-close-output-stream async-splice-output-stream cancellable converter-stream credentials file gdbus-addresses
    gdbus-auth gdbus-connection gdbus-connection-loss gdbus-connection-slow gdbus-close-pending gdbus-exit-on-close
    gdbus-export gdbus-message gdbus-names gdbus-non-socket gdbus-overflow gdbus-peer gdbus-peer-object-manager
    gdbus-proxy
    gdbus-sasl gdbus-server-auth gdbus-subscribe gdbus-threading gsocketclient-slow gsubprocess inet-address
    io-channel io-stream mainloop network-address network-monitor pollable proxy-test resolver-parsing
    socket socket-address socket-listener socket-service spawn-multithreaded spawn-singlethread spawn-test srvtarget
    stream-rw_all task tls-bindings tls-certificate tls-interaction unix unix-fd unix-streams timeout
""".split()


def glib_unit(package, name, **more):
    argv = [str(INSTALLED / package / name), "--tap"]

    def alone(tests):
        return argv + [word for test in tests if test.startswith("/") for word in ("-p", test)]
    return s.Unit(name, argv, s.parse_tap, alone, s.left_out_of_tap, **more,
                  environment={"G_TEST_SRCDIR": str(INSTALLED / package), "G_TEST_BUILDDIR": str(INSTALLED / package),
                               "GIO_USE_VFS": "local", "G_DEBUG": ""})


def installed(package, names=None, without=(), **more):
    def units(_):
        described = pathlib.Path("/usr/share/installed-tests") / package
        present = names or sorted(path.stem for path in described.glob("*.test"))
        return [glib_unit(package, name, **more) for name in present
                if name not in without and (INSTALLED / package / name).exists()]
    return units


# The server of its programs hangs now and then, if it is not mended.
SOUP = {"mended": (harness.program("listener.so"),)}


SYSTEMD = pathlib.Path("/usr/lib/systemd/tests")


def systemd(_):
    names = """test-socket-util test-fd-util test-close-many test-barrier test-async test-fdset test-socket-netlink
        test-in-addr-util
        test-varlink test-sd-event test-event test-netlink-manual test-bus-server test-bus-peersockaddr test-bus-chat
        test-fileio test-io-util test-ask-password-api test-socket-bind test-daemon test-exec-util
        test-serialize test-fs-util test-journal-importer test-resolved-stream test-dns-packet test-resolved-etc-hosts
        test-terminal-util test-tmpfiles test-watchdog test-util test-os-util test-sd-device-thread
        test-event-add-time-change""".split()
    places = (SYSTEMD, SYSTEMD / "unit-tests")
    found = [place / name for name in names for place in places if (place / name).exists()]
    return [s.Unit(path.name, [str(path)], s.parse_exit, limit=120) for path in found]


TWISTED_PACKAGES = ["python3-openssl", "python3-service-identity", "python3-twisted"]

SUITES = [
    s.Suite("python", "CPython 3.11: sockets, selectors, ssl, subprocess, HTTP, mail", python, 2500, 400,
            ["libpython3.11-testsuite"]),
    s.Suite("python asyncio", "CPython 3.11: asyncio", python_asyncio, 2100, 150, ["libpython3.11-testsuite"]),
    s.Suite("glib", "GLib 2.74: GIO's sockets, D-Bus, subprocesses", installed("glib", GLIB), 620, 25,
            ["dbus", "libglib2.0-tests"]),
    s.Suite("glib-networking", "TLS for GIO", installed("glib-networking"), 90, 25, ["glib-networking-tests"]),
    s.Suite("libsoup", "libsoup 3: HTTP client and server",
            installed("libsoup-3.0", without=("http2-body-stream-test",), **SOUP),  # which takes a minute
            460, 250, ["libsoup-3.0-tests"]),
    s.Suite("twisted", "Twisted 22: TCP, UDP, TLS, endpoints, names", twisted(TWISTED), 2450, 250, TWISTED_PACKAGES),
    s.Suite("systemd", "systemd 252: tests of descriptors, sockets, sd-event", systemd, 22, 0, ["systemd-tests"]),

    s.Suite("python, the rest", "CPython 3.11: futures, threads, signals, io, logging", python_rest, 1200, 1,
            ["libpython3.11-testsuite"], long=True),
    s.Suite("pypy", "PyPy 3.9: the tests of python", pypy, 1300, 400, ["pypy3", "pypy3-lib-testsuite"], long=True),
    s.Suite("libsoup 2", "libsoup 2.4", installed("libsoup-2.4", **SOUP), 500, 250, ["libsoup2.4-tests"], long=True),
    s.Suite("twisted, the rest", "Twisted 22: processes, ssh, web, mail", twisted(TWISTED_LONG), 3000, 50,
            TWISTED_PACKAGES, long=True),
    s.Suite("zeromq", "pyzmq over libzmq 4.3", zeromq, 230, 100, ["python3-tornado", "python3-zmq"], long=True),
]
