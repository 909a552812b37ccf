"""What an HTTP connection is doing, and until when it may: the one state machine behind :mod:`gateway.http.protocol`.

It knows no socket, no parser and no clock: events and times are arguments, in seconds and in bytes. One request is
served at a time.

============  ==============================================  =====================================================
state         from, to                                        deadline
============  ==============================================  =====================================================
PROXY         the start, the end of its PROXY header (3)      the start + ``header_timeout``
WAITING       the start or there, a first request             the start + ``header_timeout``
HEAD          a request's first byte, the end of its headers  that byte + ``header_timeout``
BODY          there, the end of its body or of its answer     the headers' end + ``answer_timeout`` (1)
ANSWERING     the end of the body, the end of the answer      the same (1)
LAST          a byte of another request, the answer's end     the same (1); what arrives is discarded (2). At the
                                                              client's end of file it is ANSWERING again
DISCARDING    an answer before its body, the body's end       the headers' end + ``body_timeout``, or ``LINGER`` after
                                                              the answer where that is later (2)
IDLE          an answer, the next request                     the answer + ``KEEP_ALIVE``
CLOSING       the last answer or an error, the end            as DISCARDING; at least ``stall_timeout`` from then on
                                                              where bytes wait to be read; what arrives is discarded (2)
CLOSED        the end
============  ==============================================  =====================================================

1. The last resort. The application's own limits end each of its requests sooner (``GATEWAY_BODY_TIMEOUT``,
   ``GATEWAY_REQUEST_TIMEOUT``, ``GATEWAY_STALL_TIMEOUT``). A client that reads nothing of its answer gets
   ``stall_timeout`` + ``LINGER``, starting again only when it has read something.
2. At most ``DISCARD_LIMIT`` bytes.
3. Only at ``GATEWAY_PROXY_BIND``; :mod:`gateway.http.proxy_protocol` bounds the header's bytes.

No deadline moves because bytes arrive. In every state what is not payload (headers, chunk sizes, chunk extensions,
trailers, empty lines) is limited: see :meth:`Connection.count`.
"""

import enum
import math
from dataclasses import dataclass

from gateway.errors import NotHttp

KEEP_ALIVE = 75.0
"""Seconds that an idle connection is kept: longer than clients and proxies keep theirs, so that they close first."""

LINGER = 5.0
"""Seconds for a client to read its last answer, while what it still sends is read and discarded: closing with unread
bytes resets the connection, and the client could lose the answer."""

DISCARD_LIMIT = 256 * 1024 * 1024
"""Bytes that are read and discarded after an answer, or beside one, before the connection is dropped."""


class State(enum.IntEnum):
    PROXY = enum.auto()
    WAITING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWERING = enum.auto()
    LAST = enum.auto()
    DISCARDING = enum.auto()
    IDLE = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class Event(enum.IntEnum):
    PROXIED = enum.auto()
    BEGIN = enum.auto()
    HEAD_END = enum.auto()
    MESSAGE_END = enum.auto()
    ANSWERED = enum.auto()
    EOF = enum.auto()


class Verdict(enum.Enum):
    WAIT = enum.auto()
    CLOSE = enum.auto()
    ABORT = enum.auto()


MOVES = {
    (State.PROXY, Event.PROXIED): State.WAITING,
    (State.WAITING, Event.BEGIN): State.HEAD,
    (State.IDLE, Event.BEGIN): State.HEAD,
    (State.HEAD, Event.BEGIN): State.HEAD,  # read again, without its Upgrade
    (State.HEAD, Event.HEAD_END): State.BODY,
    (State.BODY, Event.MESSAGE_END): State.ANSWERING,
    (State.BODY, Event.ANSWERED): State.DISCARDING,
    (State.ANSWERING, Event.BEGIN): State.LAST,
    (State.ANSWERING, Event.ANSWERED): State.IDLE,
    (State.LAST, Event.EOF): State.ANSWERING,  # there is nothing more to discard
    (State.DISCARDING, Event.MESSAGE_END): State.IDLE,
}
"""All moves of a connection that stays open. An event that has none here leaves the state as it is."""

RUNNING = frozenset({State.BODY, State.ANSWERING, State.LAST})

UNPARSED = frozenset({State.LAST, State.CLOSING, State.CLOSED})


