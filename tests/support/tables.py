"""Tables to do something to: left behind by a program that is gone, changed in place, filled."""

import struct


def leave(host, **settings):
    """The path of the table that a program made which is gone."""
    before = set(host.tables())
    host.must("true", preload="run", **settings)
    [path] = set(host.tables()) - before
    return path


def patch(path, offset, form, change):
    """Changes one number of a file in place."""
    with open(path, "r+b") as file:
        file.seek(offset)
        [number] = struct.unpack(form, file.read(struct.calcsize(form)))
        file.seek(offset)
        file.write(struct.pack(form, change(number)))


def fill(host, port):
    """A program with the smallest table, which it fills with destinations."""
    steps = host.steps(table_size="256K")
    steps.socket()
    count = 0
    while host.status()["counters"]["table_full"] == 0:
        assert (count := count + 1) < 100, "never full"
        for i in range(50):
            steps.connect(steps.socket(), f"127.1.{count}.{i}", port)
    return steps
