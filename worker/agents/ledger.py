"""What a run has used and may use, what its models get back, and why it failed."""

from autogen_core.models import RequestUsage

from worker.agents.recall import Recall


class OutOfTurns(Exception):
    """A run has used the model calls that its entry allows."""


class Ledger:
    """One run's usage by speaker, over all its model calls, and the first error of a model or a tool."""

    def __init__(self) -> None:
        self.by_speaker: dict[str, RequestUsage] = {}
        self.error: Exception | None = None
        self.recall = Recall()
        self._calls_left: int | None = None

    def limit(self, calls: int) -> None:
        """Allow so many calls of models."""
        self._calls_left = calls

    def begin_call(self) -> None:
        """A model is about to be called. Raises :class:`OutOfTurns`."""
        if self._calls_left is not None:
            if self._calls_left <= 0:
                raise OutOfTurns
            self._calls_left -= 1

    def count(self, speaker: str, usage: RequestUsage | None) -> None:
        if usage is not None:
            known = self.by_speaker.setdefault(speaker, RequestUsage(0, 0))
            known.prompt_tokens += usage.prompt_tokens
            known.completion_tokens += usage.completion_tokens

    def failed(self, error: Exception) -> None:
        if self.error is None:
            self.error = error

    @property
    def total(self) -> RequestUsage:
        return RequestUsage(
            sum(usage.prompt_tokens for usage in self.by_speaker.values()),
            sum(usage.completion_tokens for usage in self.by_speaker.values()),
        )
