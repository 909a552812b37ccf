"""Lets a request in, by its key, what that key may use, and how much."""

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

    def identify(self, request: Request) -> Key:
        """The request's key. Raises :class:`Unauthorized`."""
        if self._ring is None:
            return ANYONE
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        found = self._ring.find(key.strip()) if scheme.lower() == "bearer" and key else None
        if found is None:
            raise Unauthorized
        return found

    def enter(self, key: Key, model: str, history: pb.ChatHistory) -> Grant:
        """Admit a chat; close the grant when it is over. ``model`` is what it would run on, empty if that is not known.

        Raises :class:`Forbidden`, :class:`OverLimit`, or :class:`Unavailable` if only a named model can be checked.
        """
        if not model and key.models is not None:
            raise Unavailable("no_worker", "no worker is ready, and so there is no default model yet")
        if not key.allows(model):
            raise Forbidden(model)
        return self._limits.enter(key, prompt_tokens(history) if key.tokens_per_minute is not None else 0)
