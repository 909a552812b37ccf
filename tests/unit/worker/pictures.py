"""Images of every format that is accepted."""

from base64 import b64encode
from io import BytesIO
from typing import Any

import PIL.Image

from protos import chat_pb2 as pb
from worker.contract.images import SentImage

FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "GIF": {},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "WEBP with an alpha channel": {"mode": "RGBA"},
    "JPEG progressive": {"progressive": True},
    "JPEG with a profile": {"icc_profile": bytes(70_000), "exif": b"Exif\x00\x00" + bytes(1000)},
    "GIF moving": {"save_all": True, "append_images": [PIL.Image.new("RGB", (30, 20), "red")]},
}


def file(name: str, width: int = 30, height: int = 20, **options: Any) -> bytes:
    options = FORMATS[name] | options
    buffer = BytesIO()
    PIL.Image.new(options.pop("mode", "RGB"), (width, height)).save(buffer, name.split()[0], **options)
    return buffer.getvalue()


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def image(address: str) -> SentImage:
    return SentImage(pb.Image(url=address))
