"""LangChain's ``ChatOpenAI``: runs every flow and prints, as one JSON object, what each gave or threw.

Runs in the environment that ``tests/clients/tools.py`` makes; the task comes as JSON on standard input.
"""

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]

task: dict[str, Any] = json.load(sys.stdin)
model = ChatOpenAI(model="test", base_url=task["base_url"], api_key="none", max_retries=0, stream_usage=True)


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
    return {"said": reply.content, "usage": [usage["input_tokens"], usage["output_tokens"]]}


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
    schema = {
        "title": "Weather",
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "number"}},
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    return model.with_structured_output(schema, method="json_schema").invoke(task["object"])


def failure(flow: Callable[[], Any]) -> Any:
    try:
        flow()
    except Exception as error:  # what kind it is, is what the test asks
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"kinds": kinds, "message": str(error), "code": getattr(error, "code", None)}
    return "nothing was raised"


def unknown_model() -> Any:
    return failure(lambda: model.invoke("Hello", model="no-such"))


def broken_stream() -> Any:
    said: list[str] = []
    raised = failure(lambda: said.extend(piece.content for piece in model.stream(task["broken"])))
    return raised | {"said": "".join(said)}


said: dict[str, Any] = {}
for flow in (stream, whole, tools, parsed, unknown_model, broken_stream):
    try:
        said[flow.__name__] = flow()
    except Exception:
        said[flow.__name__] = {"raised": traceback.format_exc()}
json.dump(said, sys.stdout)
