"""The server-sent events of one reply, in the two forms that model servers send.

``changing`` events are what OpenAI sends by default: ``service_tier``, ``system_fingerprint``, ``usage`` and an
``obfuscation`` of random characters that differs from event to event. ``constant`` events differ in their token only,
as many self-hosted servers send them.
"""

import itertools
import random
import string
import time
from collections.abc import Sequence

import orjson

from bench.order import CLOSING, OPENING, TOKEN, TOOL, Order

MODEL = "bench"
PADDINGS = 4096
"""Obfuscations made in advance. A reply uses each of them once before it repeats one."""
LONGEST = 16
"""Characters of an obfuscation; OpenAI pads to a multiple of this."""


def _paddings() -> Sequence[bytes]:
    """Ends of events, each with an obfuscation of its own. They are the same in every backend."""
    draw = random.Random(PADDINGS)
    letters = string.ascii_letters + string.digits
    texts = ("".join(draw.choices(letters, k=draw.randint(1, LONGEST))) for _ in range(PADDINGS))
    return [b',"usage":null,"obfuscation":"%b"}\n\n' % text.encode() for text in texts]


_CHANGING = _paddings()
_CONSTANT = [b"}\n\n"]
_STARTS = itertools.count()
"""Each reply starts at another place in the list, so that no two replies are padded alike."""


class Frames:
    """Builds the events of the reply to one order. A token costs one ``%``; everything else is made in advance."""

    def __init__(self, order: Order, wants_usage: bool) -> None:
        self._order = order
        self._wants_usage = wants_usage
        self._owner = order.id.encode()
        changes = order.frames == "changing"
        self._ends = _CHANGING if changes else _CONSTANT
        self._place = next(_STARTS) * 797 % PADDINGS
        name = f"chatcmpl-{order.id:0<29}" if changes else f"chatcmpl-{order.id}"
        head = f'"id":"{name}","object":"chat.completion.chunk","created":{int(time.time())},"model":"{MODEL}",'
        if changes:
            head += '"service_tier":"default","system_fingerprint":"fp_07871e2ad8",'
        self._head = b"data: {" + head.encode()
        before, after = _DELTAS[order.kind]
        self._token = self._choice(before + TOKEN + after, b"null") + b"%b"

    def opening(self) -> list[bytes]:
        """What comes before the first token: the role, and of a tool call all but its arguments."""
        if self._order.kind != "tools":
            return [self._event(b'{"role":"assistant","content":""}')]
        call = b'{"index":0,"id":"call_%b","type":"function","function":{"name":"%b","arguments":""}}'
        call %= (self._owner, TOOL.encode())
        first = self._event(b'{"role":"assistant","content":null,"tool_calls":[%b]}' % call)
        return [first, self._arguments(OPENING)]

    def token(self, place: int, now: int) -> bytes:
        """The event of one token; ``now`` is the time at which it is sent, in µs."""
        return self._token % (self._owner, place, now, self._end())

    def ending(self) -> list[bytes]:
        """The finish reason, the usage if it was asked for, and ``[DONE]``."""
        if self._order.kind == "tools":
            events = [self._arguments(CLOSING), self._event(b"{}", b'"tool_calls"')]
        else:
            events = [self._event(b"{}", b'"stop"')]
        if self._wants_usage:
            tokens = self._order.tokens
            usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
            end = self._end().replace(b',"usage":null', b"")
            events.append(self._head + b'"choices":[],"usage":' + orjson.dumps(usage) + end)
        return [*events, b"data: [DONE]\n\n"]

    def _arguments(self, part: str) -> bytes:
        before, after = _DELTAS["tools"]
        return self._event(before + orjson.dumps(part)[1:-1] + after)

    def _event(self, delta: bytes, finish: bytes = b"null") -> bytes:
        return self._choice(delta, finish) + self._end()

    def _choice(self, delta: bytes, finish: bytes) -> bytes:
        choice = b'"choices":[{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":' + finish + b"}]"
        return self._head + choice

    def _end(self) -> bytes:
        self._place += 1
        return self._ends[self._place % len(self._ends)]


_DELTAS = {
    "text": (b'{"content":"', b'"}'),
    "reasoning": (b'{"reasoning_content":"', b'"}'),
    "tools": (b'{"tool_calls":[{"index":0,"function":{"arguments":"', b'"}}]}'),
}
"""What stands before and after a token of each kind."""
