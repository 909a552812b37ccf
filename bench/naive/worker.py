"""``python -m bench.naive.worker HOST MODEL BASE_URL``"""

import argparse
import asyncio

from autogen_core import (
    MessageContext,
    RoutedAgent,
    TypeSubscription,
    message_handler,
    try_get_known_serializers_for_type,
)
from autogen_core.models import AssistantMessage, ChatCompletionClient, CreateResult, LLMMessage, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime

from bench.naive.messages import CHATS, CHUNKS, Chat, Chunk


class MyAgent(RoutedAgent):
    """Runs the model and publishes every token as it comes."""

    def __init__(self, client: ChatCompletionClient) -> None:
        super().__init__("streams a model's reply")
        self._client = client

    @message_handler
    async def on_chat(self, message: Chat, context: MessageContext) -> None:
        messages: list[LLMMessage] = [
            UserMessage(content=content, source="user")
            if role == "user"
            else AssistantMessage(content=content, source=role)
            for role, content in zip(message.roles, message.contents, strict=True)
        ]
        finish = "stop"
        async for piece in self._client.create_stream(messages):
            if isinstance(piece, CreateResult):
                finish = piece.finish_reason
            else:
                await self.publish_message(Chunk(message.request_id, piece), CHUNKS)
        await self.publish_message(Chunk(message.request_id, "", finish), CHUNKS)


async def main(host: str, model: str, base_url: str) -> None:
    client = OpenAIChatCompletionClient(
        model=model,
        base_url=base_url,
        api_key="none",
        model_info={
            "vision": False,
            "function_calling": False,
            "json_output": False,
            "structured_output": False,
            "family": "unknown",
        },
    )
    runtime = GrpcWorkerAgentRuntime(host)
    for kind in (Chat, Chunk):
        runtime.add_message_serializer(try_get_known_serializers_for_type(kind))
    await runtime.start()
    await MyAgent.register(runtime, "my_agent", lambda: MyAgent(client))
    await runtime.add_subscription(TypeSubscription(CHATS.type, "my_agent"))
    await runtime.stop_when_signal()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.naive.worker")
    for name in ("host", "model", "base_url"):
        parser.add_argument(name)
    asyncio.run(main(**vars(parser.parse_args())))
