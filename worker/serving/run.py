"""One run: a request goes to its service, and exactly one terminal event ends its reply."""

import asyncio
from collections.abc import Callable

from fleet import logs
from fleet.lane import Sink
from protos import chat_pb2 as pb
from worker.contract import causes, failures
from worker.contract.observer import Observer, Operation
from worker.contract.route import Route
from worker.services.service import Service
from worker.serving.health import Judge, Judged

log = logs.logger(__name__)

PLACED = frozenset({"internal_error", "agent_failed"})
"""Codes of failures that are logged with their place in the code even where there are words for them."""


class Run:
    """One attempt at one request. ``reason`` is what the gateway is told when it is cancelled.

    ``on_first`` is called with the reply's first event: by then the service has sent the request on. ``began``
    is in seconds of the outbox's clock. It has 16 attributes because it must not keep its request, but what the log and
    the gateway need of it.
    """

    def __init__(
        self,
        request: pb.ChatHistory,
        service: Service,
        sink: Sink,
        observer: Observer,
        on_first: Callable[[], object] = lambda: None,
        route: Route | None = None,
        judged: Judged | None = None,
        began: float = 0.0,
    ) -> None:
        self.request_id = request.request_id
        self.attempt = request.attempt
        self.gateway_id = request.reply_to
        self.began = began
        self.reason = "shutdown"
        self._request = request
        self.model = request.model
        self._service = service
        self._sink = sink
        self._observer = observer
        self._on_first = on_first
        self._route = route or Route()
        self._judged = judged or Judged(Judge(), request.model, request.endpoint, request.request_id)
        self._started = False
        self._operation = Operation()
        self.task: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        self.task = group.create_task(self.run())
        return self.task

    @property
    def is_cancelled(self) -> bool:
        """Whether it has been told to end, which may take it a while."""
        return self.task is not None and self.task.cancelling() > 0

    def cancel(self, reason: str) -> None:
        self.reason = reason
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Serve the request. Returns, whatever happens, after the terminal event was written."""
        with self._observer.run(self._request) as self._operation:
            self._judged.began()
            self._sink.on_first = self._first
            self._sink.accept()
            try:
                end = await self._serve()
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # the service answered its cancellation with something else
                    raise asyncio.CancelledError
                # The last events may wait for credit. Until then the client can still cancel the run.
                await self._sink.ready()
            except asyncio.CancelledError:
                self._finish(pb.Cancelled(reason=self.reason))
                raise
            self._finish(end)

    async def _serve(self) -> pb.Done | pb.Error:
        deadline = asyncio.timeout(self._time_left())
        try:
            async with deadline:
                request, self._request = self._request, pb.ChatHistory()
                running = self._service.run(request, self._sink)
                del request  # it must not be kept for as long as the reply takes
                return await running
        except Exception as error:
            failure, reason = self._failure(error, deadline.expired())
            report = log.error if failure.code == "internal_error" else log.warning
            report(
                "chat failed",
                request=self.request_id,
                model=self.model,
                code=failure.code,
                **({"host": host} if (host := self._route.host or causes.host(error)) else {}),
                **({"reason": reason} if reason else {}),
                **({} if reason and failure.code not in PLACED else {"exc_info": error}),
            )
            return failure

    def _failure(self, error: Exception, expired: bool) -> tuple[pb.Error, str]:
        """The error to send, and the reason to log. Raises nothing: that would end the worker, with every run on it."""
        if expired:
            return failures.deadline(), ""
        try:
            return failures.failure(error, self._started, self._route.mask), failures.reason(error, self._route.mask)
        except Exception as defect:
            log.error("a failure was not understood", request=self.request_id, exc_info=defect)
            return pb.Error(code="internal_error", message="the worker failed"), ""

    def _finish(self, end: pb.Done | pb.Error | pb.Cancelled) -> None:
        self._sink.finish(end)
        self._judged.ended(end)
        operation = self._operation
        operation.code = "cancelled" if isinstance(end, pb.Cancelled) else "ok"
        if isinstance(end, pb.Error):
            operation.code = end.code
        operation.usage = end.usage

    def _first(self) -> None:
        self._started = True
        self._judged.answered()
        self._on_first()
        self._operation.first_event()

    def _time_left(self) -> float | None:
        return self._request.deadline.ToNanoseconds() / 1e9 if self._request.HasField("deadline") else None
