"""instructor on OpenAI's SDK before version 3, as it still asks for: see :mod:`tests.clients.reports`."""

from typing import Any

import instructor  # type: ignore[import-not-found]
from instructor.core.exceptions import InstructorRetryException  # type: ignore[import-not-found]
from openai import OpenAI
from pydantic import BaseModel
from reports import report, task  # type: ignore[import-not-found]

MODES = ("TOOLS", "JSON", "JSON_SCHEMA")


class Weather(BaseModel):
    city: str
    degrees: float


def ask(
    name: str, mode: str = "JSON_SCHEMA", model: str = "test", url: str = "base_url", method: str = "create"
) -> Any:
    client = instructor.from_openai(
        OpenAI(base_url=task[url], api_key="none", max_retries=0), mode=instructor.Mode[mode]
    )
    asked = {"role": "user", "content": task[name]}
    return getattr(client.chat.completions, method)(
        model=model, messages=[asked], response_model=Weather, max_retries=0
    )


def parsed() -> Any:
    return {mode: ask("object_call" if mode == "TOOLS" else "object", mode).model_dump() for mode in MODES}


def partial() -> Any:
    return [piece.model_dump() for piece in ask("object", method="create_partial")][-1]


def whole() -> Any:
    weather, completion = ask("object", method="create_with_completion")
    usage = completion.usage
    return {
        "city": weather.city,
        "details": [usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens],
    }


def refused() -> Any:
    """instructor has no class for it, but keeps what the model said."""
    try:
        return ask("refused").model_dump()
    except InstructorRetryException as error:
        return error.last_completion.choices[0].message.refusal


report(parsed, partial, whole, refused, ask=ask)
