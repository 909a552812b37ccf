"""What stands around the text in a stream's events: the same, mostly, from one token to the next.

An event that begins and ends like one that was understood before, with one JSON string in between, can only mean the
same with another text. So only the string is decoded.
"""

import re

import orjson

_CONTENT = re.compile(rb'"content": ?(?=")')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_END = b"\n\n"

LEARNED = 4096
"""Bytes of a payload that is learned from: a token's has some hundred, and the search in a longer one takes memory."""


class TextFrame:
    """Learns from one payload, and recognises its like."""

    def __init__(self) -> None:
        self._before = b""
        self._after = b""

    def learn(self, payload: bytes, text: str) -> None:
        """``payload`` is an event's data, which amounts to ``text`` and nothing else."""
        if len(payload) > LEARNED:
            return
        data = b"data: " + payload
        if data.startswith(self._before) and data.endswith(self._after) and self._before:
            return
        self._before = b""
        found = _CONTENT.findall(data)
        content = _CONTENT.search(data)
        string = _STRING.match(data, content.end()) if content is not None and len(found) == 1 else None
        if string is not None and _loads(string[0]) == text:
            self._before, self._after = data[: string.start() + 1], data[string.end() - 1 :]  # with the quotes

    def texts(self, received: bytes) -> list[str] | None:
        """The texts of the events in ``received``; None unless all of it is whole events of this frame, none empty."""
        before, after = self._before, self._after
        if not before or not received.endswith(_END):
            return None
        start, end = len(before) - 1, 1 - len(after)
        texts = []
        for event in received[:-2].split(_END):
            if not event.startswith(before) or not event.endswith(after) or len(event) < len(before) + len(after):
                return None
            text = _loads(event[start:end])
            if not isinstance(text, str) or not text:
                return None
            texts.append(text)
        return texts


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