@dataclass(frozen=True)
class Bounds:
    """Seconds, but for ``max_headers``, which is bytes."""

    max_headers: int
    header_timeout: float
    body_timeout: float
    answer_timeout: float
    stall_timeout: float
    keep_alive: float = KEEP_ALIVE
    linger: float = LINGER
    discard_limit: int = DISCARD_LIMIT


class Connection:
    """One connection's state and deadline. ``now`` never goes back from one call to the next."""

    def __init__(self, bounds: Bounds, now: float, *, proxied: bool = False) -> None:
        self.state = State.PROXY if proxied else State.WAITING
        self._bounds = bounds
        self._until = now + bounds.header_timeout
        self._stalled_at = math.inf
        self._unread = 0
        self._body_due = -math.inf
        self._payload = 0
        self._overhead = 0
        self._moved = False
        self._discarded = 0

    @property
    def deadline(self) -> float:
        return min(self._until, self._stalled_at)

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING

    def move(self, event: Event, now: float) -> State:
        """Note an event; returns the state from now on."""
        before, self.state = self.state, MOVES.get((self.state, event), self.state)
        if self.state is before:
            return before
        bounds = self._bounds
        self._moved = True
        match self.state:
            case State.HEAD:
                self._until = now + bounds.header_timeout
                self._body_due = -math.inf
                self._overhead = self._discarded = 0
                self._moved = False
            case State.BODY:
                self._until = now + bounds.answer_timeout
                self._body_due = now + bounds.body_timeout
            case State.DISCARDING:
                self._until = max(self._body_due, now + bounds.linger)
            case State.IDLE:
                self._until = now + bounds.keep_alive
        if event is Event.MESSAGE_END:
            self._body_due = -math.inf
        if event is Event.ANSWERED:
            self._stalled_at = math.inf
        return self.state

    def close(self, now: float, unread: int) -> bool:
        """The application or an error ends the connection, with ``unread`` bytes left for the client to read.

        Returns whether the client may still be sending: then its bytes must be read and discarded.
        """
        if self.state in (State.CLOSING, State.CLOSED):
            return False
        sends = self.state is not State.ANSWERING
        bounds = self._bounds
        self._until = max(self._body_due, now + (bounds.stall_timeout if unread else bounds.linger))
        self._stalled_at = math.inf
        self.state = State.CLOSING
        return sends

    def lost(self) -> None:
        self.state = State.CLOSED
        self._until = self._stalled_at = math.inf

    def payload(self, size: int) -> None:
        self._payload += size

    def count(self, size: int) -> bool:
        """Count the bytes of one read, after they were parsed. False means that the connection must be dropped.

        Raises :class:`NotHttp` for a message with too much that is not payload. As many bytes as there are of
        payload are free, so that chunks may be small; the rest is at most ``max_headers``: trailers take memory in the
        parser, and chunks of one byte take time.
        """
        payload, self._payload = self._payload, 0
        if self.state in UNPARSED or self.state is State.DISCARDING:
            self._discarded += size
            if self._discarded > self._bounds.discard_limit:
                return False
        if self.state in UNPARSED:
            return True
        # A read in which a part ended holds bytes of both; the next one begins the count.
        self._overhead = 0 if self._moved else max(0, self._overhead + size - 2 * payload)
        self._moved = False
        if self._overhead <= self._bounds.max_headers:
            return True
        if self.state is not State.ANSWERING:
            raise headers_too_large(self._bounds.max_headers)
        self.state = State.LAST  # empty lines without end
        return True

    def pause(self, now: float, unread: int) -> None:
        if self.is_running:
            self._unread = unread
            self._stalled_at = now + self._bounds.stall_timeout + self._bounds.linger

    def resume(self) -> None:
        self._stalled_at = math.inf

    def expire(self, now: float, unread: int) -> Verdict:
        """What to do now, at :attr:`deadline` or earlier, with ``unread`` bytes left for the client to read."""
        if now < self.deadline:
            return Verdict.WAIT
        if now < self._until and unread < self._unread:
            self.pause(now, unread)
            return Verdict.WAIT
        if self.state is State.IDLE:
            self.close(now, unread)
            return Verdict.CLOSE
        return Verdict.ABORT


def headers_too_large(limit: int) -> NotHttp:
    message = f"headers, chunk sizes and trailers are larger than the {limit} bytes allowed here"
    return NotHttp("headers_too_large", message, status=431)
