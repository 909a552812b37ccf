"""One try of a request on one worker: its progress, its outcome, and the time limits of its phases."""

import asyncio
import time
from collections.abc import Callable

from fleet.lane import IncomingReply
from gateway.errors import GatewayError, ModelFailed, OutOfTime, WorkerLost
from gateway.settings import GatewaySettings


class Attempt:
    """``outcome`` is None for an end that reached the reply, else why the attempt failed.

    It ends by itself after a silence that is too long for its phase, unless ``excused`` says that the silence is not
    the worker's fault: then it counts from that moment. The owner must call :meth:`close`.
    """

    def __init__(
        self,
        number: int,
        worker_id: str,
        incoming: IncomingReply,
        settings: GatewaySettings,
        excused: Callable[["Attempt"], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.worker_id = worker_id
        self.incoming = incoming
        self.accepted = False
        self.started = False
        self.heard_at = clock()
        self.outcome: asyncio.Future[GatewayError | None] = asyncio.get_running_loop().create_future()
        self._position = 0
        self._settings = settings
        self._excused = excused
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    def expects(self, worker_id: str, number: int) -> bool:
        return number == self.number and worker_id == self.worker_id and not self.outcome.done()

    def is_next(self, position: int) -> bool:
        """Whether an event is new, by its position; 0, from workers of the version before, always is.

        Raises :class:`WorkerLost` when events before it are missing.
        """
        if position == self._position + 1:
            self._position = position
            return True
        if position > self._position:
            raise WorkerLost("lane_broken", "the worker lost a part of this reply")
        return position == 0

    def accept(self) -> None:
        if not self.accepted:
            self.accepted = True
            self._set_timer()

    def start(self) -> None:
        if not self.started:
            self.accepted = self.started = True
            self._set_timer()

    def hear(self) -> None:
        self.heard_at = self._clock()

    def end(self, error: GatewayError | None = None) -> None:
        """Decide the outcome; only the first call counts."""
        if not self.outcome.done():
            self.outcome.set_result(error)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def ended_by_worker(self) -> bool:
        """Whether the worker itself reported the end, so that nothing is left to cancel."""
        return self.outcome.done() and isinstance(self.outcome.result(), ModelFailed | None)

    @property
    def code(self) -> str:
        """How it ended: an error's code, or empty for a completed reply; without an outcome its client has left."""
        if not self.outcome.done():
            return "client_gone"
        error = self.outcome.result()
        return error.code if error is not None else ""

    def _limit(self) -> float:
        if not self.accepted:
            return self._settings.accept_timeout
        return self._settings.token_timeout if self.started else self._settings.first_token_timeout

    def _set_timer(self) -> None:
        # One timer a phase: an event only moves heard_at, which is checked when the timer fires.
        self.close()
        left = self.heard_at + self._limit() - self._clock()
        self._timer = asyncio.get_running_loop().call_later(max(0.001, left), self._check)

    def _check(self) -> None:
        if self._excused(self):
            self.hear()
        if self.heard_at + self._limit() <= self._clock():
            self.end(self._overdue())
        else:
            self._set_timer()

    def _overdue(self) -> GatewayError:
        limit = f"within {self._limit():g} s"
        if not self.accepted:
            return OutOfTime("not_accepted", f"the worker did not accept the request {limit}", retryable=True)
        if not self.started:
            return OutOfTime("first_token_timeout", f"the model gave no token {limit}", retryable=False)
        return OutOfTime("token_timeout", f"the model gave no further token {limit}", retryable=True)
