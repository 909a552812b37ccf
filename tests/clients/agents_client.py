"""OpenAI's Agents SDK with its model for chat completions: see :mod:`tests.clients.reports`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import (  # type: ignore[import-not-found]
    Agent,
    FunctionTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from reports import failure, report, task  # type: ignore[import-not-found]

set_tracing_disabled(True)


class Weather(BaseModel):
    city: str
    degrees: float


def agent(model: str = "test", url: str = "base_url", **more: Any) -> Any:
    client = AsyncOpenAI(base_url=task[url], api_key="none", max_retries=0)
    settings = ModelSettings(include_usage=True)
    return Agent("tester", model=OpenAIChatCompletionsModel(model, client), model_settings=settings, **more)


def weather() -> Any:
    async def call(_: Any, __: str) -> str:
        result: str = task["result"]
        return result

    function = task["tool"]["function"]
    return FunctionTool(
        function["name"], function["description"], function["parameters"], call, strict_json_schema=False
    )


def run(agent: Any, name: str) -> Any:
    return asyncio.run(Runner.run(agent, task[name]))


async def deltas(result: Any) -> AsyncIterator[str]:
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            yield event.data.delta


def stream() -> Any:
    async def read() -> Any:
        result = Runner.run_streamed(agent(), task["stream"])
        said = "".join([piece async for piece in deltas(result)])
        usage = result.context_wrapper.usage
        return {"said": said, "usage": [usage.input_tokens, usage.output_tokens]}

    return asyncio.run(read())


def whole() -> Any:
    result = run(agent(), "whole")
    usage = result.context_wrapper.usage
    return {
        "said": result.final_output,
        "usage": [usage.input_tokens, usage.output_tokens],
        "details": [usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens],
    }


def tools() -> Any:
    return {"said": run(agent(tools=[weather()]), "tools").final_output}


def parsed() -> Any:
    return run(agent(output_type=Weather), "object").final_output.model_dump()


def refused() -> Any:
    return failure(lambda: run(agent(output_type=Weather), "refused"))


def broken_stream() -> Any:
    said: list[str] = []

    async def read() -> None:
        async for piece in deltas(Runner.run_streamed(agent(), task["broken"])):
            said.append(piece)  # noqa: PERF401 (an error must leave what came before it)

    return failure(lambda: asyncio.run(read())) | {"said": "".join(said)}


def left() -> Any:
    async def leave() -> str:
        asked = asyncio.create_task(Runner.run(agent(), task["endless"]))
        await asyncio.sleep(5)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return "left"

    return asyncio.run(leave())


def ask(name: str, **how: Any) -> Any:
    return run(agent(**how), name).final_output


report(stream, whole, tools, parsed, refused, broken_stream, left, ask=ask)
