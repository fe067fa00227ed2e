"""connections.py sync|asyncio|subprocess|datagrams URL COUNT: Python's ways to make connections."""

import asyncio
import socket
import struct
import subprocess
import sys
import urllib.parse
import urllib.request


def by_urllib(url, count):
    for _ in range(count):
        print(urllib.request.urlopen(url).read().decode())


def by_asyncio(url, count):
    where = urllib.parse.urlsplit(url)

    async def one():
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.decode().rsplit("\n", 1)[1]

    async def everyone():
        print(*await asyncio.gather(*[one() for _ in range(count)]), sep="\n")

    asyncio.run(everyone())


def by_subprocess(url, count):
    """Children that connect, while connections of ours are open and are used afterwards."""
    where = urllib.parse.urlsplit(url)
    ours = [socket.create_connection((where.hostname, where.port)) for _ in range(count // 2)]
    children = [subprocess.Popen([sys.executable, __file__, "sync", url, "1"], stdout=subprocess.PIPE, text=True)
                for _ in range(count - count // 2)]
    for child in children:
        print(child.communicate()[0], end="")
    for one in ours:
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with one, one.makefile() as answer:
            print(answer.read().rsplit("\n", 1)[1])


def by_datagrams(url, count):
    """Connected UDP sockets, all at once, each with a question to a name server."""
    where = urllib.parse.urlsplit(url)
    family, kind, _, _, address = socket.getaddrinfo(where.hostname, where.port, type=socket.SOCK_DGRAM)[0]
    ours = [socket.socket(family, kind) for _ in range(count)]
    for number, one in enumerate(ours):
        one.settimeout(60)
        one.connect(address)
        one.send(struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + b"\1a\7example\0\0\1\0\1")
    for number, one in enumerate(ours):
        answer = one.recv(512)
        assert answer[:2] == struct.pack("!H", number)
        print(socket.inet_ntoa(answer[-4:]))


WAYS = {"sync": by_urllib, "asyncio": by_asyncio, "subprocess": by_subprocess, "datagrams": by_datagrams}
WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
