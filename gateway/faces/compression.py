"""Requests' bodies that come compressed: each step costs little, however much it makes of how little."""

import zlib
from collections.abc import Iterator

from starlette.requests import Request

from gateway.errors import MalformedBody
from gateway.faces.outline import WINDOW

INPUT = 8 * 1024
"""Compressed bytes of one step: a block of a few bytes that holds nothing costs some microseconds."""

ACCEPTED = "gzip, deflate"

MEMORY = 48 * 1024
"""Bytes that a decompressor takes, most of them for its window."""


class Inflater:
    """Decompresses a body of ``gzip`` or ``deflate``. Raises :class:`MalformedBody`."""

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def feed(self, part: bytes) -> Iterator[bytes]:
        """What ``part`` holds, in pieces of up to :data:`WINDOW` bytes, which may be empty."""
        if part and self._inflate is None:
            # Some senders leave out the header of deflate, whose first byte ends in 8. 32 reads that of gzip too.
            self._inflate = zlib.decompressobj(32 + zlib.MAX_WBITS if part[0] & 15 in (8, 15) else -zlib.MAX_WBITS)
        for start in range(0, len(part), INPUT):
            waiting, piece = self._step(part[start : start + INPUT])
            yield piece
            while waiting or len(piece) == WINDOW:
                waiting, piece = self._step(waiting)
                yield piece

    def end(self) -> None:
        if self._inflate is not None and not self._inflate.eof:
            raise _broken("it ends too early")

    def _step(self, waiting: bytes) -> tuple[bytes, bytes]:
        assert self._inflate is not None
        if self._inflate.eof and waiting:
            self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)  # gzip may have several parts
        try:
            piece = self._inflate.decompress(waiting, WINDOW)
        except zlib.error:
            raise _broken("it cannot be decompressed") from None
        return self._inflate.unconsumed_tail or self._inflate.unused_data, piece


def inflater(request: Request) -> Inflater | None:
    """What decompresses the request's body; None where it is not compressed. Raises :class:`MalformedBody`."""
    given = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    encoding = ", ".join(name for name in map(str.strip, given) if name not in ("", "identity"))
    if not encoding:
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Inflater()
    reason = f"content-encoding: {encoding[:100]!r} is not understood here; these are: {ACCEPTED}"
    raise MalformedBody("unsupported_encoding", reason, status=415, headers={"accept-encoding": ACCEPTED})


def _broken(reason: str) -> MalformedBody:
    return MalformedBody("invalid_encoding", f"the compressed body is broken: {reason}")
