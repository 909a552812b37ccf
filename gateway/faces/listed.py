"""The APIs that this gateway speaks. This is the only place that lists them: a new one is a line here."""

import pkgutil

from gateway.faces.face import Face

FACES = (
    "gateway.faces.ndjson.face:NdjsonFace",
    "gateway.faces.openai.face:OpenAIFace",
)


def load() -> list[Face]:
    return [pkgutil.resolve_name(name)() for name in FACES]
