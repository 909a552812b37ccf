"""What a model's usage tells besides its two counts."""

from typing import Any

import orjson

from protos import chat_pb2 as pb

MOST = 10**9
"""More is no count of tokens."""


def details(usage: pb.Usage) -> tuple[int, int]:
    """The prompt's tokens that came from a cache, and the reply's that were reasoning; 0 if not said."""
    try:
        whole: Any = orjson.loads(usage.extra) if usage.extra else {}
    except ValueError:
        whole = {}
    return (
        _count(whole, "prompt_tokens_details", "cached_tokens"),
        _count(whole, "completion_tokens_details", "reasoning_tokens"),
    )


def sane(count: object) -> int:
    """A count as it can be added up; 0 for what is none."""
    return count if type(count) is int and 0 < count <= MOST else 0


def _count(whole: Any, part: str, name: str) -> int:
    found = whole.get(part) if isinstance(whole, dict) else None
    return sane(found.get(name)) if isinstance(found, dict) else 0
