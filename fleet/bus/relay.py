"""The relay: a member's second connection to the host, which carries its events.

gRPC stays what joins, registers, subscribes and tells who lives, and what stock AutoGen members use. Events have the
relay because of what they cost: grpc.aio passes 1,200 to 1,700 messages a second on one core, the relay 58,000 to
65,000. A message every 10 ms costs the three processes on its way 1.1 ms of CPU by gRPC, where three threads have to
wake up for it in each process, and 0.2 ms by the relay. The price is this module and its other end in the host, about
400 lines, and a port.

The host tells a member the relay's port and a ticket in the initial metadata of its gRPC stream. The member dials that
port at the host's address by TCP, or by TLS where the fleet has it. Both sides send frames: four bytes of length,
big-endian, and as many bytes. The member's first frame is its ticket, which the host answers with a pong. A frame
without content is a ping, a single zero byte its pong. Any other is an event: the topic's type and the message's full
name, each after a byte of length, and the message. The relay is a part of the link: either connection's end is the end
of both.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from google.protobuf.message import Message

TICKET: Final = "chatfleet-relay-ticket"
PORT: Final = "chatfleet-relay-port"
"""Keys of the initial metadata. Earlier versions announced a relay at gRPC's own port, as ``chatfleet-relay``. Beside a
host or a member of such a version the other side finds no key that it knows, and events pass by gRPC."""

HEAD = struct.Struct(">I")
PING: Final = HEAD.pack(0)
PONG: Final = HEAD.pack(1) + b"\0"

_SENT_BY: Final = 15 << 3 | 2
"""Tag of the field ``sent_by``: its number and its wire type."""

FIRST_BYTES = 256
"""Largest frame before the ticket was accepted."""

FRAMES = 500
"""Frames that are handled before the rest of the loop runs: one read may bring 65,000 pings or 17,000 events."""

CHECK_EVERY = 1.0
"""Seconds between two checks for a silent peer."""


class RelayRefused(Exception):
    """The host closed the connection instead of accepting the ticket."""


def pack(topic: str, message: Message, stamp: bytes = b"") -> bytes:
    return pack_bytes(topic, message.DESCRIPTOR.full_name, message.SerializeToString(), stamp)


def pack_bytes(topic: str, name: str, payload: bytes, stamp: bytes = b"") -> bytes:
    """An event as a frame. Raises ``OverflowError`` for what does not :func:`fit <fits>`.

    With the member's own :func:`stamp` in front, the host need not copy the frame to put it there.
    """
    labels = _labels(topic, name, stamp)
    return b"".join((HEAD.pack(len(labels) + len(payload)), labels, payload))


@functools.lru_cache(1024)
def _labels(topic: str, name: str, stamp: bytes) -> bytes:
    where, what = topic.encode(), name.encode()
    return b"%c%b%c%b%b" % (len(where), where, len(what), what, stamp)


def stamp(member_id: str) -> bytes:
    """The field ``sent_by`` of ``protos/chat.proto``, encoded; for ids of up to 127 bytes.

    It stands in front of a message, where it is the field's first value whatever follows. Behind the message, a last
    field that claims to be longer than it is could swallow it.
    """
    value = member_id.encode()
    return b"%c%c%b" % (_SENT_BY, len(value), value)


def stamped(frame: bytes, payload_at: int, stamp: bytes) -> bytes:
    """The frame with ``stamp`` put in front of its message, which begins at ``payload_at``. Raises ``IndexError``."""
    if payload_at > len(frame):
        raise IndexError("a frame ends within its message's name")
    head = HEAD.pack(len(frame) - HEAD.size + len(stamp))
    return b"%b%b%b%b" % (head, frame[HEAD.size : payload_at], stamp, frame[payload_at:])


def fits(topic: str, name: str) -> bool:
    return max(len(topic.encode()), len(name.encode())) < 256


def unpack(frame: bytes) -> tuple[str, str, bytes]:
    """Topic type, full name and encoded message of a frame that holds an event. Raises ``ValueError``."""
    name_at = 5 + frame[4]
    if name_at >= len(frame):
        raise ValueError("a frame ends within its topic")
    payload_at = name_at + 1 + frame[name_at]
    if payload_at > len(frame):
        raise ValueError("a frame ends within its message's name")
    return frame[5:name_at].decode(), frame[name_at + 1 : payload_at].decode(), frame[payload_at:]


class Relay(asyncio.Protocol):
    """One end of a relay: passes each event's frame to ``received``, and notices a peer that is gone without a word.

    A frame of more than ``limit`` bytes ends the connection. From :meth:`watch` on the peer is pinged after
    ``ping_after`` seconds of silence and given up after ``give_up_after`` more. ``closed`` ends with the connection.
    """

    transport: asyncio.Transport

    def __init__(self, received: Callable[[bytes], None], limit: int, ping_after: float, give_up_after: float) -> None:
        self.received = received
        self.limit = limit
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard_at = 0.0
        """When something last came, by the loop's clock."""
        self._ping_after = ping_after
        self._give_up_after = give_up_after
        self._rest = bytearray()
        self._asked: deque[asyncio.Future[bool]] = deque()
        self._check_due = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def send(self, frame: bytes) -> None:
        """Send a frame, or drop it when the connection ends. Nothing waits: the lanes' windows bound what is queued."""
        if not self.transport.is_closing():  # uvloop's would raise
            self.transport.write(frame)

    def ask(self, frame: bytes) -> asyncio.Future[bool]:
        """Send a frame that is answered by a pong. The future is false when the connection ended before that.

        Frames are handled in order, so the peer has then handled all that was sent before.
        """
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.closed.done():
            answered.set_result(False)
        else:
            self._asked.append(answered)
            self.send(frame)
        return answered

    def watch(self) -> None:
        self.heard_at = self._check_due = asyncio.get_running_loop().time()
        self._check()

    def close(self) -> None:
        self.transport.close()

    def ping_received(self) -> None:
        self.send(PONG)

    def pong_received(self) -> None:
        if self._asked and not (answered := self._asked.popleft()).done():
            answered.set_result(True)

    # ------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        for answered in self._asked:
            if not answered.done():
                answered.set_result(False)
        self._asked.clear()

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        if self._rest:
            self._rest += data
            if len(self._rest) < 4 or len(self._rest) < 4 + HEAD.unpack_from(self._rest)[0] <= 4 + self.limit:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, size = 0, len(data)
        for _ in range(FRAMES):
            if size - at < 4 or self.transport.is_closing():
                break
            end = at + 4 + HEAD.unpack_from(data, at)[0]
            if end - at - 4 > self.limit:
                self.transport.abort()
                return
            if end > size:
                break
            frame = data[at:end]
            at = end
            if len(frame) == len(PING):
                self.ping_received()
            elif frame == PONG:
                self.pong_received()
            else:
                self.received(frame)
        else:
            self._pause()
        if at < size:
            self._rest += data[at:]

    def _pause(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.data_received(b"")

    def _check(self) -> None:
        if self.closed.done():
            return
        now = asyncio.get_running_loop().time()
        if now - self._check_due > CHECK_EVERY:  # this process stood still: the silence may have been its own
            self.heard_at = now
        silence = now - self.heard_at
        if silence > self._ping_after + self._give_up_after:
            self.transport.abort()
            return
        if silence > self._ping_after:
            self.ask(PING)
        self._check_due = now + CHECK_EVERY
        self._watch = asyncio.get_running_loop().call_later(CHECK_EVERY, self._check)


async def dial(
    address: tuple[str, int], context: ssl.SSLContext | None, ticket: str, relay: Callable[[], Relay]
) -> Relay:
    """Open the relay of the link that was given ``ticket``. Raises :class:`RelayRefused` or ``OSError``."""
    name = address[0] if context is not None else None
    loop = asyncio.get_running_loop()
    _, end = await loop.create_connection(relay, *address, ssl=context, server_hostname=name)
    try:
        if not await end.ask(HEAD.pack(len(ticket)) + ticket.encode()):
            raise RelayRefused("the host does not accept the ticket")
    except BaseException:
        end.transport.abort()
        raise
    end.watch()
    return end
