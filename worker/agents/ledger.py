"""What a run has used and may use, what its models get back, and why it failed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from autogen_core.models import ChatCompletionClient, RequestUsage

from worker.agents.recall import Recall
from worker.contract.observer import OWN, Observer, Operation


class RunOver(Exception):
    """A run ends here, and nothing has failed."""


class OutOfTurns(RunOver):
    """A run has used the model calls that its entry allows."""


class Ledger:
    """One run's usage by speaker, over all its model calls, and the first error of a model or a tool.

    ``names`` are those of the models of ``models.yaml``, by their clients' ``id``.
    """

    def __init__(self, observer: Observer | None = None, names: Mapping[int, str] | None = None) -> None:
        self.observer = observer or Observer()
        self._names = names or {}
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

    def calling(self, client: ChatCompletionClient) -> AbstractContextManager[Operation]:
        """The call of a model, for the observer."""
        return self.observer.model(self._names.get(id(client), OWN), client)

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
