"""An OpenAI-compatible model server that costs little and keeps its schedule: ``python -m bench.backend PORT``.

``POST /v1/chat/completions`` streams what the :class:`~bench.order.Order` in the request asks for: as real servers do,
one server-sent event and one HTTP chunk per token. When the request arrives, the time of every token is fixed, so a
late token delays no other. ``GET /log`` lists the requests since ``DELETE /log``; gateways ask for ``/v1/models`` and
``/health``.
"""

import asyncio
import heapq
import itertools
import resource
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import httptools
import orjson

from bench.frames import MODEL, Frames
from bench.order import Order
from fleet.process import arguments

BURST = 32
"""Tokens in one write when a reply is sent flat out."""
BUFFER = 64 * 1024
"""Bytes buffered for a slow reader before a reply pauses."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


@dataclass
class Record:
    """One request as the backend saw it; times are of the monotonic clock, in seconds."""

    id: str
    received: float
    sent: int = 0
    """Tokens given to the socket."""
    finished: float | None = None
    closed: float | None = None
    """When the client closed the connection before the end of the reply."""


class Log:
    """The requests since it was last cleared."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def open(self, order: Order) -> Record:
        record = Record(order.id, time.monotonic())
        self.records.append(record)
        return record

    def as_json(self) -> bytes:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        active = sum(record.finished is None and record.closed is None for record in self.records)
        return orjson.dumps(
            {
                "active": active,
                "cpu": usage.ru_utime + usage.ru_stime,
                "records": [asdict(record) for record in self.records],
            }
        )


class Pacer:
    """Resumes streams when they are due. They share one timer: a timer per token would cost more than its sending."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, Stream]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.Handle | None = None

    def wake(self, stream: "Stream", at: float) -> None:
        """Call ``stream.go_on`` at that time of the monotonic clock."""
        heapq.heappush(self._due, (at, next(self._numbers), stream))
        if self._due[0][2] is stream:
            self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            at = self._due[0][0]
            late = at <= time.monotonic()
            self._timer = self._loop.call_soon(self._wake) if late else self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        """Resume every stream that is due, once each; one that is due again waits for the loop's next turn."""
        self._timer = None
        now = time.monotonic()
        again = []
        while self._due and self._due[0][0] <= now:
            _, number, stream = heapq.heappop(self._due)
            at = stream.go_on(now)
            if at is not None:
                again.append((at, number, stream))
        for entry in again:
            heapq.heappush(self._due, entry)
        self._set()


class Stream:
    """Sends one reply on its schedule."""

    def __init__(self, order: Order, record: Record, transport: asyncio.Transport, pacer: Pacer, usage: bool) -> None:
        self._pacer = pacer
        self._order = order
        self._record = record
        self._transport = transport
        self._frames = Frames(order, usage)
        self._paused = self._gone = self._began = False
        self._waits = False
        self._next = 0
        self._start = record.received + order.first / 1000
        transport.write(_HEAD)
        self._wait(self._start)

    def _wait(self, at: float) -> None:
        self._waits = True
        self._pacer.wake(self, at)

    def go_on(self, now: float) -> float | None:
        """Send what is due. Returns when to continue; None at the end, and while the client reads too slowly."""
        order = self._order
        self._waits = False
        if self._gone or self._paused:
            return None
        if not self._began:
            self._began = True
            self._transport.write(_chunks(self._frames.opening()))
        if order.pace:
            due = min(order.tokens, int((now - self._start) * 1000 / order.pace + 1e-6) + 1)
        else:
            due = min(order.tokens, self._next + BURST)
        if due > self._next:
            self._send(due)
        if self._next >= order.tokens:
            self._finish()
            return None
        self._waits = True
        return self._start + self._next * order.pace / 1000 if order.pace else now

    def _send(self, due: int) -> None:
        now = time.monotonic_ns() // 1000
        events = [self._frames.token(place, now) for place in range(self._next, due)]
        self._next = self._record.sent = due
        self._transport.write(_chunks(events))

    def _finish(self) -> None:
        self._record.finished = time.monotonic()
        self._transport.write(_chunks(self._frames.ending()) + _END)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if not self._waits and self._record.finished is None:
            self._wait(time.monotonic())

    def abandon(self) -> None:
        """The client has closed the connection."""
        self._gone = True
        if self._record.finished is None:
            self._record.closed = time.monotonic()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self, log: Log, pacer: Pacer) -> None:
        self._log = log
        self._pacer = pacer
        self._url = b""
        self._body: list[bytes] = []
        self._stream: Stream | None = None
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(BUFFER)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        method, path = self._parser.get_method(), self._url.partition(b"?")[0]
        order = Order.find(body) if method == b"POST" and path.endswith(b"/chat/completions") else None
        if order is not None:
            usage = bool((orjson.loads(body).get("stream_options") or {}).get("include_usage"))
            self._stream = Stream(order, self._log.open(order), self._transport, self._pacer, usage)
        else:
            self._transport.write(_whole(*self._answer(method, path)))

    def _answer(self, method: bytes, path: bytes) -> tuple[bytes, bytes]:
        match method, path:
            case b"GET", b"/log":
                return b"200 OK", self._log.as_json()
            case b"DELETE", b"/log":
                self._log.records.clear()
                return b"200 OK", b"{}"
            case b"GET", b"/v1/models":
                model: dict[str, Any] = {"id": MODEL, "object": "model", "created": 0, "owned_by": "bench"}
                return b"200 OK", orjson.dumps({"object": "list", "data": [model]})
            case b"GET", b"/health":
                return b"200 OK", b"{}"
        return b"404 Not Found", b'{"error":{"message":"no such path, or no order in the request"}}'

    def pause_writing(self) -> None:
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        if self._stream is not None:
            self._stream.resume()

    def connection_lost(self, error: Exception | None) -> None:
        if self._stream is not None:
            self._stream.abandon()


def _chunks(events: Iterable[bytes]) -> bytes:
    """Each event in an HTTP chunk of its own."""
    return b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in events])


def _whole(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


async def serve(port: int) -> None:
    """Serve on loopback until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log, pacer = Log(), Pacer()
    server = await loop.create_server(lambda: Connection(log, pacer), "127.0.0.1", port, backlog=4096)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    (port,) = arguments.read("bench.backend", "A model server that keeps its schedule.", "PORT")
    asyncio.run(serve(int(port)))
