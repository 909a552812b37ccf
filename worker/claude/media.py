"""Images and files of a message, as blocks of the Messages API. Claude fetches what is named by its URL.

No image is opened here: how large one may be is Claude's to say, which decodes it.
"""

from binascii import Error, a2b_base64
from typing import Any

from fleet.process.turns import Turn
from worker.contract.errors import Unsupported

Json = dict[str, Any]

IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
PDF = "application/pdf"

TEXT_LIMIT = 4 * 1024 * 1024
"""Characters of base64 that are decoded in one step, of 20 ms."""

SLICE = 256 * 1024
"""Characters of base64 that are checked in one step, of 3 ms."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_MISNAMED = {"image/jpg": "image/jpeg"}


async def image(shown: Any, where: str, turn: Turn) -> Json:
    """The block of an ``image_url`` part. Raises :class:`Unsupported`."""
    if isinstance(shown, str):
        shown = {"url": shown}
    url = shown.get("url") if isinstance(shown, dict) else None
    if not isinstance(url, str) or not url:
        raise Unsupported(f"{where}.url: is missing")
    rest = {name: value for name, value in shown.items() if name not in ("url", "detail")}
    if _is_data(url):
        return {**await _data(url, where, turn), **rest}
    return {"type": "image", "source": {"type": "url", "url": url}, **rest}


async def file(shown: Any, where: str, turn: Turn) -> Json:
    """The block of a ``file`` part: its data, or its id in Claude's Files API. Raises :class:`Unsupported`."""
    shown = shown if isinstance(shown, dict) else {}
    match shown:
        case {"file_id": str(name)} if name:
            block = _document({"type": "file", "file_id": name})
        case {"file_data": str(data)} if _is_data(data):
            block = await _data(data, where, turn)
        case {"file_data": str(data)} if data:
            block = _document({"type": "base64", "media_type": PDF, "data": await _base64(data, where, turn)})
        case _:
            raise Unsupported(f"{where}: has neither file_data nor file_id")
    if shown.get("filename") and block["type"] == "document":
        block["title"] = shown["filename"]
    return block


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


async def _data(url: str, where: str, turn: Turn) -> Json:
    """The block of a ``data:`` URL, by its media type."""
    head, comma, data = url.partition(",")
    media, *parameters = head[5:].strip().lower().split(";")
    if not comma or "base64" not in [parameter.strip() for parameter in parameters]:
        raise Unsupported(f"{where}: a data URL must be in base64")
    if media.startswith("text/"):
        return _document({"type": "text", "media_type": "text/plain", "data": _text(data, where)})
    media = _MISNAMED.get(media, media)
    if media not in (*IMAGES, PDF):
        said = media or "data without a media type"
        raise Unsupported(f"{where}: Claude takes JPEG, PNG, GIF, WebP, PDF and text, and no {said}")
    source = {"type": "base64", "media_type": media, "data": await _base64(data, where, turn)}
    return _document(source) if media == PDF else {"type": "image", "source": source}


async def _base64(data: str, where: str, turn: Turn) -> str:
    """``data`` without white space. Raises :class:`Unsupported` for what no decoder takes."""
    pieces, others = [], ""
    for begin in range(0, len(data), SLICE):
        await turn.pause()
        pieces.append("".join(data[begin : begin + SLICE].split()))
        others += pieces[-1].encode("ascii", "replace").translate(None, _BASE64).decode()
    whole = data if sum(map(len, pieces)) == len(data) else "".join(pieces)
    if not whole or others not in ("", "=", "==") or not whole.endswith(others):
        raise Unsupported(f"{where}: the data is not valid base64")
    return whole


def _document(source: Json) -> Json:
    return {"type": "document", "source": source}


def _text(data: str, where: str) -> str:
    if len(data) > TEXT_LIMIT:
        raise Unsupported(f"{where}: a text has more than {TEXT_LIMIT:,} characters of base64")
    try:
        return a2b_base64(data).decode()
    except (Error, ValueError):
        raise Unsupported(f"{where}: the data is not UTF-8 text in base64") from None
