"""The relay: a member's second connection to the host, on which events pass by gRPC.

With grpc.aio a message that comes every 10 ms costs the three processes that it passes through 1.1 ms of CPU together,
because each hands it through three threads that have gone to sleep meanwhile; on a plain connection it is 0.2 ms. So
gRPC keeps what needs it (joining, agent types, subscriptions, liveness), and events take this way as soon as it is
there. It is part of the link: either connection's end is the end of both.

A connection begins with :data:`MAGIC`, which the host answers with :data:`GO`; where the fleet has TLS, it begins now.
Then both sides send frames: four bytes of length, big-endian, and so many bytes. The member's first frame is the
ticket that gRPC gave it, the host's answer a pong. A frame without content is a ping, a single zero byte its pong; any
other is an event: the topic's type and the message's full name, each after a byte of length, and the message.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Final, cast

from google.protobuf.message import Message

MAGIC: Final = b"chatfleet-relay/1\n"
GO: Final = b"+"
TICKET: Final = "chatfleet-relay"
"""The key under which the host's first words on the gRPC stream, its initial metadata, carry the ticket."""

HEAD = struct.Struct(">I")
PING: Final = HEAD.pack(0)
PONG: Final = HEAD.pack(1) + b"\0"

_SENT_BY: Final = 15 << 3 | 2
"""Tag of the field ``sent_by``: its number, and that its value has a length."""

FIRST_BYTES = 256
"""Largest frame before the ticket was accepted."""

LOOK_EVERY = 1.0
"""Seconds between two looks at whether the other side still speaks."""


class RelayRefused(Exception):
    """The host does not take the connection; the text says at which step."""


def pack(topic: str, message: Message, stamp: bytes = b"") -> bytes:
    """An event as a frame. Raises ``OverflowError`` for what does not :func:`fit <fits>`.

    With its own :func:`stamp` in front, the host need not copy the frame to put it there.
    """
    return pack_bytes(topic, message.DESCRIPTOR.full_name, message.SerializeToString(), stamp)


def pack_bytes(topic: str, name: str, payload: bytes, stamp: bytes = b"") -> bytes:
    """As :func:`pack`, for a message of that full name that is encoded already."""
    labels = _labels(topic, name, stamp)
    return b"".join((HEAD.pack(len(labels) + len(payload)), labels, payload))


@functools.lru_cache(1024)
def _labels(topic: str, name: str, stamp: bytes) -> bytes:
    where, what = topic.encode(), name.encode()
    return b"%c%b%c%b%b" % (len(where), where, len(what), what, stamp)


def stamp(member_id: str) -> bytes:
    """The field ``sent_by`` of ``protos/chat.proto``, encoded; for ids of up to 127 bytes.

    In front of a message it is the field's first value whatever follows. Behind it, a last field that claims to be
    longer than it is could swallow it.
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
    """Whether a frame can carry an event of this topic's type and this full name."""
    return max(len(topic.encode()), len(name.encode())) < 256


def content_of(frame: bytes) -> tuple[bytes, bytes]:
    """Full name and encoded message of a frame that holds an event. Raises ``IndexError`` for one that is cut off."""
    name_at = 6 + frame[4]
    payload_at = name_at + frame[name_at - 1]
    return frame[name_at:payload_at], frame[payload_at:]


def unpack(frame: bytes) -> tuple[str, str, bytes]:
    """Topic type, full name and encoded message of a frame that holds an event. Raises ``ValueError``."""
    name_at = 5 + frame[4]
    if name_at >= len(frame):
        raise ValueError("a frame ends within its topic")
    payload_at = name_at + 1 + frame[name_at]
    if payload_at > len(frame):
        raise ValueError("a frame ends within its message's name")
    return frame[5:name_at].decode(), frame[name_at + 1 : payload_at].decode(), frame[payload_at:]


