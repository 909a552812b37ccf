"""One run of an AgentChat agent or team, or of an async generator."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, MultiModalMessage, TextMessage
from autogen_core.models import AssistantMessage, LLMMessage, UserMessage

from fleet import logs
from worker.agents.assembly import Target, parts, remember
from worker.agents.events import Writer
from worker.agents.token import RunToken
from worker.agents.transcript import Transcript

log = logs.logger(__name__)

GRACE = 2.0
"""Seconds that a cancelled agent gets to end by itself. Then it is dropped: what it pays for has been stopped."""


async def converse(target: Target, messages: Sequence[LLMMessage], writer: Writer, token: RunToken) -> str:
    """Run ``target`` on a conversation whose last user turn is the task; return why it stopped, or an empty text."""
    task, history = _split(messages)
    if not await remember(target, history):
        # It keeps no context of its own kind, so it is told everything.
        told = [message for message in map(_chat_message, messages) if message is not None]
        return await _guarded(_consume(target, told or None, writer, token), token)
    return await _guarded(_consume(target, task, writer, token), token)


async def recite(items: AsyncIterator[Any], name: str, transcript: Transcript, writer: Writer, token: RunToken) -> str:
    """Write what an async generator yields: text of ``name``, or AgentChat's messages and events."""

    async def consume() -> str:
        try:
            async for item in items:
                if isinstance(item, str):
                    transcript.text(name, item)
                elif isinstance(item, BaseChatMessage | BaseAgentEvent):
                    writer.write(item)
                else:
                    kind = type(item).__name__
                    raise TypeError(f"it yielded {kind}; text, AgentChat's messages and its events can be served")
                await transcript.ready()
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()
        transcript.end_all()
        return ""

    return await _guarded(consume(), token)


async def _consume(
    target: Target, task: BaseChatMessage | list[BaseChatMessage] | None, writer: Writer, token: RunToken
) -> str:
    stream = target.run_stream(task=task, cancellation_token=token, output_task_messages=False)
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, TaskResult):
                return event.stop_reason or ""
            writer.write(event)
    return ""


async def _guarded(running: Coroutine[Any, Any, str], token: RunToken) -> str:
    """Run in a task of its own: AgentChat must learn from the token that it is cancelled, before it is closed.

    A team that is only closed goes on with all its turns.
    """
    task = asyncio.ensure_future(running)
    try:
        await asyncio.wait([task])
    finally:
        for stop in (token.cancel, task.cancel):
            if not task.done():
                stop()
                await _end(task)
        if not task.done():
            log.warning("an agent did not end when it was cancelled")
        elif not task.cancelled():
            task.exception()  # it was asked for, so that nothing complains that it was not
    return task.result()


async def _end(task: asyncio.Future[str]) -> None:
    """Wait :data:`GRACE` seconds for its end, also if the run is cancelled again meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GRACE
    while not task.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=left)


def _split(messages: Sequence[LLMMessage]) -> tuple[BaseChatMessage | None, Sequence[LLMMessage]]:
    """The last user turn as the task, and what was said before. Without one at the end everything was said before."""
    if messages and isinstance(messages[-1], UserMessage):
        return _chat_message(messages[-1]), messages[:-1]
    return None, messages


def _chat_message(message: LLMMessage) -> BaseChatMessage | None:
    match message:
        case UserMessage(content=str(text), source=source) | AssistantMessage(content=str(text), source=source):
            return TextMessage(content=text, source=source)
        case UserMessage():
            return MultiModalMessage(content=list(message.content), source=message.source)
    return None


def names(target: Target) -> frozenset[str]:
    """Everybody who can speak in it."""
    return frozenset(part.name for part in parts(target))
