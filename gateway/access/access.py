"""Lets a request in, by its key, what that key may use, and how much."""

from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.requests import Request

from gateway.access.keys import Key, KeyRing
from gateway.access.limits import Grant, Limits, prompt_tokens
from gateway.errors import Forbidden, Unauthorized, Unavailable
from protos import chat_pb2 as pb

ANYONE = Key(name="anyone", sha256="0" * 64)
"""Stands for the key of every client where none is needed. It limits nothing."""


class Access:
    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self._limits = Limits()

    @property
    def needs_key(self) -> bool:
        return self._ring is not None

    def identify(self, request: Request) -> Key:
        """The request's key. Raises :class:`Unauthorized`."""
        if self._ring is None:
            return ANYONE
        for text in _sent(request.headers):
            if found := self._ring.find(text):
                return found
        raise Unauthorized

    def known(self, request: Request) -> Key | None:
        """The request's key; None for one without a valid key."""
        try:
            return self.identify(request)
        except Unauthorized:
            return None

    def enter(self, key: Key, model: str, history: pb.ChatHistory) -> Grant:
        """Admit a chat; close the grant when it is over. ``model`` is what it would run on, empty if that is not known.

        Raises :class:`Forbidden`, :class:`OverLimit`, or :class:`Unavailable` if only a named model can be checked.
        """
        if not model and key.models is not None:
            raise Unavailable("no_worker", "no worker is ready, and so there is no default model yet")
        if not key.allows(model):
            raise Forbidden(model)
        return self._limits.enter(key, prompt_tokens(history) if key.tokens_per_minute is not None else 0)


def _sent(headers: Headers) -> Iterator[str]:
    """The texts that a request sends as its key: as OpenAI's, Azure's and Anthropic's clients do."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield key.strip()
    for name in ("api-key", "x-api-key"):
        if name in headers:
            yield headers[name]
