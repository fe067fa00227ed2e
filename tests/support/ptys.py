"""Programs on a terminal of their own, and what they write there, byte for byte."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios

import harness


def run(host, *argv, environment=None, columns=80):
    """Runs a program of a Host whose three descriptors are a terminal. Result, with all in .out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    line, environment = host.command(argv, None, {"TERM": "xterm"} | (environment or {}), {})
    process = subprocess.Popen(line, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    out = b""
    try:
        while select.select([ours], [], [], harness.LIMIT)[0]:
            out += os.read(ours, 65536)
    except OSError:  # the last writer is gone
        pass
    os.close(ours)
    return harness.Result(process.wait(harness.LIMIT), out.decode(), "")
