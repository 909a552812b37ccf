"""The load generator, a process of its own: ``python -m bench.load``.

Reads one :class:`Load` as a line of JSON, runs it, reads the window ``[from, to]`` in which tokens are to be counted
(monotonic clock, seconds) as a second line, and prints the :class:`~bench.result.Result` as a line; then it repeats.
While a load runs, it only stores what arrives with its time. It parses and checks replies when the load has ended.
"""

import asyncio
import contextlib
import gc
import socket
import sys
import time
from dataclasses import dataclass

import httptools
import orjson

from bench.order import TOOL, Frames, Kind, Order
from bench.recording import Recording, read
from bench.result import Result, summarise
from fleet.process import arguments

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Keeps a note.",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        },
    }
]
"""Offered in requests for a tool call."""
FILLER = "The quick brown fox jumps over the lazy dog. "


@dataclass(frozen=True)
class Load:
    """``streams`` clients, which begin in turn over ``ramp`` seconds from ``start`` (monotonic clock).

    Each makes ``requests`` requests on one connection. Times are seconds, but ``pace`` and ``first`` are milliseconds,
    as in an order.
    """

    ports: list[int]
    """Streams use them in turn."""
    model: str
    key: str
    id: str
    start: float
    streams: int = 1
    requests: int = 1
    ramp: float = 0.0
    tokens: int = 1
    pace: float = 0.0
    first: float = 0.0
    kind: Kind = "text"
    frames: Frames = "changing"
    history: int = 0
    """Bytes of conversation that each request carries besides its order."""
    limit: float = 60.0
    """How long after ``start`` the clients that are not done leave."""
    leave_after: int | None = None
    """Leave after this many reads of the response; 0: a quarter of a second after the request."""
    stalled: bool = False
    """Send the request and read nothing."""


class Client(asyncio.BufferedProtocol):
    """One HTTP/1.1 connection, one request at a time; records what it reads."""

    _buffer = memoryview(bytearray(256 * 1024))
    """Shared by all clients, because data is copied out before the next read. ``asyncio.Protocol`` would allocate a
    buffer of this size for every read, which costs more than everything else here."""

    def __init__(self, leave_after: int | None) -> None:
        self._leave_after = leave_after
        self._recording: Recording | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def stop_reading(self) -> None:
        self._transport.pause_reading()

    def ask(self, request: bytes, recording: Recording) -> asyncio.Future[None]:
        """Send a request. The future is done when its response or the connection has ended."""
        self._recording = recording
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        recording.asked = time.monotonic()
        self._transport.write(request)
        return self._done

    def get_buffer(self, hint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        if self._recording is None:
            return
        data = bytes(self._buffer[:size])
        self._recording.segments.append((time.monotonic(), data))
        self._parser.feed_data(data)
        if self._leave_after and len(self._recording.segments) >= self._leave_after:
            self.leave()

    def on_message_complete(self) -> None:
        assert self._recording is not None
        self._recording.complete = True
        self._settle()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._settle()

    def leave(self) -> None:
        """Close the connection, even in the middle of a response."""
        if self._recording is not None and not self._recording.complete:
            self._recording.cut = time.monotonic()
        self._recording = None
        self._transport.abort()
        self._settle()

    def _settle(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


class Clients:
    """The clients of one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.recordings: list[Recording] = []

    async def run(self) -> None:
        """Returns when all clients are done or have left."""
        clients = [asyncio.create_task(self._client(number)) for number in range(self._load.streams)]
        await asyncio.wait(clients, timeout=max(0.0, self._load.start + self._load.limit - time.monotonic()))
        for client in clients:
            client.cancel()
        for outcome in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _client(self, number: int) -> None:
        load = self._load
        await asyncio.sleep(max(0.0, load.start + load.ramp * number / load.streams - time.monotonic()))
        client: Client | None = None
        port = load.ports[number % len(load.ports)]
        try:
            for turn in range(load.requests):
                name = f"{load.id}x{number:x}x{turn:x}"
                order = Order(name, load.tokens, load.pace, load.first, load.kind, load.frames)
                recording = Recording(order, time.monotonic())
                self.recordings.append(recording)
                if client is None or not client.is_open:
                    client = await self._connect(port)
                await self._ask(client, order, recording)
        finally:
            if client is not None:
                client.leave()

    async def _connect(self, port: int) -> Client:
        load = self._load
        connection = socket.socket()
        if load.stalled:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", port))
        _, client = await loop.create_connection(lambda: Client(load.leave_after), sock=connection)
        return client

    async def _ask(self, client: Client, order: Order, recording: Recording) -> None:
        if self._load.stalled:
            client.stop_reading()
        answered = client.ask(self._request(order), recording)
        if self._load.leave_after == 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answered, 0.25)
            client.leave()
        else:
            await answered

    def _request(self, order: Order) -> bytes:
        load = self._load
        filler = FILLER * (load.history // len(FILLER) // 10)
        history = [
            {"role": ("user", "assistant")[turn % 2], "content": filler} for turn in range(10 if load.history else 0)
        ]
        messages = [*history, {"role": "user", "content": order.text()}]
        tools = {"tools": TOOLS} if load.kind == "tools" else {}
        body = orjson.dumps({"model": load.model, "messages": messages, "stream": True, **tools})
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {load.key}\r\n"
            f"content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def serve() -> None:
    """Run loads from standard input until it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        load = Load(**orjson.loads(line))
        clients = Clients(load)
        gc.disable()
        used = time.process_time()
        await clients.run()
        used = time.process_time() - used
        gc.enable()
        window: tuple[float, float] = orjson.loads(await loop.run_in_executor(None, sys.stdin.readline))
        result: Result = summarise(
            [read(recording) for recording in clients.recordings], clients.recordings, window, used
        )
        print(result.as_json(), flush=True)
        del clients, result


if __name__ == "__main__":
    arguments.read("bench.load", "Generate load: reads orders from standard input, and prints what came of them.")
    asyncio.run(serve())
