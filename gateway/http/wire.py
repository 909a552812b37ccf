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
        self.abort = transport.abort  # type: ignore[method-assign]

    @property
    def writable(self) -> bool:
        return not self._flow.write_paused

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._transport.is_closing():  # else uvloop raises; the application is told of the end soon
            self._transport.write(data)

    def write_chunk(self, chunk: bytes) -> None:
        """Write a chunk of a body that has begun and whose length is not known."""
        # uvicorn sends every such body in chunks, whatever version the client speaks.
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def unsent(self) -> int:
        """Bytes that the client has not acknowledged. Fewer of them mean that it reads."""
        # The transport's buffer alone does not tell: the system's takes megabytes, and more only when a third is free.
        waiting = self._transport.get_write_buffer_size()
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):
                queued = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
                waiting += int.from_bytes(queued, sys.byteorder)
        return waiting
