"""Server-sent events, as far as model APIs use them: the payloads of ``data:`` lines, from bytes cut anywhere.

The work is linear in what is fed, and what is kept is bounded, whatever a server sends.
"""

from worker.wire.answers import EVENT_LIMIT

LINE_LIMIT = 4096
"""``data:`` lines of one event. Model APIs send one; some pretty-print."""


class EventTooLong(Exception):
    """An event exceeds a limit; its text says which."""


class EventDecoder:
    """Splits a stream into payloads."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """The line that is not complete, in pieces: they are joined once, at its end."""
        self._data: list[bytes] = []
        self._size = 0
        """Bytes since the last event, except those that were fed together with it."""

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads that ``received`` completes. Raises :class:`EventTooLong`."""
        if received.startswith(b"data: ") and received.endswith(b"}\n\n") and not self._rest and not self._data:
            payloads = received[6:-2].split(b"\n\ndata: ")
            if received.count(b"\n") == 2 * len(payloads):  # whole events of one line: the loop below takes 1 us more
                self._size = 0
                return payloads
        self._size += len(received)
        payloads = []
        if b"\n" in received:
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
        self._read([b"".join(self._rest), b""], payloads)
        self._rest = []
        return payloads

    def _read(self, lines: list[bytes], payloads: list[bytes]) -> None:
        """Append the payloads that ``lines`` complete. One loop without calls: a server may send blank lines only."""
        data = self._data
        for line in lines:
            if line[-1:] == b"\r":
                line = line[:-1]
            if line[:5] == b"data:":
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                if len(data) > LINE_LIMIT:
                    raise EventTooLong(f"an event has more than {LINE_LIMIT:,} lines")
            elif not line and data:
                self._size = 0
                payloads.append(b"\n".join(data) if len(data) > 1 else data[0])
                data.clear()
