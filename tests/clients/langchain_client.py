"""LangChain's ``ChatOpenAI``: see :mod:`tests.clients.reports`."""

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from pydantic import BaseModel
from reports import failure, report, task  # type: ignore[import-not-found]


class Weather(BaseModel):
    city: str
    degrees: float


def chat(model: str = "test", url: str = "base_url") -> Any:
    return ChatOpenAI(model=model, base_url=task[url], api_key="none", max_retries=0, stream_usage=True)


model = chat()


def stream() -> Any:
    whole: Any = None
    for piece in model.stream(task["stream"]):
        whole = piece if whole is None else whole + piece
    return {
        "said": whole.content,
        "finish": whole.response_metadata["finish_reason"],
        "usage": [whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]],
    }


def whole() -> Any:
    reply = model.invoke(task["whole"])
    usage = reply.usage_metadata
    details = [usage["input_token_details"].get("cache_read"), usage["output_token_details"].get("reasoning")]
    return {"said": reply.content, "usage": [usage["input_tokens"], usage["output_tokens"]], "details": details}


def tools() -> Any:
    equipped = model.bind_tools([task["tool"]])
    turns: list[Any] = [HumanMessage(task["tools"])]
    asked: Any = None
    for piece in equipped.stream(turns):
        asked = piece if asked is None else asked + piece
    (call,) = asked.tool_calls
    turns += [asked, ToolMessage(task["result"], tool_call_id=call["id"])]
    return {"name": call["name"], "arguments": call["args"], "said": equipped.invoke(turns).content}


def parsed() -> Any:
    return model.with_structured_output(Weather, method="json_schema").invoke(task["object"]).model_dump()


def refused() -> Any:
    structured = model.with_structured_output(Weather, method="json_schema", include_raw=True)
    error = structured.invoke(task["refused"])["parsing_error"]
    return {"kinds": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}


def broken_stream() -> Any:
    said: list[str] = []
    raised = failure(lambda: said.extend(piece.content for piece in model.stream(task["broken"])))
    return raised | {"said": "".join(said)}


def ask(name: str, **how: Any) -> Any:
    return chat(**how).invoke(task[name]).content


report(stream, whole, tools, parsed, refused, broken_stream, ask=ask)
