"""witness.py tcp|udp ADDRESS PORT TO-PORT LOG: a relay that notes who came.

It stands in front of a server on 127.0.0.1, whatever that speaks, so that all programs are
judged alike: by the peer. LOG gets a line when a connection begins ("+ address port number")
and one when its client has ended it ("- ..."), in that order of time. A datagram is a "+" the
first time its sender is seen. Its last line of stdout is "ready"; it goes on until stdin ends.
"""

import asyncio
import contextlib
import itertools
import sys


class Log:
    """Lines are written out at once: they are read while the witness runs."""

    def __init__(self, path):
        self.file = open(path, "w", buffering=1)
        self.numbers, self.open = itertools.count(), set()

    def begin(self, peer):
        entry = f"{peer[0].removeprefix('::ffff:')} {peer[1]} {next(self.numbers)}"
        self.open.add(entry)
        print("+", entry, file=self.file)
        return entry

    def end(self, entry):
        if entry in self.open:
            self.open.remove(entry)
            print("-", entry, file=self.file)


async def pump(reader, writer, at_end=lambda: None):
    """One direction of a connection. Its end is handed on as an end, a reset as a reset."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        at_end()
        writer.write_eof()
    except OSError:
        at_end()
        writer.transport.abort()


async def relay(log, port, client_reader, client_writer):
    entry = log.begin(client_writer.get_extra_info("peername"))
    with contextlib.suppress(OSError):  # a server that is not there is the client's affair
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(client_reader, writer, lambda: log.end(entry)),
                             pump(reader, client_writer))
        writer.close()
    log.end(entry)
    client_writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """The side of the clients: each has a socket of its own towards the server."""

    def __init__(self, log, port):
        self.log, self.port, self.clients = log, port, {}

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        if peer not in self.clients:
            self.log.begin(peer)
            self.clients[peer] = asyncio.ensure_future(self.towards_server(peer))
        self.clients[peer] = asyncio.ensure_future(self.hand_on(self.clients[peer], data))

    async def towards_server(self, peer):
        answers, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Answers(self.transport, peer), remote_addr=("127.0.0.1", self.port))
        return answers

    @staticmethod
    async def hand_on(before, data):
        """After the datagram before it, so that they stay in order."""
        answers = await before
        answers.sendto(data)
        return answers


class Answers(asyncio.DatagramProtocol):
    def __init__(self, clients, peer):
        self.clients, self.peer = clients, peer

    def datagram_received(self, data, _):
        self.clients.sendto(data, self.peer)


async def main(kind, address, port, to_port, path):
    log = Log(path)
    loop = asyncio.get_running_loop()
    if kind == "tcp":
        await asyncio.start_server(lambda *streams: relay(log, int(to_port), *streams),
                                   address, int(port), backlog=4096)
    else:
        await loop.create_datagram_endpoint(lambda: Datagrams(log, int(to_port)),
                                            local_addr=(address, int(port)))
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
