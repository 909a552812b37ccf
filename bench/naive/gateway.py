"""``python -m bench.naive.gateway HOST PORT``"""

import argparse
import asyncio
import json
import uuid
from collections.abc import AsyncIterator

import uvicorn
from autogen_core import (
    MessageContext,
    RoutedAgent,
    TypeSubscription,
    message_handler,
    try_get_known_serializers_for_type,
)
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from bench.naive.messages import CHATS, CHUNKS, Chat, Chunk

Queues = dict[str, asyncio.Queue[Chunk]]
"""One queue per request, by its id."""


class Message(BaseModel):
    """One turn of the conversation."""

    role: str
    content: str


class ChatRequest(BaseModel):
    """What the client sends; further fields are ignored."""

    model: str
    messages: list[Message]


class ReplyAgent(RoutedAgent):
    """Puts each chunk into its request's queue."""

    def __init__(self, queues: Queues) -> None:
        super().__init__("hands chunks to the requests that wait for them")
        self._queues = queues

    @message_handler
    async def on_chunk(self, message: Chunk, context: MessageContext) -> None:
        if queue := self._queues.get(message.request_id):
            queue.put_nowait(message)


def make_app(runtime: GrpcWorkerAgentRuntime, queues: Queues) -> FastAPI:
    """The HTTP edge."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> StreamingResponse:
        request_id = uuid.uuid4().hex
        roles = [message.role for message in request.messages]
        contents = [message.content for message in request.messages]
        queues[request_id] = asyncio.Queue()
        await runtime.publish_message(Chat(request_id, roles, contents), CHATS)
        return StreamingResponse(stream(request_id, request.model), media_type="text/event-stream")

    async def stream(request_id: str, model: str) -> AsyncIterator[str]:
        try:
            while True:
                chunk = await queues[request_id].get()
                delta = {"content": chunk.content} if chunk.content else {}
                choice = {"index": 0, "delta": delta, "finish_reason": chunk.finish_reason or None}
                event = {"id": request_id, "object": "chat.completion.chunk", "model": model, "choices": [choice]}
                yield f"data: {json.dumps(event)}\n\n"
                if chunk.finish_reason:
                    yield "data: [DONE]\n\n"
                    return
        finally:
            del queues[request_id]

    return app


async def main(host: str, port: int) -> None:
    queues: Queues = {}
    runtime = GrpcWorkerAgentRuntime(host)
    for kind in (Chat, Chunk):
        runtime.add_message_serializer(try_get_known_serializers_for_type(kind))
    await runtime.start()
    await ReplyAgent.register(runtime, "reply_agent", lambda: ReplyAgent(queues))
    await runtime.add_subscription(TypeSubscription(CHUNKS.type, "reply_agent"))
    await uvicorn.Server(uvicorn.Config(make_app(runtime, queues), port=port, log_level="warning")).serve()
    await runtime.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.naive.gateway")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    asyncio.run(main(given.host, given.port))
