"""What an image is and how large, from its first bytes: nothing is decoded, so that a bomb costs nothing."""

from typing import NamedTuple


class ImageSize(NamedTuple):
    """A format as in media types (``image/<format>``), and the pixels of a side."""

    format: str
    width: int
    height: int


def image_size(data: bytes) -> ImageSize | None:
    """The size of a PNG, JPEG, GIF or WebP; None for anything else, and for a header that is not whole."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return ImageSize("png", int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    if data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        return ImageSize("gif", _little(data[6:8]), _little(data[8:10]))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    return None


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _webp(data: bytes) -> ImageSize | None:
    """https://developers.google.com/speed/webp/docs/riff_container, and the bitstreams' own headers."""
    match data[12:16]:
        case b"VP8X":
            return ImageSize("webp", _little(data[24:27]) + 1, _little(data[27:30]) + 1)
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return ImageSize("webp", _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF)
        case b"VP8L" if data[20] == 0x2F:
            bits = _little(data[21:25])
            return ImageSize("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    return None


_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that begin a frame's header, which has the size: SOF0 to SOF15."""

_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that no length follows."""


def _jpeg(data: bytes) -> ImageSize | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            return ImageSize("jpeg", int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7]))
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
    return None
