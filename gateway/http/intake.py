"""Reads what clients send, little of it in one pass of the loop.

Left to itself uvloop reads up to 2 MiB from one connection before it does anything else, and the same from each other
one in the same pass. What is not read stays in the system's buffer, which slows the sender down.
"""

import asyncio
from collections import deque
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

SIZE = 64 * 1024
"""Bytes that are read at once: parsed within a millisecond, however they are framed."""

FIRST = 16 * 1024
"""Bytes that are read at once of a connection without a turn. Any number of these may be read from in one pass."""

AT_ONCE = 8
"""Connections that send more, and have their turn in one pass."""

_buffer = memoryview(bytearray(SIZE))
"""Of all connections: a read is parsed before the next one is made."""
_first = _buffer[:FIRST]


class Flow(FlowControl):
    """uvicorn's flow control. Moreover reading can rest, whatever the application does."""

    has_turn = False
    _rests = False

    def rest(self) -> None:
        self._rests = True
        self.has_turn = False
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._rests:
            self.read_paused = False
        else:
            super().resume_reading()

    def go_on(self) -> None:
        self._rests = False
        if not self.read_paused and not self._transport.is_closing():
            self.has_turn = True
            self._transport.resume_reading()


class Queue:
    """Connections whose reading rests because they send much. They go on in order, some in each pass of the loop."""

    def __init__(self) -> None:
        self._resting: deque[Flow] = deque()

    def add(self, flow: Flow) -> None:
        flow.rest()
        self._resting.append(flow)
        if len(self._resting) == 1:
            asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        for _ in range(min(AT_ONCE, len(self._resting))):
            self._resting.popleft().go_on()
        if self._resting:
            asyncio.get_running_loop().call_soon(self._pass)


class Served(Protocol):
    """The protocol that is given what was read."""

    flow: Flow

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Intake(asyncio.BufferedProtocol):
    """Stands between a transport and the protocol that it serves."""

    def __init__(self, served: Served, queue: Queue) -> None:
        self._served = served
        self._queue = queue
        self.connection_lost = served.connection_lost  # type: ignore[method-assign]
        self.eof_received = served.eof_received  # type: ignore[method-assign]
        self.pause_writing = served.pause_writing  # type: ignore[method-assign]
        self.resume_writing = served.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._served.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer if self._served.flow.has_turn else _first

    def buffer_updated(self, nbytes: int) -> None:
        flow = self._served.flow
        if nbytes == (SIZE if flow.has_turn else FIRST):  # there may be more
            self._queue.add(flow)
        else:
            flow.has_turn = False
        self._served.data_received(bytes(_buffer[:nbytes]))
