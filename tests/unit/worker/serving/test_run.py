"""One run: whatever its service does, exactly one terminal event ends its reply."""

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from structlog.testing import capture_logs

from fleet.lane import CREDIT, Outbox, Sink
from protos import chat_pb2 as pb
from tests.harness.waiting import until
from worker.contract.errors import Unsupported
from worker.contract.observer import Observer, Operation
from worker.serving.run import Run

DONE = pb.Done(finish_reason="stop", usage=pb.Usage(prompt_tokens=1, completion_tokens=2))


class Noted(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.moments: list[Any] = []

    @contextlib.contextmanager
    def run(self, request: pb.ChatHistory) -> Iterator[Operation]:
        self.moments.append(("started", request.request_id, request.attempt, request.model))
        operation = Operation()
        operation.first_event = lambda: self.moments.append("first")  # type: ignore[method-assign]
        try:
            yield operation
        finally:
            self.moments.append(
                ("ended", operation.code, operation.usage.prompt_tokens, operation.usage.completion_tokens)
            )


class Served:
    """A run of a service that does what a test says, on a lane whose batches are kept."""

    def __init__(self, serve: Callable[[Any], Awaitable[pb.Done]], seconds: float | None = None) -> None:
        self.events: list[pb.ReplyEvent] = []
        self.observer = Noted()
        self.firsts = 0
        self.received = 0
        """Number of the last batch: one that no gateway acknowledges is sent again after a second."""
        self.outbox = Outbox("w", self._receive, 0.001)
        self.outbox.link_up()
        self.sink: Sink = self.outbox.open("g", "r", 1)
        request = pb.ChatHistory(request_id="r", attempt=1, reply_to="g", model="m")
        if seconds is not None:
            request.deadline.FromNanoseconds(int(seconds * 1e9))
        self._serve = serve
        self.run_ = Run(request, self, self.sink, self.observer, self._first)

    def _first(self) -> None:
        self.firsts += 1

    def _receive(self, _: str, batch: pb.ChunkBatch) -> None:
        if batch.number > self.received:
            self.received = batch.number
            self.events.extend(batch.events)

    async def run(self, request: pb.ChatHistory, sink: Any) -> pb.Done:
        assert request.request_id == "r"
        return await self._serve(sink)

    async def ended(self) -> pb.ReplyEvent:
        """Run it; return the terminal event, which must be the last."""
        await self.run_.run()
        return await self.last()

    async def last(self) -> pb.ReplyEvent:
        await until(lambda: self.events and kind(self.events[-1]) in ("done", "error", "cancelled"))
        assert kind(self.events[0]) == "accepted"
        assert sum(kind(event) in ("done", "error", "cancelled") for event in self.events) == 1
        return self.events[-1]


def kind(event: pb.ReplyEvent) -> str:
    return event.WhichOneof("event") or ""


async def test_a_reply_is_accepted_written_and_done() -> None:
    async def serve(sink: Any) -> pb.Done:
        sink.text("a")
        sink.text("b")
        return DONE

    served = Served(serve)
    assert (await served.ended()).done == DONE
    assert [kind(event) for event in served.events] == ["accepted", "text", "done"]
    assert served.firsts == 1
    assert served.observer.moments == [
        ("started", "r", 1, "m"),
        "first",
        ("ended", "ok", 1, 2),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unsupported("no images"), "unsupported_request"), (LookupError("a defect"), "internal_error")],
)
async def test_what_the_service_raises_is_the_error_that_ends_it(error: Exception, code: str) -> None:
    async def serve(_: Any) -> pb.Done:
        raise error

    served = Served(serve)
    assert (await served.ended()).error.code == code
    assert served.observer.moments[-1][1] == code
    assert served.firsts == 0


def unreachable() -> Exception:
    error = openai.APIConnectionError(request=httpx2.Request("POST", "https://model.example:81/v1"))
    error.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "x")
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (unreachable(), {"code": "model_unreachable", "host": "model.example:81", "reason": "connection refused"}),
        (LookupError("a defect"), {"code": "internal_error", "exc_info": True}),
    ],
    ids=["a server", "a defect"],
)
async def test_the_log_says_what_cannot_be_reached_and_why_and_where_a_defect_is(
    error: Exception, line: dict[str, Any]
) -> None:
    async def serve(_: Any) -> pb.Done:
        raise error

    with capture_logs() as logs:
        await Served(serve).ended()
    [failed] = [log for log in logs if log["event"] == "chat failed"]
    shown = {name: failed[name] for name in failed.keys() - {"event", "log_level", "model", "request"}}
    assert shown == {name: error if value is True else value for name, value in line.items()}


async def test_a_value_error_is_the_requests_fault_only_before_the_first_event() -> None:
    async def serve(sink: Any) -> pb.Done:
        sink.text("a")
        raise ValueError("late")

    assert (await Served(serve).ended()).error.code == "internal_error"


async def test_an_error_that_cannot_be_mapped_is_an_internal_one() -> None:
    class Odd(Exception):
        @property
        def status_code(self) -> int:
            raise RuntimeError

    async def serve(_: Any) -> pb.Done:
        raise Odd

    assert (await Served(serve).ended()).error.code == "internal_error"


async def test_a_run_ends_at_its_deadline() -> None:
    async def serve(_: Any) -> pb.Done:
        await asyncio.Event().wait()
        raise AssertionError

    assert (await Served(serve, seconds=0.02).ended()).error.code == "deadline"


async def test_a_cancelled_run_says_why() -> None:
    async def serve(sink: Any) -> pb.Done:
        sink.text("a")
        await asyncio.Event().wait()
        raise AssertionError

    served = Served(serve)
    task = asyncio.create_task(served.run_.run())
    await until(lambda: served.firsts)
    served.run_.reason = "client_gone"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await served.last()).cancelled.reason == "client_gone"
    assert served.observer.moments[-1][1] == "cancelled"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_run_can_be_cancelled_while_its_last_events_wait_for_credit(fails: bool) -> None:
    async def serve(sink: Any) -> pb.Done:
        sink.text("x" * 2 * CREDIT)
        if fails:
            raise LookupError
        return DONE

    served = Served(serve)
    task = asyncio.create_task(served.run_.run())
    await until(lambda: served.firsts)
    await asyncio.sleep(0.01)  # for what must not happen
    assert not served.sink.finished
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kind(await served.last()) == "cancelled"


async def test_a_service_that_answers_its_cancellation_with_an_error_is_cancelled_all_the_same() -> None:
    async def serve(sink: Any) -> pb.Done:
        sink.text("x" * 2 * CREDIT)
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError

    served = Served(serve)
    task = asyncio.create_task(served.run_.run())
    await until(lambda: served.firsts)
    task.cancel()
    await until(task.done)
    assert task.cancelled()
    assert kind(await served.last()) == "cancelled"
    assert [moment[1] for moment in served.observer.moments if moment[0] == "ended"] == ["cancelled"]
