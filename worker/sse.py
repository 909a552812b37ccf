"""Server-sent events, as far as model APIs use them: the payloads of ``data:`` lines, from bytes cut anywhere."""

EVENT_LIMIT = 16 * 1024 * 1024
"""Bytes of one event: more is no token but a fault."""


class EventTooLong(Exception):
    """An event is longer than :data:`EVENT_LIMIT`."""


class EventDecoder:
    """Feed it what arrives; it gives back the payloads that are complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    @property
    def empty(self) -> bool:
        """Whether nothing is left of an event that is not complete."""
        return not self._rest and not self._data

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads that ``received`` completes. Raises :class:`EventTooLong`."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > EVENT_LIMIT:
            raise EventTooLong
        payloads = []
        for line in lines:
            payload = self._line(line)
            if payload is not None:
                payloads.append(payload)
        return payloads

    def end(self) -> list[bytes]:
        """What is complete but for its blank line: some servers leave out the last one."""
        payloads = [self._line(self._rest), self._line(b"")]
        self._rest = b""
        return [payload for payload in payloads if payload is not None]

    def _line(self, line: bytes) -> bytes | None:
        line = line.removesuffix(b"\r")
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            payload = b"\n".join(self._data)
            self._data.clear()
            return payload
        return None
