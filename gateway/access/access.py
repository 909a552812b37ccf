"""Lets a request in: by its key and the key's limits, where there are keys; everybody where there are none."""

from starlette.requests import Request

from gateway.access.keys import Key, KeyRing
from gateway.access.limits import Grant, Limits, prompt_tokens
from gateway.errors import Forbidden, Unauthorized, Unavailable
from protos import chat_pb2 as pb

ANYBODY = Key(name="anybody", sha256="0" * 64)
"""The key of those who need none: it limits nothing."""


class Access:
    """Who may ask. Without a key ring everybody may, without limits."""

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self._limits = Limits()

    def identify(self, request: Request) -> Key | None:
        """The request's key. Raises :class:`Unauthorized`; None where no key is needed."""
        if self._ring is None:
            return None
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        found = self._ring.find(key.strip()) if scheme.lower() == "bearer" and key else None
        if found is None:
            raise Unauthorized
        return found

    def enter(self, key: Key | None, model: str, history: pb.ChatHistory) -> Grant:
        """Let a chat in that would run on ``model``, which is empty when the request names none and no worker is ready.

        Close the grant when the chat is over. Raises :class:`Forbidden`, :class:`OverLimit`, or :class:`Unavailable`
        while it is not known whether the key may use the model.
        """
        key = key or ANYBODY
        if not model and key.models is not None:
            raise Unavailable("no_worker", "no worker is ready, and so there is no default model yet")
        if not key.allows(model):
            raise Forbidden(model)
        return self._limits.enter(key, prompt_tokens(history) if key.tokens_per_minute is not None else 0)
