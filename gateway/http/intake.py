"""What a connection receives: little of it is taken at once, much of it in turns with what others receive.

One pass of the loop reads up to 256 KB from each connection, and what that takes to parse depends on who sent it: in
chunks of five bytes six times as long as in one.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

from fleet.process.turns import Turns

SHORT = 4 * 1024
"""Bytes that are parsed within half a millisecond, whatever they are."""

PIECE = 16 * 1024
"""Bytes between two looks at the clock, and between two counts of what is not payload."""


class Flow(FlowControl):
    """uvicorn's flow control, which moreover reads nothing while something is held to be taken."""

    _holds = False

    def hold(self) -> None:
        self._holds = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        self._holds = False
        if not self.read_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        if self._holds:
            self.read_paused = False
        else:
            super().resume_reading()


class Intake:
    """Gives ``take`` what one connection receives, in order and in pieces of at most ``PIECE`` bytes."""

    def __init__(self, transport: asyncio.Transport, flow: Flow, turns: Turns, take: Callable[[bytes], None]) -> None:
        self._transport = transport
        self._flow = flow
        self._turns = turns
        self._take = take
        self._task: asyncio.Task[None] | None = None

    def receive(self, data: bytes) -> None:
        """Take what was read. Nothing more is read, and no end of file is seen, before all of it is taken."""
        if len(data) <= SHORT:
            self._take(data)
        else:
            self._flow.hold()
            self._task = asyncio.create_task(self._take_in_turns(data))

    def end(self) -> None:
        """Take nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _take_in_turns(self, data: bytes) -> None:
        async with self._turns.turn() as turn:
            for start in range(0, len(data), PIECE):
                if self._transport.is_closing():
                    return
                self._take(data[start : start + PIECE])
                await turn.pause()
        self._flow.go_on()
