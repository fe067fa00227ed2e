"""connections.py sync|asyncio|subprocess URL COUNT: Python's ways to make connections."""

import asyncio
import socket
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


WAYS = {"sync": by_urllib, "asyncio": by_asyncio, "subprocess": by_subprocess}
WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
