"""Images as users sent them: passed on as they are, within a budget of pixels, and decoded for no stock client.

Clients take an image as OpenAI's API does (``to_openai_format``), or as data (``to_base64``, ``data_uri``: Ollama's,
Azure AI's, Bedrock's). AutoGen's own ``Image`` would decode it and encode it as PNG for either.
"""

import asyncio
import threading
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, Literal

import PIL.Image
from autogen_core import Image
from autogen_core.models import LLMMessage, UserMessage

from protos import chat_pb2 as pb
from worker.contract.body import image_url
from worker.contract.errors import Unsupported
from worker.contract.image_size import ImageSize, image_size

_decoding = threading.Lock()
"""One image is decoded at a time."""

PIXELS = 40_000_000
"""Pixels of one image that are decoded, where no budget was set for its request."""


class SentImage(Image):
    """An image as the user sent it. Clients of AutoGen's own need :meth:`Images.admit` first, or decode it here."""

    def __init__(self, sent: pb.Image) -> None:
        self._sent = sent
        self._data: str | None = None
        self._size: ImageSize | None = None
        self._budget = PIXELS

    @property
    def url(self) -> str:
        """What OpenAI's API takes."""
        return image_url(self._sent)

    def to_openai_format(self, detail: Literal["auto", "low", "high"] = "auto") -> dict[str, Any]:
        """See ``Image``; the user's own ``detail`` goes before the argument."""
        return {"type": "image_url", "image_url": {"url": self.url, "detail": self._sent.detail or detail}}

    def admit(self, budget: int) -> int:
        """Read the image's header; return its pixels, of which there may be ``budget``. Raises :class:`Unsupported`."""
        data = self._bytes()
        size = image_size(data)
        if size is None or not size.width or not size.height:
            raise Unsupported(
                "an image cannot be decoded: it is no PNG, JPEG, GIF or WebP, or its beginning is missing"
            )
        if size.width * size.height > budget:
            raise Unsupported(
                f"an image of {size.width:,} x {size.height:,} pixels is too large: "
                f"{budget:,} pixels are left of what a request may have (WORKER_IMAGE_PIXELS)"
            )
        # What begins like an image, encoded again: Ollama's client takes base64 that names a file for the file itself.
        self._data = b64encode(data).decode()
        self._size = size
        self._budget = budget
        return size.width * size.height

    def to_base64(self) -> str:
        """The file as it was sent. Raises :class:`Unsupported`."""
        if self._data is None:
            self.admit(self._budget)
        assert self._data is not None
        return self._data

    @property
    def data_uri(self) -> str:
        """The same with its media type, by what the file is and not by what the user called it."""
        data = self.to_base64()
        assert self._size is not None
        return f"data:image/{self._size.format};base64,{data}"

    @property
    def image(self) -> PIL.Image.Image:  # type: ignore[override]
        """The pixels, decoded in the calling thread, which must not be the event loop's: it may take a second.

        Raises :class:`Unsupported`.
        """
        if _on_a_loop():
            raise Unsupported("this model's client decodes images on the event loop, which would hold up other chats")
        self.admit(self._budget)
        with _decoding:
            try:
                opened = PIL.Image.open(BytesIO(self._bytes()), formats=("PNG", "JPEG", "GIF", "WEBP"))
                if opened.width * opened.height > self._budget:
                    raise Unsupported("an image is larger than its header says")
                return opened.convert("RGB")
            except Unsupported:
                raise
            except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
                raise Unsupported("an image cannot be decoded") from error

    def _bytes(self) -> bytes:
        if self._sent.WhichOneof("source") == "data":
            return self._sent.data
        head, comma, data = self._sent.url.partition(",")
        scheme, *parameters = head.lower().replace(" ", "").split(";")
        if not comma or not scheme.lstrip().startswith("data:") or "base64" not in parameters[-1:]:
            raise Unsupported("this model takes images as data, not by URL")
        if any(space in data for space in " \t\r\n"):
            data = "".join(data.split())
        try:
            return a2b_base64(data, strict_mode=True)
        except (Error, ValueError):
            raise Unsupported("an image's data URL is not valid base64") from None


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Images:
    """Admits the images of requests for clients that take them as data: in a thread, one request at a time."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._thread = ThreadPoolExecutor(1, "images")

    async def admit(self, messages: Sequence[LLMMessage]) -> None:
        """Let no request pass whose images have more pixels in all than the budget. Raises :class:`Unsupported`."""
        images = [
            part
            for message in messages
            if isinstance(message, UserMessage) and isinstance(message.content, list)
            for part in message.content
            if isinstance(part, SentImage)
        ]
        if images:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._admit, images)

    async def read(self, urls: Sequence[str]) -> list[SentImage]:
        """The same for the images of a request in OpenAI's form, by their URLs."""
        images = [SentImage(pb.Image(url=url)) for url in urls]
        if images:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._admit, images)
        return images

    def _admit(self, images: list[SentImage]) -> None:
        left = self._pixels
        for image in images:
            left -= image.admit(left)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
