"""Lets a request in: by its key and the key's limits, where there are keys; everybody where there are none."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from gateway.errors import Forbidden, Unauthorized
from gateway.keys import Key, KeyRing
from gateway.limits import Grant, Limits
from gateway.reply import End

Close = Callable[[End | None], Awaitable[None]]


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

    async def enter(self, key: Key | None, model: str) -> Grant | None:
        """Let a chat with ``model`` in. Raises :class:`Forbidden` or :class:`OverLimit`."""
        if key is None:
            return None
        if not key.allows(model):
            raise Forbidden(model)
        return await self._limits.enter(key)

    async def leave(self, grant: Grant | None, end: End | None) -> None:
        """A chat that was let in is over."""
        if grant is not None:
            await self._limits.close(grant, end)
