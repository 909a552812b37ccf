"""pydantic-ai's chat model: see :mod:`tests.clients.reports`."""

import asyncio
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, Tool  # type: ignore[import-not-found]
from pydantic_ai.models.openai import OpenAIChatModel  # type: ignore[import-not-found]
from pydantic_ai.providers.openai import OpenAIProvider  # type: ignore[import-not-found]
from reports import failure, report, task  # type: ignore[import-not-found]


class Weather(BaseModel):
    city: str
    degrees: float


def agent(model: str = "test", url: str = "base_url", **more: Any) -> Any:
    client = AsyncOpenAI(base_url=task[url], api_key="none", max_retries=0)
    return Agent(OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client)), **more)


def weather() -> Any:
    function = task["tool"]["function"]
    return Tool.from_schema(
        lambda **_: task["result"], function["name"], function["description"], function["parameters"]
    )


def stream() -> Any:
    async def run() -> Any:
        async with agent().run_stream(task["stream"]) as result:
            said = "".join([piece async for piece in result.stream_text(delta=True, debounce_by=None)])
            return {"said": said, "usage": [result.usage.input_tokens, result.usage.output_tokens]}

    return asyncio.run(run())


def whole() -> Any:
    result = agent().run_sync(task["whole"])
    usage = result.usage
    return {
        "said": result.output,
        "usage": [usage.input_tokens, usage.output_tokens],
        "details": [usage.cache_read_tokens, usage.details.get("reasoning_tokens")],
    }


def tools() -> Any:
    return {"said": agent(tools=[weather()]).run_sync(task["tools"]).output}


def thinking() -> Any:
    result = agent(tools=[weather()]).run_sync(task["thinking"])
    thought = [
        part.content for message in result.all_messages() for part in message.parts if part.part_kind == "thinking"
    ]
    return {"said": result.output, "thought": thought[0]}


def parsed() -> Any:
    return agent(output_type=NativeOutput(Weather)).run_sync(task["object"]).output.model_dump()


def refused() -> Any:
    return failure(lambda: agent(output_type=NativeOutput(Weather)).run_sync(task["refused"]))


def broken_stream() -> Any:
    said: list[str] = []

    async def run() -> None:
        async with agent().run_stream(task["broken"]) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                said.append(piece)  # noqa: PERF401 (an error must leave what came before it)

    return failure(lambda: asyncio.run(run())) | {"said": "".join(said)}


def left() -> Any:
    async def run() -> str:
        asked = asyncio.create_task(agent().run(task["endless"]))
        await asyncio.sleep(5)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return "left"

    return asyncio.run(run())


def ask(name: str, **how: Any) -> Any:
    return agent(**how).run_sync(task[name]).output


report(stream, whole, tools, thinking, parsed, refused, broken_stream, left, ask=ask)
