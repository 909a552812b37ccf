"""Server-sent events, as far as model APIs use them: the payloads of ``data:`` lines, from bytes cut anywhere.

The work is linear in what is fed, and what is kept is bounded, whatever a server sends.
"""

import orjson

from worker.contract.utf8 import clean
from worker.wire.answers import EVENT_LIMIT

LINE_LIMIT = 4096
"""``data:`` lines of one event. Model APIs send one; some pretty-print."""

PINGS = frozenset({b"ping", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive"})
"""Names of events that say nothing."""

BEGINNING = 100
"""Bytes of what is no event stream that an error tells."""

_FIELDS = ("data", "event", "id", "retry", ":")
BOM = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event exceeds a limit; its text says which."""


class EventDecoder:
    """Splits a stream into payloads. A body that is no stream but JSON or HTML is one payload, given by :meth:`end`."""

    def __init__(self) -> None:
        self.is_plain = False
        """Whether the body is no stream."""
        self._beginning = b""
        self._rest: list[bytes] = [b""]
        """The line that is not complete, in pieces: they are joined once, at its end. At first what may be a BOM."""
        self._is_new = True
        self._ended_in_cr = False
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        """Bytes since the last event, except those that were fed together with it."""

    @property
    def beginning(self) -> str:
        """Of the body: it tells what it is when there is no event in it."""
        return clean(" ".join(self._beginning.decode("utf-8", "replace").split()))

    @property
    def is_stream(self) -> bool:
        """Whether it begins as one."""
        return not self.beginning or self.beginning.startswith(_FIELDS)

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads that ``received`` completes. Raises :class:`EventTooLong`."""
        if received[:6] == b"data: " and received[-3:] == b"}\n\n" and not (self._rest or self._data or self._name):
            # Whole events of one line: the loop below takes 1 us more.
            if received.find(b"\n") == len(received) - 2:
                self._size = 0
                return [received[6:-2]]
            payloads = received[6:-2].split(b"\n\ndata: ")
            if received.count(b"\n") == 2 * len(payloads):
                self._size = 0
                return payloads
        self._size += len(received)
        if self._is_new:
            received = self._begin(received)
        if received and not self.is_plain and (self._ended_in_cr or b"\r" in received):
            received = self._with_newlines(received)
        payloads = []
        if b"\n" in received and not self.is_plain:
            lines = (b"".join([*self._rest, received]) if self._rest else received).split(b"\n")
            rest = lines.pop()
            self._rest = [rest] if rest else []
            self._read(lines, payloads)
        elif received:
            self._rest.append(received)
        if self._size > EVENT_LIMIT:
            raise EventTooLong(f"no event is complete after {EVENT_LIMIT:,} bytes")
        return payloads

    def end(self) -> list[bytes]:
        """The payload that only lacks its blank line: some servers leave out the last one."""
        payloads: list[bytes] = []
        rest = b"".join(self._rest)
        if self.is_plain:
            payloads.append(rest)
        else:
            self._read([rest, b""], payloads)
        self._rest = []
        return payloads

    def _begin(self, received: bytes) -> bytes:
        """Look at what comes first: without a BOM and blank lines, which are dropped."""
        received = self._rest[0] + received
        if len(received) < len(BOM) and BOM.startswith(received):
            self._rest = [received]
            return b""
        received = received.removeprefix(BOM).lstrip(b" \t\r\n")
        self._rest = [b""]
        if received:
            self._rest = []
            self._is_new = False
            self.is_plain = received[:1] in (b"{", b"[", b"<")
            self._beginning = received[:BEGINNING]
        return received

    def _with_newlines(self, received: bytes) -> bytes:
        """``received`` with each end of a line, which may also be CR or CRLF, as a newline."""
        if self._ended_in_cr:
            received = received.removeprefix(b"\n")
        self._ended_in_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, lines: list[bytes], payloads: list[bytes]) -> None:
        """Append the payloads that ``lines`` complete. One loop without calls: a server may send blank lines only."""
        data = self._data
        for line in lines:
            if line[:5] == b"data:":
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                if len(data) > LINE_LIMIT:
                    raise EventTooLong(f"an event has more than {LINE_LIMIT:,} lines")
            elif line[:6] == b"event:":
                self._name = line[6:].strip()
            elif not line:
                if data:
                    self._size = 0
                    payload = b"\n".join(data) if len(data) > 1 else data[0]
                    data.clear()
                    if self._name == b"error":
                        payloads.append(_error(payload))
                    elif self._name.lower() not in PINGS:
                        payloads.append(payload)
                self._name = b""


def _error(payload: bytes) -> bytes:
    """What an event named ``error`` holds, as other servers send it."""
    if payload.lstrip()[:1] in (b"{", b"[", b'"'):
        return b'{"error":' + payload + b"}"
    return orjson.dumps({"error": clean(payload.decode("utf-8", "replace"))})
