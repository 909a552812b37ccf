"""What a reply has cost, as its model says: whole, and as the two counts that we read."""

from typing import Any

from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from worker.contract import failures
from worker.contract.fields import Json, dumps
from worker.openai.chunk import ODD, NoChunk

USAGE_LIMIT = 64 * 1024
"""Characters of the usage as the model gave it."""


class Usage:
    """The last that was given: some providers send it with every chunk."""

    def __init__(self) -> None:
        self.counts = RequestUsage(prompt_tokens=0, completion_tokens=0)
        self._given = ""
        self._after = -1
        self._comes_with_deltas = False

    def note(self, given: Json, after: int, *, with_delta: bool) -> None:
        """``after`` is the number of deltas before it. Raises :class:`NoChunk`."""
        text = dumps(given)
        if len(text) > USAGE_LIMIT:
            raise NoChunk(f"the usage is longer than {USAGE_LIMIT:,} characters")
        prompt = _count(given.get("prompt_tokens", given.get("input_tokens")))
        completion = _count(given.get("completion_tokens", given.get("output_tokens")))
        self.counts = RequestUsage(prompt, completion)
        self._given = text
        self._comes_with_deltas |= with_delta
        if prompt > 0 or completion > 0:  # one that says nothing ends nothing
            self._after = after

    def is_last(self, deltas: int) -> bool:
        """Whether it came after all ``deltas``: the reply is whole then, unless it comes with every one of them."""
        return self._after == deltas > 0 and not self._comes_with_deltas

    def total(self) -> pb.Usage:
        usage = failures.usage(self.counts)
        usage.extra = self._given
        return usage


def _count(value: Any) -> int:
    """Some providers send numbers as text. What is no number counts as none."""
    try:
        return int(float(value)) if isinstance(value, str) else int(value or 0)
    except ODD:
        return 0
