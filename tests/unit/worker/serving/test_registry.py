"""Which chats a worker takes on, and which it refuses."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from autogen_core.models import CreateResult, RequestUsage

from fleet.lane import Outbox
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.harness.waiting import until
from worker.contract.images import Images
from worker.serving.catalog import Model
from worker.serving.registry import Desk


class Client:
    """A model that says nothing until it is let go on, and takes its time to stop."""

    def __init__(self) -> None:
        self.running = 0
        self.peak = 0
        self.go_on = asyncio.Event()
        self.may_stop = asyncio.Event()

    async def create_stream(self, *_: Any, **__: Any) -> AsyncGenerator[str | CreateResult, None]:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.go_on.wait()
            usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
            yield CreateResult(finish_reason="stop", content="", usage=usage, cached=False)
        finally:
            await self.may_stop.wait()
            self.running -= 1


class Sent:
    """What a worker sends to gateways."""

    def __init__(self) -> None:
        self.chunks: list[pb.ReplyEvent] = []

    def __call__(self, _: str, batch: pb.ChunkBatch) -> None:
        self.chunks.extend(batch.events)

    def ends(self, request_id: str, attempt: int) -> list[str]:
        """Codes of the errors that ended an attempt, or how else it ended."""
        mine = [chunk for chunk in self.chunks if (chunk.request_id, chunk.attempt) == (request_id, attempt)]
        return [
            chunk.error.code if kind == "error" else str(kind)
            for chunk in mine
            if (kind := chunk.WhichOneof("event")) in ("done", "error", "cancelled")
        ]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
async def desk(client: Client, sent: Sent) -> AsyncIterator[Desk]:
    outbox = Outbox("w", sent, 0.001)
    outbox.link_up()
    images = Images(1)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        made = Desk({"m": Model("m", client)}, images, outbox, 2, group, Turns())  # type: ignore[arg-type]
        yield made
        client.may_stop.set()
        made.cancel_all("shutdown")
    images.close()


def asked(request_id: str, attempt: int = 1) -> pb.ChatHistory:
    return pb.ChatHistory(request_id=request_id, attempt=attempt, reply_to="g", model="m")


def large(request_id: str, attempt: int = 1) -> pb.ChatHistory:
    history = asked(request_id, attempt)
    history.messages.add(role=pb.ROLE_USER).content.add(text="x" * 200)
    return history


async def test_a_newer_attempt_takes_the_place_of_the_older_at_capacity(desk: Desk, client: Client, sent: Sent) -> None:
    for request_id in ("a", "b"):
        desk.take(asked(request_id))
    await until(lambda: client.running == 2)
    desk.take(asked("a", 2))
    assert desk.active == 2
    desk.take(asked("c"))
    desk.take(asked("a", 1))  # late: it was replaced
    await until(lambda: sent.ends("c", 1) == ["worker_full"])
    client.may_stop.set()
    await until(lambda: sent.ends("a", 1) == ["cancelled"])
    client.go_on.set()
    await until(lambda: sent.ends("a", 2) == ["done"])
    await until(lambda: desk.active == 0)
    assert sent.ends("b", 1) == ["done"]


async def test_a_request_whose_id_is_long_is_ignored(desk: Desk) -> None:
    desk.take(asked("a" * 129))
    assert (desk.active, desk.started_total) == (0, 0)
    desk.take(asked("a" * 128))
    assert desk.active == 1


async def test_large_requests_whose_model_has_not_answered_are_bounded_together(
    desk: Desk, client: Client, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.serving.registry.HISTORIES", 100)
    client.may_stop.set()
    desk.take(large("a"))  # one alone may be larger
    desk.take(large("b"))
    await until(lambda: sent.ends("b", 1) == ["worker_full"])
    client.go_on.set()
    await until(lambda: sent.ends("a", 1) == ["done"])
    desk.take(large("b", 2))
    await until(lambda: sent.ends("b", 2) == ["done"])


async def test_a_place_that_was_taken_over_is_free_once_the_newer_attempt_has_ended(
    desk: Desk, client: Client, sent: Sent
) -> None:
    client.may_stop.set()
    desk.take(asked("a"))
    desk.take(asked("b"))
    for attempt in range(2, 6):
        desk.take(asked("a", attempt))
        assert desk.active == 2
    client.go_on.set()
    await until(lambda: sent.ends("a", 5) == ["done"])
    await until(lambda: desk.active == 0)
    desk.take(asked("c"))
    await until(lambda: sent.ends("c", 1) == ["done"])


async def test_a_worker_that_drains_takes_no_newer_attempt(desk: Desk, client: Client, sent: Sent) -> None:
    client.may_stop.set()
    desk.take(asked("a"))
    desk.draining = True
    desk.take(asked("a", 2))
    await until(lambda: sent.ends("a", 2) == ["worker_draining"])
    await until(lambda: sent.ends("a", 1) == ["cancelled"])
