"""A server that sends exactly what a test says."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"

Part = bytes | asyncio.Event | None
"""What comes next: bytes, the moment that an event is set, or the end of the connection."""
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"
"""The last chunk."""


class Server:
    """Answers every request with the next of ``answers``, part by part."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[list[Part]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.pause = 0.01
        """Seconds after each part, so that they arrive one by one."""
        self.closed = asyncio.Event()
        """Set when a client has closed its connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while True:
                self.requests.append(await read_request(reader))
                for part in self.answers.pop(0):
                    if part is None:
                        writer.close()
                        await writer.wait_closed()  # all of it: `listening` aborts what is left
                        return
                    await self._send(writer, part)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, part: bytes | asyncio.Event) -> None:
        if isinstance(part, asyncio.Event):
            await part.wait()
            return
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(self.pause)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """A whole request, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(length_of(head))


def length_of(head: bytes) -> int:
    """What a head says of its body's length."""
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)


@contextlib.asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve connections with ``handler``; gives the server's address as a URL. All are closed at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if context is not None else 'http'}://127.0.0.1:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
