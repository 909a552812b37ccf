"""A model as a service, with a client that is not ours."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import pytest
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, LLMMessage, RequestUsage, SystemMessage, UserMessage

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.unit.worker.recording import Recording
from worker.contract.errors import ClientFailed, StreamBroken, Unsupported
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.contract.tool_call import ID_LIMIT
from worker.services.model import ModelService

USAGE = RequestUsage(prompt_tokens=3, completion_tokens=2)


def result(content: Any = "ab", finish_reason: Any = "stop") -> CreateResult:
    return CreateResult(finish_reason=finish_reason, content=content, usage=USAGE, cached=False)


class Client:
    """Yields ``pieces``; an exception among them is raised."""

    model_info: ClassVar[dict[str, Any]] = {}

    def __init__(self, *pieces: Any) -> None:
        self.pieces = pieces
        self.asked: dict[str, Any] = {}
        self.closed = False

    async def create_stream(self, messages: list[LLMMessage], **arguments: Any) -> AsyncGenerator[Any, None]:
        self.asked = {"messages": messages, **arguments}
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True


def request(**options: Any) -> pb.ChatHistory:
    made = pb.ChatHistory(request_id="r", options=pb.ChatOptions(**options))
    made.messages.add(role=pb.ROLE_USER).content.add(text="hi")
    return made


async def run(client: Client, sink: Recording, asked: pb.ChatHistory | None = None, system: str = "") -> pb.Done:
    images = Images(1)
    try:
        service = ModelService("m", client, system, Turns(), images, Observer())  # type: ignore[arg-type]
        return await service.run(asked or request(), sink)
    finally:
        images.close()


async def test_text_is_written_and_the_result_is_the_end() -> None:
    sink = Recording()
    done = await run(Client("a", "b", result()), sink)
    assert sink.events == [("text", "ab")]
    assert done == pb.Done(finish_reason="stop", usage=pb.Usage(prompt_tokens=3, completion_tokens=2))


async def test_the_client_is_asked_what_the_request_says() -> None:
    client = Client(result())
    await run(client, Recording(), request(extra='{"temperature": 0.5}'), system="be kind")
    assert client.asked == {
        "messages": [SystemMessage(content="be kind"), UserMessage(content="hi", source="user")],
        "extra_create_args": {"temperature": 0.5},
    }


async def test_tool_calls_of_the_result_are_events() -> None:
    sink = Recording()
    call = FunctionCall(id="1", name="f", arguments='{"a": "\ud83d"}')
    done = await run(Client("a", result([call], "function_calls")), sink)
    assert sink.events == [("text", "a"), ("tool_call", pb.ToolCall(id="1", name="f", arguments='{"a": "\ufffd"}'))]
    assert done.finish_reason == "function_calls"


async def test_a_call_with_a_long_id_is_a_broken_stream() -> None:
    call = FunctionCall(id="i" * (ID_LIMIT + 1), name="f", arguments="")
    with pytest.raises(StreamBroken, match="16,384"):
        await run(Client(result([call])), Recording())


@pytest.mark.parametrize("pieces", [["a\ud83d", "\ude00b"], ["a\ud83d\ude00", "b"]])
async def test_a_character_that_was_cut_is_joined(pieces: list[str]) -> None:
    sink = Recording()
    await run(Client(*pieces, result()), sink)
    assert sink.events == [("text", "a\U0001f600b")]


async def test_half_a_character_at_the_end_is_replaced() -> None:
    sink = Recording()
    await run(Client("a\ud83d", result()), sink)
    assert sink.events == [("text", "a\ufffd")]


async def test_what_the_client_raises_is_the_clients_failure() -> None:
    client = Client("a", LookupError("odd"))
    with pytest.raises(ClientFailed) as failed:
        await run(client, Recording())
    assert isinstance(failed.value.__cause__, LookupError)
    assert client.closed


async def test_a_request_that_the_client_refuses_is_unsupported_in_our_words() -> None:
    with pytest.raises(Unsupported, match="does not take such a request") as refused:
        await run(Client(ValueError("Model does not support x")), Recording())
    assert "Model" not in str(refused.value)
    with pytest.raises(ClientFailed):
        await run(Client("a", ValueError("in the middle")), Recording())


async def test_what_the_entry_denies_is_refused_before_the_client_is_asked() -> None:
    client = Client(result())
    client.model_info = {"function_calling": False}  # type: ignore[misc]
    with pytest.raises(Unsupported, match="function_calling is false"):
        await run(client, Recording(), request(tools=[pb.Tool(name="f")]))
    assert not client.asked


@pytest.mark.parametrize(
    "message",
    [
        pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(other='{"type": "file"}')]),
        pb.ChatMessage(role=pb.ROLE_SYSTEM, content=[pb.ContentPart(other='{"type": "file"}')]),
        pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="1", extra='{"type": "custom"}')]),
    ],
)
async def test_content_that_autogen_has_no_place_for_is_refused(message: pb.ChatMessage) -> None:
    client = Client(result())
    with pytest.raises(Unsupported, match="this model's client takes"):
        await run(client, Recording(), pb.ChatHistory(messages=[message]))
    assert not client.asked


async def test_a_client_without_a_result_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="no result"):
        await run(Client("a"), Recording())


async def test_an_image_over_the_budget_is_refused_before_the_client_is_asked() -> None:
    asked = request()
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (2).to_bytes(4) + (2).to_bytes(4)
    asked.messages[0].content.add(image=pb.Image(data=png))
    client = Client(result())
    with pytest.raises(Unsupported, match="WORKER_IMAGE_PIXELS"):
        await run(client, Recording(), asked)
    assert not client.asked


async def test_the_client_waits_for_the_sink() -> None:
    class Full(Recording):
        def __init__(self) -> None:
            super().__init__()
            self.free = asyncio.Event()

        async def ready(self) -> None:
            await self.free.wait()

    sink = Full()
    client = Client("a", "b", result())
    running = asyncio.create_task(run(client, sink))
    for _ in range(10):
        await asyncio.sleep(0)
    assert sink.events == [("text", "a")]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert client.closed
