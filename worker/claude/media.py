"""Images and files of a message, as blocks of the Messages API. Claude fetches what is named by its URL."""

from binascii import Error, a2b_base64
from typing import Any

from worker.contract.errors import Unsupported

Json = dict[str, Any]

PDF = "application/pdf"

TEXT_LIMIT = 4 * 1024 * 1024
"""Characters of base64 that are decoded in one step, of 20 ms."""

_MISNAMED = {"image/jpg": "image/jpeg"}


def image(shown: Any, where: str) -> Json:
    """The block of an ``image_url`` part. Raises :class:`Unsupported`."""
    if isinstance(shown, str):
        shown = {"url": shown}
    url = shown.get("url") if isinstance(shown, dict) else None
    if not isinstance(url, str) or not url:
        raise Unsupported(f"{where}.url: is missing")
    rest = {name: value for name, value in shown.items() if name not in ("url", "detail")}
    if _is_data(url):
        return {**_data(url, where), **rest}
    return {"type": "image", "source": {"type": "url", "url": url}, **rest}


def file(shown: Any, where: str) -> Json:
    """The block of a ``file`` part: its data, or its id in Claude's Files API. Raises :class:`Unsupported`."""
    shown = shown if isinstance(shown, dict) else {}
    match shown:
        case {"file_id": str(name)} if name:
            block = _document({"type": "file", "file_id": name})
        case {"file_data": str(data)} if _is_data(data):
            block = _data(data, where)
        case {"file_data": str(data)} if data:
            block = _document({"type": "base64", "media_type": PDF, "data": data})
        case _:
            raise Unsupported(f"{where}: has neither file_data nor file_id")
    if shown.get("filename") and block["type"] == "document":
        block["title"] = shown["filename"]
    return block


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _data(url: str, where: str) -> Json:
    """The block of a ``data:`` URL, by its media type."""
    head, comma, data = url.partition(",")
    media, *parameters = head[5:].strip().lower().split(";")
    if not comma or "base64" not in [parameter.strip() for parameter in parameters]:
        raise Unsupported(f"{where}: a data URL must be in base64")
    source = {"type": "base64", "media_type": _MISNAMED.get(media, media), "data": data}
    if media == PDF:
        return _document(source)
    if media.startswith("text/"):
        return _document({"type": "text", "media_type": "text/plain", "data": _text(data, where)})
    if media.startswith("image/"):
        return {"type": "image", "source": source}
    raise Unsupported(f"{where}: Claude takes images, PDF and text, and no {media or 'data without a media type'}")


def _document(source: Json) -> Json:
    return {"type": "document", "source": source}


def _text(data: str, where: str) -> str:
    if len(data) > TEXT_LIMIT:
        raise Unsupported(f"{where}: a text has more than {TEXT_LIMIT:,} characters of base64")
    try:
        return a2b_base64(data).decode()
    except (Error, ValueError):
        raise Unsupported(f"{where}: the data is not UTF-8 text in base64") from None
