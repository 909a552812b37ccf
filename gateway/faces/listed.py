"""The APIs that this gateway speaks. This is the only place that lists them: a new one is a line here."""

import pkgutil

from starlette.responses import Response

from gateway.errors import GatewayError
from gateway.faces.face import Face
from gateway.faces.openai.face import OpenAIFace

FACES = (
    "gateway.faces.ndjson.face:NdjsonFace",
    "gateway.faces.openai.face:OpenAIFace",
    "gateway.faces.openai.passed_on:Completions",
    "gateway.faces.openai.passed_on:Embeddings",
)


def load() -> list[Face]:
    return [pkgutil.resolve_name(name)() for name in FACES]


def refusal(error: GatewayError, request_id: str) -> Response:
    """The answer to a request that no face can answer. OpenAI's errors have the fields of all others."""
    return OpenAIFace().refusal(error, request_id)
