"""Text from a model as valid UTF-8: JSON may hold half a character in one piece and the other half in the next."""


class SurrogateJoiner:
    """Joins surrogate pairs that a stream cut in two; what stays alone becomes U+FFFD."""

    def __init__(self) -> None:
        self._high = ""

    def join(self, text: str) -> str:
        """``text`` with what was held back before it, without what must be held back now."""
        if text.isascii() and not self._high:
            return text
        text, self._high = self._high + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return clean(text)

    def end(self) -> str:
        """What is left when the stream is over."""
        left, self._high = self._high, ""
        return clean(left)


def clean(text: str) -> str:
    """``text`` with its surrogate pairs joined and lone surrogates replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
