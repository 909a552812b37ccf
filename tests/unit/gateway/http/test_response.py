"""A chat's answer when its client leaves, and when something else fails at the same time."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.chats.chats import Chat, Chats
from gateway.chats.reply import Completed
from gateway.faces.ndjson.encoder import Ndjson
from gateway.http.response import ChatResponse
from protos import chat_pb2 as pb

Message = MutableMapping[str, Any]
Logged = Callable[[], list[tuple[str, str]]]


class PlayedChats(Chats):
    """Runs a chat by what the test gives it to do."""

    def __init__(self, play: Callable[[Chat], Awaitable[None]]) -> None:
        self.play = play
        self.closed = 0

    async def drive(self, chat: Chat) -> None:
        await self.play(chat)

    def close(self) -> None:
        self.closed += 1


class Connection:
    """A client's connection: what it was sent, whether it is still there, and what sending to it raises."""

    def __init__(self, *, gone: bool = False, failure: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        if gone:
            self.gone.set()
        self.failure = failure
        self.writable = failure is None
        self.aborted = False

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)

    @property
    def scope(self) -> Message:
        extensions = {
            "chatfleet.writable": lambda: self.writable,
            "chatfleet.unsent": lambda: 0,
            "chatfleet.abort": lambda: setattr(self, "aborted", True),
        }
        return {"type": "http", "extensions": extensions}


@pytest.fixture
def logged() -> Iterator[Logged]:
    """Gives the level and the event of each line that was logged."""
    with capture_logs() as lines:
        yield lambda: [(line["log_level"], line["event"]) for line in lines]


async def answer(
    connection: Connection, play: Callable[[Chat], Awaitable[None]], *, stream: bool = True, stall: float = 5
) -> tuple[Chat, int]:
    """Answer a chat; returns it, and how often it was said to be over."""
    chats = PlayedChats(play)
    chat = Chat(pb.ChatHistory(request_id="r", model="m"), 1e9)
    over = 0

    def done() -> None:
        nonlocal over
        over += 1

    response = ChatResponse(chats, chat, Ndjson("r"), stream=stream, hold=5, stall=stall, done=done)
    async with asyncio.timeout(10):
        await response(connection.scope, connection.receive, connection.send)
    assert chats.closed == 1
    return chat, over


async def complete(chat: Chat) -> None:
    chat.reply.push_text("a", 1)
    chat.reply.finish(Completed("stop"))


async def endless(chat: Chat) -> None:
    chat.reply.push_text("a", 1)
    await asyncio.Event().wait()


STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@STREAMED
async def test_an_answer_is_sent_and_is_over_once(stream: bool) -> None:
    connection = Connection()
    _, over = await answer(connection, complete, stream=stream)
    assert over == 1
    first, *_, last = connection.sent
    assert first["status"] == 200
    assert not last.get("more_body")
    lines = b"".join(message["body"] for message in connection.sent[1:]).splitlines()
    assert "".join(json.loads(line)["content"] for line in lines) == "a"


@STREAMED
async def test_a_client_that_leaves_ends_the_chat_quietly(stream: bool, logged: Logged) -> None:
    chat, over = await answer(Connection(gone=True), endless, stream=stream)
    assert (over, chat.reply.end) == (1, None)
    assert logged() == [("info", "client gone")]


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("the handler is closed"), ConnectionResetError(104, "reset"), BrokenPipeError(32, "broken")],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("gone", [True, False], ids=["told", "untold"])
@STREAMED
async def test_a_connection_that_fails_is_a_client_that_left(
    failure: Exception, gone: bool, stream: bool, logged: Logged
) -> None:
    play = endless if stream else complete
    _, over = await answer(Connection(gone=gone, failure=failure), play, stream=stream)
    assert over == 1
    assert logged()[0] == ("info", "client gone")
    assert "error" not in [level for level, _ in logged()]


async def test_what_fails_as_a_client_leaves_is_no_error(logged: Logged) -> None:
    connection = Connection()

    async def fail(chat: Chat) -> None:
        chat.reply.push_text("a", 1)
        try:
            connection.gone.set()
            await asyncio.Event().wait()
        finally:
            raise LookupError("secret")

    _, over = await answer(connection, fail)
    assert over == 1
    assert logged() == [("info", "client gone"), ("warning", "an answer failed as its client left")]


async def test_a_client_that_reads_nothing_is_let_go(logged: Logged) -> None:
    connection = Connection()
    connection.writable = False

    async def never(_: Message) -> None:
        await asyncio.Event().wait()

    connection.send = never  # type: ignore[method-assign, assignment]
    _, over = await answer(connection, endless, stall=0.01)
    assert connection.aborted
    assert over == 1
    assert logged() == [("info", "client stalled")]


async def test_a_defect_beside_a_client_that_stays_is_an_error() -> None:
    async def fail(_: Chat) -> None:
        raise LookupError("defect")

    with pytest.raises(ExceptionGroup) as raised:
        await answer(Connection(), fail)
    assert raised.group_contains(LookupError)
    connection = Connection(failure=RuntimeError("a violation of ASGI"))
    connection.writable = True
    with pytest.raises(ExceptionGroup) as raised:
        await answer(connection, endless)
    assert raised.group_contains(RuntimeError)
