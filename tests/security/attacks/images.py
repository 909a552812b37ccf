"""Images that are small to send and large to decode, for models whose clients take images as data."""

import base64
import functools
import json
import struct
import zlib
from collections.abc import Callable

from tests.security.attacks import Subject, Target
from tests.security.attacks.bodies import OPENAI, post

ATTACKS = Subject("images")

MODELS = ("ollama", "claude")
"""Models whose clients take images as data: Ollama's reads their headers, Claude's opens none."""


def png(width: int, height: int) -> bytes:
    """One colour, a bit a pixel."""
    packed, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(content)) + kind + content + _crc(kind + content) for kind, content in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def gif(width: int, height: int, frames: int) -> bytes:
    """An animation whose frames are each as large as the screen and hold a single code."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * frames + b"\x3b"


def bmp(width: int, height: int) -> bytes:
    """A header that promises pixels which do not come."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def body(model: str, kind: str, images: list[bytes]) -> bytes:
    urls = [f"data:image/{kind};base64,{base64.b64encode(image).decode()}" for image in images]
    parts = [{"type": "text", "text": "ok"}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return json.dumps({"model": model, "stream": False, "messages": [{"role": "user", "content": parts}]}).encode()


IMAGES: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
    "one_bomb": ("png", lambda: [png(13_000, 13_000)]),
    "many_bombs": ("png", lambda: [png(9_000, 9_000)] * 25),
    "huge_bomb": ("png", lambda: [png(60_000, 60_000)]),
    "many_tiny": ("png", lambda: [png(2, 2)] * 1000),
    "many_middling": ("png", lambda: [png(1_000, 1_000)] * 500),
    "animation": ("gif", lambda: [gif(13_000, 13_000, 2000)]),
    "empty_promise": ("bmp", lambda: [bmp(13_000, 13_000)] * 10),
}


def _attack(kind: str, make: Callable[[], list[bytes]]) -> Callable[..., object]:
    bodies = functools.cache(lambda: [body(model, kind, images) for images in [make()] for model in MODELS])

    async def attack(target: Target) -> None:
        for sent in bodies():
            await post(target, OPENAI, sent)

    return attack


for _name, (_kind, _make) in IMAGES.items():
    ATTACKS.add(_name, _attack(_kind, _make))  # type: ignore[arg-type]
