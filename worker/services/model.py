"""A model as a service: the conversation goes to an AutoGen client, whose reply goes into the sink."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from autogen_core.models import ChatCompletionClient, CreateResult

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.claude.client import ClaudeClient
from worker.contract import conversation, failures, options
from worker.contract.autogen_body import autogen_body
from worker.contract.errors import ClientFailed
from worker.contract.images import Images
from worker.contract.sink import Sink
from worker.contract.tool_call import tool_call
from worker.contract.utf8 import SurrogateJoiner
from worker.ollama.client import OllamaClient
from worker.openai.client import Streaming


class ModelService:
    """Serves ``client``, with ``system_message`` before every conversation."""

    def __init__(self, client: ChatCompletionClient, system_message: str, turns: Turns, images: Images) -> None:
        self._client = client
        self._system_message = system_message
        self._turns = turns
        self._images = images

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        """See :class:`worker.services.service.Service`."""
        async with self._turns.turn() as turn:
            # Requests that come together are prepared in turns, so that they do not hold up anything else.
            messages = await conversation.messages(request, self._system_message, turn)
            arguments = await options.arguments(request.options, turn, as_text=isinstance(self._client, Streaming))
        if isinstance(self._client, Streaming):
            running = self._client.stream(sink, messages, **arguments)
        elif isinstance(self._client, OllamaClient | ClaudeClient):
            running = self._client.stream(sink, autogen_body(messages, **arguments))
        else:
            await self._images.admit(messages)
            running = _pump(self._client.create_stream(messages, **arguments), sink)
        del request, messages, arguments  # they must not be kept for as long as the reply takes
        return await running


async def _pump(pieces: AsyncGenerator[str | CreateResult, None], sink: Sink) -> pb.Done:
    """Write what another client yields. Its errors become :class:`ClientFailed`: it may raise anything."""
    result: CreateResult | None = None
    joiner = SurrogateJoiner()
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, CreateResult):
                    result = piece
                else:
                    sink.text(joiner.join(piece))
                    await sink.ready()
    except Exception as error:
        raise ClientFailed from error
    if result is None:
        raise RuntimeError("the model's client gave no result")
    sink.text(joiner.end())
    if isinstance(result.content, list):
        for index, call in enumerate(result.content):
            sink.event(tool_call(index, call.id, call.name, call.arguments))
    return pb.Done(finish_reason=result.finish_reason, usage=failures.usage(result.usage))
