"""Reads requests' bodies within a bound on the memory of all of them together."""

import asyncio
import contextlib
import time
from codecs import BOM_UTF8 as BOM
from collections.abc import AsyncIterator, Iterator

from starlette.requests import ClientDisconnect, Request

from fleet.process.turns import Turn, Turns
from gateway.errors import MalformedBody, Unavailable
from gateway.faces.compression import MEMORY, inflater
from gateway.faces.outline import MAX_VALUES, WINDOW, Outline

SMALL = 64 * 1024
"""Bytes up to which a body may use all of the memory for bodies. Larger ones leave it a quarter."""

SHORT = 4 * 1024
"""Bytes that are examined within a millisecond, whatever they are."""


class Body:
    """One request's body, and its share of the memory for all of them.

    ``text`` is freed when :meth:`work` is done. The share is kept for what was made of it, until :meth:`release`.
    """

    def __init__(self, bodies: "Bodies", max_values: int = MAX_VALUES) -> None:
        self.text = bytearray()
        self.outline = Outline(max_values)
        self.size = 0
        self.dropped = False
        self._bodies = bodies
        self._began = time.monotonic()
        self._deadline: asyncio.Timeout | None = None

    def cost(self, now: float) -> float:
        """What it has used so far, in bytes times seconds."""
        return self.size * (now - self._began)

    async def read(self, request: Request, limit: int, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout) as self._deadline:
                await self._receive(request, limit)
        except TimeoutError:
            if self.dropped:
                raise _overloaded() from None
            raise MalformedBody("body_timeout", f"the body did not arrive within {timeout:g} s", status=408) from None
        if self.dropped:  # in the turn of the loop in which its end arrived, too late for the timeout
            raise _overloaded()

    @contextlib.asynccontextmanager
    async def work(self) -> AsyncIterator[Turn]:
        """Make something of ``text``, in turns with all other work and one large body at a time; then free it."""
        small = self.size <= SMALL
        async with contextlib.nullcontext() if small else self._bodies.large:
            try:
                async with self._bodies.turns.turn(short=small) as turn:
                    yield turn
            finally:
                self.text = bytearray()

    def drop(self) -> None:
        self.dropped = True
        self.release()
        with contextlib.suppress(RuntimeError):  # the timeout has expired already
            if self._deadline is not None:
                self._deadline.reschedule(asyncio.get_running_loop().time())

    def release(self) -> None:
        self.text = bytearray()
        self._bodies.give_back(self)

    async def _receive(self, request: Request, limit: int) -> None:
        inflate = inflater(request)
        if inflate is not None:
            self._bodies.make_room(self, MEMORY)
        received = 0
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message["body"], message["more_body"]
            received += len(part)
            _check_size(received, limit)
            async with self._bodies.turns.turn(short=len(part) <= SHORT and inflate is None) as turn:
                for piece in inflate.feed(part) if inflate is not None else _windows(part):
                    self._take(piece, limit)
                    await turn.pause()
            del message, part  # no second copy beside the text while the next one is awaited
        if inflate is not None:
            inflate.end()
        self.outline.end()
        if self.text.startswith(BOM):
            del self.text[: len(BOM)]

    def _take(self, piece: bytes, limit: int) -> None:
        _check_size(len(self.text) + len(piece), limit)
        self._bodies.make_room(self, len(piece))
        self.text += piece
        self.outline.feed(piece)


class Bodies:
    """All bodies that are being read or belong to requests without their first token; ``limit`` is in bytes.

    If there is no room, the body that is being read and has cost most is dropped: slow clients keep no others out.
    """

    def __init__(self, limit: int, turns: Turns) -> None:
        self.turns = turns
        self.held = 0
        self._limit = limit
        self._reading: set[Body] = set()
        self.large = asyncio.Lock()
        """Held while a large body is worked on, which takes up to three times its size."""

    async def read(self, request: Request, limit: int, timeout: float, max_values: int = MAX_VALUES) -> Body:
        """Read a request's body, which the caller must release. Raises a :class:`GatewayError`."""
        body = Body(self, max_values)
        self._reading.add(body)
        try:
            await body.read(request, limit, timeout)
        except BaseException:
            body.release()
            raise
        finally:
            self._reading.discard(body)
        return body

    def make_room(self, body: Body, size: int) -> None:
        """Let ``body`` grow by ``size`` bytes, or raise :class:`Unavailable`."""
        most = self._limit if body.size + size <= SMALL else self._limit - self._limit // 4
        now = time.monotonic()
        body.size += size
        self.held += size
        while self.held > most:
            dearest = max(self._reading, key=lambda other: other.cost(now))
            if dearest is body:
                raise _overloaded()
            dearest.drop()

    def give_back(self, body: Body) -> None:
        self.held -= body.size
        body.size = 0


def _windows(part: bytes) -> Iterator[bytes]:
    return (part[start : start + WINDOW] for start in range(0, len(part), WINDOW))


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        # The connection discards the rest, so that the client can read the answer.
        reason = f"the body is larger than the {limit} bytes allowed here"
        raise MalformedBody("body_too_large", reason, status=413)


def _overloaded() -> Unavailable:
    return Unavailable("overloaded", "this gateway holds as much of requests' bodies as it may: try again later")
