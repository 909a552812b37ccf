"""Limits of a key: requests and tokens a minute, and concurrent requests.

A reply is charged while it is written, so that concurrent requests see it. It is not cut at the limit: it counts in
full, and the next request is refused.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.access.keys import Key
from gateway.chats.reply import Completed, Reply
from gateway.errors import OverLimit
from protos import chat_pb2 as pb

MINUTE = 60.0

BYTES_PER_TOKEN = 4
"""An estimate for prompts that no model has counted, from English text."""

SMALL = 4096
"""Bytes up to which a message is not searched for images: thousands of small messages would take long."""


@dataclass(eq=False)
class _Window:
    began: float
    requests: int = 0
    tokens: int = 0


class Grant:
    def __init__(self, limits: "Limits", key: Key, prompt: int, headers: dict[str, str]) -> None:
        self.headers = headers
        self._limits = limits
        self._key = key
        self._prompt = prompt
        self._reply = Reply()
        self._charged = 0
        self._window: _Window | None = None
        self._in_window = 0
        """The part of the charge that is in that window, and can be taken back."""
        self.charge(prompt)

    def follow(self, reply: Reply) -> None:
        self._reply = reply
        if self._key.tokens_per_minute is not None:
            reply.meter(lambda tokens: self.charge(self._prompt + tokens))

    def close(self) -> None:
        self.charge(spent(self._reply, self._prompt))
        self._limits.leave(self._key)

    def charge(self, tokens: int) -> None:
        """Set this request's charge. The difference counts in the present minute, and can be taken back only there."""
        if self._key.tokens_per_minute is None:
            return
        window = self._limits.window(self._key)
        if window is not self._window:
            self._window, self._in_window = window, 0
        added = max(tokens - self._charged, -self._in_window)
        window.tokens += added
        self._charged += added
        self._in_window += added


class Limits:
    """Counts for each key's name, in this gateway. A key's minute begins with its first request in it.

    Counts survive a change of the key file. Memory is bounded by the keys that were used in the last minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        """In the order of their beginnings. Expired ones are dropped when another begins."""
        self._running: dict[str, int] = {}

    def enter(self, key: Key, prompt: int = 0) -> Grant:
        """Admit and count a request with an estimate of its prompt's tokens. Raises :class:`OverLimit`."""
        running = self._running.get(key.name, 0)
        if key.concurrent is not None and running >= key.concurrent:
            raise OverLimit(f"{key.concurrent} requests at once", 1.0)
        headers: dict[str, str] = {}
        if key.tokens_per_minute is not None:
            self._check(key, "tokens", self.window(key).tokens, key.tokens_per_minute, headers)
        if key.requests_per_minute is not None:
            window = self.window(key)
            self._check(key, "requests", window.requests, key.requests_per_minute, headers)
            window.requests += 1
            self._describe(headers, window, "requests", window.requests, key.requests_per_minute)
        self._running[key.name] = running + 1
        return Grant(self, key, prompt, headers)

    def leave(self, key: Key) -> None:
        self._running[key.name] -= 1
        if not self._running[key.name]:
            del self._running[key.name]

    def window(self, key: Key) -> _Window:
        now = self._clock()
        window = self._windows.get(key.name)
        if window is None or now - window.began >= MINUTE:
            while self._windows and now - next(iter(self._windows.values())).began >= MINUTE:
                self._windows.popitem(last=False)
            window = self._windows[key.name] = _Window(now)
        return window

    def _check(self, key: Key, what: str, used: int, limit: int, headers: dict[str, str]) -> None:
        window = self.window(key)
        self._describe(headers, window, what, used, limit)
        if used >= limit:
            rule = "; a reply that passes it is finished and counts in full" if what == "tokens" else ""
            raise OverLimit(f"{limit} {what} a minute{rule}", max(1.0, self._left(window)), headers)

    def _describe(self, headers: dict[str, str], window: _Window, what: str, used: int, limit: int) -> None:
        headers[f"x-ratelimit-limit-{what}"] = str(limit)
        headers[f"x-ratelimit-remaining-{what}"] = str(max(0, limit - used))
        headers[f"x-ratelimit-reset-{what}"] = f"{math.ceil(self._left(window))}s"

    def _left(self, window: _Window) -> float:
        return max(0.0, window.began + MINUTE - self._clock())


def prompt_tokens(history: pb.ChatHistory) -> int:
    """An estimate of a prompt's tokens, with its tools, without its images and files, whose size is not their cost."""
    size = history.options.ByteSize() + len(history.body)
    for message in history.messages:
        size += message.ByteSize()
        if message.ByteSize() > SMALL:
            size -= sum(part.ByteSize() for part in message.content if part.WhichOneof("part") != "text")
    return math.ceil(size / BYTES_PER_TOKEN)


def spent(reply: Reply, prompt: int) -> int:
    """What a request is charged: the model's counts, or else the tokens received and the estimate of its prompt.

    A request that failed before its reply is free. One whose client left once a worker had accepted it is not.
    """
    usage = reply.end.usage if reply.end is not None else None
    counted = usage if usage is not None else pb.Usage()
    completion = counted.completion_tokens or reply.tokens
    if not completion and not isinstance(reply.end, Completed):
        left = reply.end is None and reply.accepted
        return counted.prompt_tokens or (prompt if left else 0)
    return (counted.prompt_tokens or prompt) + completion
