"""An HTTP/1.1 client that shows what went over the wire: every chunk of a chunked body as the server framed it."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

Address = tuple[str, int]

LIMIT = 1024 * 1024
"""Bytes that the client reads ahead of the test."""


class Connection:
    """One keep-alive connection. Leaving its ``async with`` closes it."""

    def __init__(self, address: Address, limit: int = LIMIT, receive_buffer: int | None = None) -> None:
        self._address = address
        self._limit = limit
        self._receive_buffer = receive_buffer
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            sock.close()
            raise
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=self._limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def reset(self) -> None:
        """Leave with an RST, as a killed client does."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> "Response":
        """Send a request and read the head of its answer, which may come before all of the body was sent."""
        self.send(method, path, body, headers)
        return await self.answer()

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Write a request; the socket takes it as it can."""
        host, port = self._address
        fields = {"host": f"{host}:{port}"} | dict(headers or {})
        if "transfer-encoding" not in fields:
            fields.setdefault("content-length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        self._writer.write(body)

    async def at_end(self) -> bool:
        """Whether the next thing that the server sends is nothing more."""
        return not await self._reader.read(1)

    async def answer(self) -> "Response":
        """Read the head of the next answer."""
        status_line, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        pairs = (field.split(":", 1) for field in fields)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        return Response(int(status_line.split()[1]), headers, self._reader)


class Response:
    """An answer whose head has arrived."""

    def __init__(self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of the body, as they were framed. A body cut off raises ``IncompleteReadError``."""
        assert self.headers.get("transfer-encoding") == "chunked", self.headers
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            chunk = await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
            yield chunk
        assert await self._reader.readexactly(2) == b"\r\n", "trailers"

    async def body(self) -> bytes:
        """The whole body."""
        if "content-length" in self.headers:
            return await self._reader.readexactly(int(self.headers["content-length"]))
        return b"".join([chunk async for chunk in self.chunks()])

    async def json(self) -> Any:
        """The whole body, which is one JSON value."""
        return json.loads(await self.body())


async def get_json(address: Address, path: str) -> tuple[int, Any]:
    """Status and JSON of a ``GET`` over a connection of its own."""
    async with Connection(address) as connection:
        response = await connection.request("GET", path)
        return response.status, await response.json()
