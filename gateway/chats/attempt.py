"""One try at a request on one worker: how far it has come, how it ended, and when its silence has lasted too long."""

import asyncio
import time
from collections.abc import Callable

from gateway.errors import GatewayError, ModelFailed, OutOfTime
from gateway.settings import GatewaySettings


class Attempt:
    """``outcome`` is None for an end that reached the reply, else why it failed.

    Ends by itself when nothing was heard for as long as the settings allow in its phase: until it is accepted, until
    its first token, and between two tokens. ``excused`` tells whether a silence is not the worker's: it then counts
    from now. Close it when it is over.
    """

    def __init__(
        self,
        number: int,
        worker_id: str,
        settings: GatewaySettings,
        excused: Callable[["Attempt"], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.worker_id = worker_id
        self.accepted = False
        self.started = False
        self.heard_at = clock()
        self.outcome: asyncio.Future[GatewayError | None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._excused = excused
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._wait()

    def accept(self) -> None:
        """The worker has taken it on."""
        if not self.accepted:
            self.accepted = True
            self._wait()

    def start(self) -> None:
        """The first of the reply has come."""
        if not self.started:
            self.accepted = self.started = True
            self._wait()

    def hear(self) -> None:
        """A sign of life has come, or a silence is excused."""
        self.heard_at = self._clock()

    def end(self, error: GatewayError | None = None) -> None:
        """Decide the outcome; only the first call counts."""
        if not self.outcome.done():
            self.outcome.set_result(error)

    def close(self) -> None:
        """Stop its timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def ended_by_worker(self) -> bool:
        """Whether the worker itself reported the end, and so runs this no more."""
        return self.outcome.done() and isinstance(self.outcome.result(), ModelFailed | None)

    def why(self) -> str:
        """Why it ended, in a word; without an outcome its client has left."""
        error = self.outcome.result() if self.outcome.done() else None
        return error.code if error is not None else "client_gone"

    def _limit(self) -> float:
        if not self.accepted:
            return self._settings.accept_timeout
        return self._settings.token_timeout if self.started else self._settings.first_token_timeout

    def _wait(self) -> None:
        """Look again when the silence would be too long. One timer a phase: what is heard meanwhile moves no timer."""
        self.close()
        left = self.heard_at + self._limit() - self._clock()
        self._timer = asyncio.get_running_loop().call_later(max(0.001, left), self._check)

    def _check(self) -> None:
        if self._excused(self):
            self.hear()
        if self.heard_at + self._limit() <= self._clock():
            self.end(self._overdue())
        else:
            self._wait()

    def _overdue(self) -> GatewayError:
        limit = f"within {self._limit():g} s"
        if not self.accepted:
            return OutOfTime("not_accepted", f"the worker did not take the request on {limit}", retryable=True)
        if not self.started:
            return OutOfTime("first_token_timeout", f"the model gave no token {limit}", retryable=False)
        return OutOfTime("token_timeout", f"the model gave no further token {limit}", retryable=True)
