"""Agents of autogen-core without AgentChat: each hands the conversation on by publishing to a topic."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from autogen_agentchat.messages import HandoffMessage, ModelClientStreamingChunkEvent
from autogen_core import (
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)
from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, SystemMessage, UserMessage

from worker.agents.entry import Context

Item = ModelClientStreamingChunkEvent | HandoffMessage
Items = asyncio.Queue[Item | None]


@dataclass
class Turn:
    text: str


class Speaker(RoutedAgent):
    """Answers one turn, and hands the answer on to the agent ``then``, if there is one."""

    def __init__(self, prompt: str, model: ChatCompletionClient, items: Items, then: str = "") -> None:
        super().__init__(prompt)
        self._prompt = prompt
        self._model = model
        self._items = items
        self._then = then

    @message_handler
    async def answer(self, message: Turn, ctx: MessageContext) -> None:
        told: list[LLMMessage] = [SystemMessage(content=self._prompt), UserMessage(content=message.text, source="user")]
        said = ""
        async for piece in self._model.create_stream(told, cancellation_token=ctx.cancellation_token):
            if not isinstance(piece, CreateResult):
                said += piece
                self._items.put_nowait(ModelClientStreamingChunkEvent(content=piece, source=self.id.type))
        if self._then:
            self._items.put_nowait(HandoffMessage(content="", target=self._then, source=self.id.type))
            await self.publish_message(Turn(f"{message.text}\n\n{said}"), TopicId(self._then, "default"))
        else:
            self._items.put_nowait(None)


async def conversation(context: Context) -> AsyncIterator[Item]:
    """Yields what the agents say, as they say it. A runtime of its own keeps requests apart."""
    model, items = context.model(context.arguments["model"]), Items()
    runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
    made = {
        "greeter": lambda: Speaker("Greet the user in one short sentence.", model, items, then="expert"),
        "expert": lambda: Speaker("Answer the user in one sentence.", model, items),
    }
    for name, factory in made.items():
        await Speaker.register(runtime, name, factory)
        await runtime.add_subscription(TypeSubscription(topic_type=name, agent_type=name))
    runtime.start()
    try:
        await runtime.publish_message(Turn(context.task), TopicId("greeter", "default"))
        while (item := await items.get()) is not None:
            yield item
    finally:
        await runtime.stop()
