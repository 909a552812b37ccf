"""A consumer that keeps what it is given."""

import asyncio

import httpx2

from worker.wire.transport import Body


class Kept:
    """The body so far, and how it ended."""

    def __init__(self, body: Body | None = None) -> None:
        self.pieces: list[bytes] = []
        self.ended: object = None
        self._changed = asyncio.Event()
        if body is not None:
            body.deliver_to(self)

    @property
    def all(self) -> bytes:
        """What was received."""
        return b"".join(self.pieces)

    def data_received(self, data: bytes) -> None:
        assert self.ended is None
        self.pieces.append(data)
        self._changed.set()

    def eof_received(self) -> None:
        assert self.ended is None
        self.ended = True
        self._changed.set()

    def failed(self, error: httpx2.TransportError) -> None:
        assert self.ended is None
        self.ended = error
        self._changed.set()

    async def some(self, size: int = 1) -> bytes:
        """Wait for ``size`` bytes. Raises what the body failed with before."""
        while len(self.all) < size:
            self._raise()
            await self._wait()
        return self.all

    async def whole(self) -> bytes:
        """Wait for the end. Raises what the body failed with."""
        while self.ended is None:
            await self._wait()
        self._raise()
        return self.all

    def _raise(self) -> None:
        if isinstance(self.ended, httpx2.TransportError):
            raise self.ended

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
