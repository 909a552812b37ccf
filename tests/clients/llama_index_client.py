"""LlamaIndex's ``OpenAILike``, on OpenAI's SDK before version 3: see :mod:`tests.clients.reports`."""

from typing import Any

from llama_index.core.base.llms.types import ChatMessage  # type: ignore[import-not-found]
from llama_index.core.tools import FunctionTool  # type: ignore[import-not-found]
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-not-found]
from pydantic import BaseModel
from reports import report, task  # type: ignore[import-not-found]


class Weather(BaseModel):
    city: str
    degrees: float


def llm(model: str = "test", url: str = "base_url") -> Any:
    return OpenAILike(
        model=model,
        api_base=task[url],
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        max_retries=0,
    )


def turn(name: str) -> list[Any]:
    return [ChatMessage(role="user", content=task[name])]


def get_weather(city: str, note: str | None = None) -> str:
    """The weather somewhere."""
    result: str = task["result"]
    return result


def stream() -> Any:
    return {"said": "".join(piece.delta or "" for piece in llm().stream_chat(turn("stream")))}


def whole() -> Any:
    reply = llm().chat(turn("whole"))
    usage = reply.raw.usage
    return {
        "said": reply.message.content,
        "usage": [usage.prompt_tokens, usage.completion_tokens],
        "details": [usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens],
    }


def tools() -> Any:
    """A call, its result, and the answer."""
    turns, tool = turn("tools"), FunctionTool.from_defaults(get_weather)
    asked = llm().chat_with_tools([tool], chat_history=turns)
    (call,) = llm().get_tool_calls_from_response(asked)
    turns += [
        asked.message,
        ChatMessage(role="tool", content=task["result"], additional_kwargs={"tool_call_id": call.tool_id}),
    ]
    return {"said": llm().chat_with_tools([tool], chat_history=turns).message.content, "arguments": call.tool_kwargs}


def parsed() -> Any:
    return llm().as_structured_llm(Weather).chat(turn("object")).raw.model_dump()


def refused() -> Any:
    return llm().chat(turn("refused")).raw.choices[0].message.refusal


def ask(name: str, **how: Any) -> Any:
    return llm(**how).chat(turn(name)).message.content


report(stream, whole, tools, parsed, refused, ask=ask)
