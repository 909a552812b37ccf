"""How much a key may ask: requests and tokens a minute (the ``limits`` library counts), and streams at once."""

import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from gateway.errors import OverLimit
from gateway.keys import Key
from gateway.reply import End


@dataclass
class Grant:
    """A request that was let in; :meth:`Limits.close` ends it."""

    key: Key
    headers: dict[str, str]


class Limits:
    """Counts per key, in this gateway. A minute begins with a key's first request in it."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._streams: dict[str, int] = {}

    async def enter(self, key: Key) -> Grant:
        """Let a request in and count it. Raises :class:`OverLimit` with the headers that clients know."""
        headers: dict[str, str] = {}
        if key.concurrent is not None and self._streams.get(key.name, 0) >= key.concurrent:
            raise OverLimit(f"{key.concurrent} requests at once", 1.0)
        if key.tokens_per_minute is not None:
            item = RateLimitItemPerMinute(key.tokens_per_minute)
            allowed = await self._limiter.test(item, "tokens", key.name)
            await self._describe(headers, item, "tokens", key.name)
            if not allowed:
                raise await self._refusal(item, "tokens", key, headers)
        if key.requests_per_minute is not None:
            item = RateLimitItemPerMinute(key.requests_per_minute)
            allowed = await self._limiter.hit(item, "requests", key.name)
            await self._describe(headers, item, "requests", key.name)
            if not allowed:
                raise await self._refusal(item, "requests", key, headers)
        self._streams[key.name] = self._streams.get(key.name, 0) + 1
        return Grant(key, headers)

    async def close(self, grant: Grant, end: End | None) -> None:
        """The request is over: free its stream and count its tokens."""
        key = grant.key
        self._streams[key.name] -= 1
        if not self._streams[key.name]:
            del self._streams[key.name]
        counts = end.usage if end is not None else None
        tokens = counts.prompt_tokens + counts.completion_tokens if counts is not None else 0
        if key.tokens_per_minute is not None and tokens:
            await self._limiter.hit(RateLimitItemPerMinute(key.tokens_per_minute), "tokens", key.name, cost=tokens)

    async def _refusal(self, item: RateLimitItem, what: str, key: Key, headers: dict[str, str]) -> OverLimit:
        stats = await self._limiter.get_window_stats(item, what, key.name)
        error = OverLimit(f"{item.amount} {what} a minute", max(1.0, stats.reset_time - time.time()))
        error.extra_headers = headers
        return error

    async def _describe(self, headers: dict[str, str], item: RateLimitItem, what: str, name: str) -> None:
        stats = await self._limiter.get_window_stats(item, what, name)
        headers[f"x-ratelimit-limit-{what}"] = str(item.amount)
        headers[f"x-ratelimit-remaining-{what}"] = str(stats.remaining)
        headers[f"x-ratelimit-reset-{what}"] = f"{max(0, math.ceil(stats.reset_time - time.time()))}s"
