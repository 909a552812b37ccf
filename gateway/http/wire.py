"""The way past ASGI's ``send``, which costs more than all else, for answers that write one small chunk after another.

The server puts a :class:`Wire` into ``scope["extensions"]``. The status line and the body's end still go by ``send``.
"""

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

EXTENSION = "chatfleet"

BEGINNING = b"HTTP/1.1 "
"""What every answer begins with, whatever its status."""


class Wire(asyncio.Transport):
    """One HTTP/1 connection, for a response; and its transport, for uvicorn's request cycle.

    :meth:`drain` waits until it is writable, :meth:`abort` drops the connection, whatever is unsent.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: FlowControl,
        close: Callable[[], None],
        is_closing: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._transport = transport
        self._flow = flow
        self.close = close  # type: ignore[method-assign]
        self.is_closing = is_closing  # type: ignore[method-assign]
        self.drain = flow.drain
        self.chunked = True
        """Whether a body of unknown length is framed; HTTP/1.0 ends it with the connection."""
        self.ping: Callable[[], bytes] | None = None
        """Makes something that the answer may hold anywhere, once it has begun."""
        self._early = 0
        self.abort = transport.abort  # type: ignore[method-assign]

    @property
    def writable(self) -> bool:
        return not self._flow.write_paused

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._early:
            data, self._early = bytes(data)[self._early :], 0
        if not self._transport.is_closing():  # else uvloop raises; the application is told of the end soon
            self._transport.write(data)

    def write_chunk(self, chunk: bytes) -> None:
        """Write a chunk of a body that has begun and whose length is not known."""
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self.chunked else chunk)

    def probe(self, begun: bool) -> None:
        """Write a little of the answer now, whether it has ``begun`` or not.

        A client that has closed its connection answers with a reset, at which the next write fails.
        """
        if self._transport.is_closing() or not self.writable:
            return
        if not begun:
            self._transport.write(BEGINNING[self._early : self._early + 1])
            self._early = min(self._early + 1, len(BEGINNING))
        elif self.ping is not None and (ping := self.ping()):
            self.write_chunk(ping)

    def unsent(self) -> int:
        """Bytes that the client has not acknowledged. Fewer of them mean that it reads."""
        # The transport's buffer alone does not tell: the system's takes megabytes, and more only when a third is free.
        waiting = self._transport.get_write_buffer_size()
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):
                queued = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
                waiting += int.from_bytes(queued, sys.byteorder)
        return waiting
