"""Requests' bodies as they are read, and the memory that all of them together may take."""

import asyncio
import contextlib
import time

from fastapi import Request
from starlette.requests import ClientDisconnect

from fleet.process.turns import Turn, Turns
from gateway.errors import BodyTooLarge, MalformedBody, Unavailable
from gateway.faces.outline import WINDOW, Outline

SMALL = 64 * 1024
"""Bytes of a body that may use all of the memory for bodies. Larger ones leave a quarter of it to these."""

SHORT = 4 * 1024
"""Bytes of a body that is read in a millisecond, whatever it holds."""


class Body:
    """One request's body, and its part of the memory for all of them.

    The part is kept after ``text`` was let go, for what was made of it, until :meth:`release`.
    """

    def __init__(self, bodies: "Bodies") -> None:
        self.text = bytearray()
        self.outline = Outline()
        self.size = 0
        self.dropped = False
        """Whether it had to make room for others while it was read."""
        self._bodies = bodies
        self._began = time.monotonic()
        self._deadline: asyncio.Timeout | None = None

    def cost(self, now: float) -> float:
        """What it has taken so far, in bytes times seconds."""
        return self.size * (now - self._began)

    async def read(self, request: Request, limit: int, timeout: float) -> None:
        """Receive it, within ``timeout`` seconds. Raises a :class:`GatewayError`."""
        try:
            async with asyncio.timeout(timeout) as self._deadline:
                await self._receive(request, limit)
        except TimeoutError:
            if self.dropped:
                raise _overloaded() from None
            raise MalformedBody("body_timeout", f"the body did not arrive within {timeout:g} s", status=408) from None
        if self.dropped:  # its end came in the same moment, and its beginning is gone
            raise _overloaded()

    def work(self) -> "Work":
        """While something is made of the text, which is let go at the end: in turns, one large body at a time."""
        return Work(self, self._bodies)

    def drop(self) -> None:
        """Give its memory back at once, and end its reading."""
        self.dropped = True
        self.release()
        with contextlib.suppress(RuntimeError):  # its time is over already
            if self._deadline is not None:
                self._deadline.reschedule(asyncio.get_running_loop().time())

    def release(self) -> None:
        """Give its part of the memory back."""
        self.text = bytearray()
        self._bodies.give_back(self)

    async def _receive(self, request: Request, limit: int) -> None:
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message["body"], message["more_body"]
            if self.size + len(part) > limit:
                raise BodyTooLarge(limit)  # the connection discards the rest, so that the client reads the answer
            self._bodies.make_room(self, len(part))
            self.text += part
            await self._examine(part)
            del message, part  # not kept beside the text while the next one is waited for
        self.outline.end()

    async def _examine(self, part: bytes) -> None:
        async with self._bodies.turns.turn(short=len(part) <= SHORT) as turn:
            for start in range(0, len(part), WINDOW):
                await turn.pause()
                self.outline.feed(part[start : start + WINDOW])


class Work:
    """An asynchronous context; see :meth:`Body.work`."""

    def __init__(self, body: Body, bodies: "Bodies") -> None:
        self._body = body
        self._large = bodies.large if body.size > SMALL else None
        self._turn = bodies.turns.turn(short=body.size <= SHORT)

    async def __aenter__(self) -> Turn:
        if self._large is not None:
            await self._large.acquire()
        try:
            return await self._turn.__aenter__()
        except BaseException:
            self._end()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._turn.__aexit__()
        self._end()

    def _end(self) -> None:
        self._body.text = bytearray()
        if self._large is not None:
            self._large.release()


class Bodies:
    """The bodies that are held: read, or used by requests that wait for their first token.

    ``limit`` is in bytes. A body that finds no room takes it from the one that is being read and has cost most in
    bytes times seconds; that may be itself.
    """

    def __init__(self, limit: int, turns: Turns) -> None:
        self.turns = turns
        self.held = 0
        self._limit = limit
        self._reading: set[Body] = set()
        self.large = asyncio.Lock()
        """Held while something is made of a large body, which takes up to three times its size besides."""

    async def read(self, request: Request, limit: int, timeout: float) -> Body:
        """A request's whole body; :meth:`Body.release` must follow. Raises a :class:`GatewayError`."""
        body = Body(self)
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
        """Let ``body`` grow by ``size`` bytes. Raises :class:`Unavailable`."""
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
        """Take a body's size off what is held."""
        self.held -= body.size
        body.size = 0


def _overloaded() -> Unavailable:
    return Unavailable("overloaded", "this gateway holds as much of requests' bodies as it may: try again later")