class Frames(asyncio.Protocol):
    """Cuts what arrives into frames, and notices a peer that is gone without a word.

    ``limit`` is the size of the largest frame; a larger one ends the connection. From :meth:`watch` on the peer is
    pinged after ``ping_after`` seconds of silence, and after ``give_up_after`` more the connection is dropped.
    """

    transport: asyncio.Transport

    def __init__(self, limit: int, ping_after: float, give_up_after: float) -> None:
        self.limit = limit
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ping_after = ping_after
        self._give_up_after = give_up_after
        self._rest = bytearray()
        self.heard_at = 0.0
        """When something last came, by the loop's clock."""
        self._looks_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def frame_received(self, frame: bytes) -> None:
        """Take a frame, with its length in front, that is neither ping nor pong."""
        raise NotImplementedError

    def ping_received(self) -> None:
        """Answer a ping."""
        self.send(PONG)

    def pong_received(self) -> None:
        """Take a pong."""

    def send(self, frame: bytes) -> None:
        """Send a frame, or drop it when the connection ends. Nothing waits: the lanes' windows bound what is queued."""
        if not self.transport.is_closing():  # uvloop's would raise
            self.transport.write(frame)

    def watch(self) -> None:
        """Begin to look out for silence: once both sides send frames, and no handshake can be disturbed."""
        self.heard_at = self._looks_at = asyncio.get_running_loop().time()
        self._look()

    def close(self) -> None:
        """Close the connection once all is sent."""
        self.transport.close()

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

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        if self._rest:
            self._rest += data
            if len(self._rest) < 4 or len(self._rest) < 4 + HEAD.unpack_from(self._rest)[0] <= 4 + self.limit:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, size = 0, len(data)
        while size - at >= 4 and not self.transport.is_closing():
            end = at + 4 + HEAD.unpack_from(data, at)[0]
            if end - at - 4 > self.limit:
                self.transport.abort()
                return
            if end > size:
                break
            frame = data[at:end]
            at = end
            if len(frame) > len(PONG):
                self.frame_received(frame)
            elif len(frame) == len(PING):
                self.ping_received()
            elif frame == PONG:
                self.pong_received()
            else:
                self.frame_received(frame)
        if at < size:
            self._rest += data[at:]

    def _look(self) -> None:
        if self.closed.done():
            return
        now = asyncio.get_running_loop().time()
        if now - self._looks_at > LOOK_EVERY:  # this process stood still: the silence may have been its own
            self.heard_at = now
        silence = now - self.heard_at
        if silence > self._ping_after + self._give_up_after:
            self.transport.abort()
            return
        if silence > self._ping_after:
            self.send(PING)
        self._looks_at = now + LOOK_EVERY
        self._watch = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)


class Relay(Frames):
    """The member's end. ``received`` takes each event's frame, in the order of arrival."""

    def __init__(self, received: Callable[[bytes], None], limit: int, ping_after: float, give_up_after: float) -> None:
        super().__init__(limit, ping_after, give_up_after)
        self._received = received
        self._word: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Of the host: true when it goes on, false when it hangs up. Waited for twice: for GO, and for the pong."""
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        if self._greeted:
            super().data_received(data)
        else:
            self._greeted = True
            self._say(data == GO)

    def pong_received(self) -> None:
        self._say(True)

    def frame_received(self, frame: bytes) -> None:
        self._received(frame)

    def connection_lost(self, error: Exception | None) -> None:
        self._say(False)
        super().connection_lost(error)

    def _say(self, goes_on: bool) -> None:
        if not self._word.done():
            self._word.set_result(goes_on)

    async def enter(self, address: tuple[str, int], context: ssl.SSLContext | None, ticket: str) -> None:
        """Present the ticket. Raises :class:`RelayRefused` or ``OSError``."""
        loop = asyncio.get_running_loop()
        self.send(MAGIC)
        if not await self._word:
            raise RelayRefused("the host has no relay")
        self._word = loop.create_future()
        if context is not None:
            tls = await loop.start_tls(self.transport, self, context, server_hostname=address[0])
            self.transport = cast("asyncio.Transport", tls)
        self.send(HEAD.pack(len(ticket)) + ticket.encode())
        if not await self._word:
            raise RelayRefused("the host does not take the ticket")
        self.watch()


async def dial(
    address: tuple[str, int], context: ssl.SSLContext | None, ticket: str, relay: Callable[[], Relay]
) -> Relay:
    """Open the relay of a link whose gRPC stream gave ``ticket``. Raises :class:`RelayRefused` or ``OSError``."""
    _, end = await asyncio.get_running_loop().create_connection(relay, *address)
    try:
        await end.enter(address, context, ticket)
    except BaseException:
        end.transport.abort()
        raise
    return end
