"""What the test backend shall do with one request, said by the request itself.

A test puts a :class:`Schedule` into its last user message; the backend follows it, and the test computes from the same
schedule what must arrive. Both sides use the functions of this module, so nothing needs to be exchanged besides.
"""

import dataclasses
import json
import random
import secrets
from collections.abc import Iterator
from typing import Any

TRICKY = ("é", "漢字", "👩‍🚀", "\n", "\r\n", '"', "\\", "\t", " ", "</s>", "\u2028", "data: ", "{}", "ß", "\x7f", "'")
"""Ends of tokens that a careless encoder, splitter or merger would break."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """One reply. Times are in seconds; counts ``…_after`` are tokens of the reply that arrive before the fault."""

    tag: str | None = None
    """Name under which the backend's record of the request can be looked up."""

    # What is said, and how fast.
    tokens: int = 20
    seed: int = dataclasses.field(default_factory=lambda: secrets.randbits(48))
    size: int = 0
    """Bytes of each token in UTF-8, at least; 0 leaves them as they come (12 to 28)."""
    text: str | None = None
    """Exactly this text, in pieces of four characters, instead of generated tokens."""
    refuses: bool = False
    """What is said is a refusal."""
    reasoning: int = 0
    """Tokens of ``reasoning_content`` before the reply."""
    first_delay: float = 0.0
    delay: float = 0.0
    """Between two tokens; 0 sends flat out."""
    tool_calls: list[dict[str, Any]] | None = None
    """Calls (``id``, ``name``, ``arguments``, and what else they have) made instead of the reply, which follows once
    their results are there."""
    fields: dict[str, Any] | None = None
    """A delta of other fields, before the reply."""
    finish_reason: str = "stop"
    usage: dict[str, Any] | None = None
    """Reported instead of what was counted; the total is added."""

    # What goes wrong.
    status: int | None = None
    """Answer this HTTP status and no reply."""
    error: dict[str, Any] | None = None
    """What the answer's ``error`` has besides or instead of what it always has."""
    retry_after: int | None = None
    fail_times: int = 0
    """With ``status`` and ``tag``: fail so often, then reply. 0 fails always."""
    hang: bool = False
    """Take the request and never answer."""
    hang_after: int | None = None
    reset_after: int | None = None
    """Reset the TCP connection."""
    end_after: int | None = None
    """End the body cleanly, with neither a finish reason nor ``[DONE]``."""
    error_after: int | None = None
    """Send an error as an event of the stream."""

    def message(self) -> str:
        """The schedule as the content of a user message."""
        said = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name == "seed" or getattr(self, field.name) != field.default
        }
        return json.dumps(said)

    @property
    def cut(self) -> int | None:
        """Tokens before the fault, if the reply does not end well."""
        cuts = (self.hang_after, self.reset_after, self.end_after, self.error_after)
        return min((cut for cut in cuts if cut is not None), default=None)


FIELDS = frozenset(field.name for field in dataclasses.fields(Schedule))


def parse(content: str) -> Schedule | None:
    """The schedule that a message carries, or ``None`` where it is plain text."""
    if not content.startswith("{"):
        return None
    try:
        said: Any = json.loads(content)
    except ValueError:
        return None
    if not isinstance(said, dict) or not said or not FIELDS.issuperset(said):
        return None
    return Schedule(**said)


def reply_tokens(schedule: Schedule) -> Iterator[str]:
    """The reply's tokens: each one new, and unknown to who does not know the seed."""
    if schedule.text is not None:
        yield from (schedule.text[at : at + 4] for at in range(0, len(schedule.text), 4))
        return
    yield from _generated(schedule.seed, schedule.tokens, schedule.size)


def reasoning_tokens(schedule: Schedule) -> Iterator[str]:
    """The tokens of ``reasoning_content``."""
    return _generated(schedule.seed + 1, schedule.reasoning, 0)


def reply_text(schedule: Schedule) -> str:
    """What the client must read, byte for byte, if nothing goes wrong."""
    return "".join(reply_tokens(schedule))


def argument_parts(call: dict[str, Any]) -> Iterator[str]:
    """A call's arguments in the parts in which they are streamed."""
    arguments: str = call["arguments"]
    yield from (arguments[at : at + 5] for at in range(0, len(arguments), 5))


def logprob_of(token: str, alternatives: int = 0) -> dict[str, Any]:
    """What OpenAI's ``logprobs.content`` has for a token of the reply."""
    others = [{"token": f"~{rank}", "logprob": -2.5 - rank, "bytes": [126, 48 + rank]} for rank in range(alternatives)]
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": others}


def embedding(seed: int, dimensions: int) -> list[float]:
    """A vector that a 32-bit float holds exactly."""
    draw = random.Random(seed).getrandbits
    return [draw(24) / 2**23 - 1 for _ in range(dimensions)]


def echo(content: str) -> Schedule:
    """The reply to a plain message."""
    return Schedule(text=f"You said: {content}", seed=0)


def _generated(seed: int, count: int, size: int) -> Iterator[str]:
    draw = random.Random(seed).getrandbits
    for number in range(count):
        token = f"{number}:{draw(32):08x}{TRICKY[number % len(TRICKY)]} "
        yield token + "." * (size - len(token.encode())) if size else token
