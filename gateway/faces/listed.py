"""The APIs that this gateway speaks. This is the only place that lists them."""

from gateway.faces.face import Face
from gateway.faces.ndjson.face import NdjsonFace
from gateway.faces.openai.face import OpenAIFace

FACES: tuple[Face, ...] = (
    NdjsonFace(),
    OpenAIFace(),
)
