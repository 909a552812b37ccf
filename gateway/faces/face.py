"""The port of an API: what each face provides, and what the gateway provides to its routes.

A new API is a folder beside ``ndjson`` and ``openai`` with a :class:`Face`, and a line in :mod:`gateway.faces.listed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import GatewayError
from gateway.faces.bodies import Body
from gateway.faces.encoder import Encoder
from gateway.faces.line import dumps
from gateway.faces.outline import MAX_VALUES
from protos import chat_pb2 as pb

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    history: pb.ChatHistory
    stream: bool
    encoder: Callable[[Callable[[], str]], Encoder]
    """Makes the reply's encoder, given a function that returns the name of the model that answers."""
    waits: bool = False
    """Whether the status line waits for the first event, however long: for formats that cannot express an error."""


class Fleet(Protocol):
    """What the gateway does for a face's routes. Its methods raise :class:`GatewayError`."""

    started: int
    """When this gateway began, in seconds since 1970."""

    async def chat(self, request: Request, face: "Face") -> Response:
        """Check the request's key and limits, read its body with :meth:`Face.read`, and answer with the reply."""

    def models(self, request: Request) -> dict[str, str]:
        """The models and agents that are served now and that the request's key may use, with their descriptions."""


@dataclass(frozen=True)
class Route:
    """One path with its handler. ``path`` may have parameters in braces; ``{name:rest}`` matches whatever is left.

    ``openapi`` holds arguments of FastAPI's decorators, such as ``summary``, ``responses`` and ``openapi_extra``.
    """

    method: str
    path: str
    serve: Callable[[Request, Fleet], Awaitable[Response]]
    openapi: Json


class Face(ABC):
    name: ClassVar[str]
    prefix: ClassVar[str]
    """Errors of every path that begins with this have the face's shape. Where several faces match, the longest wins."""
    max_values: ClassVar[int] = MAX_VALUES
    """JSON values of a body. More than the default only where they stay text: :meth:`read` must not build them."""

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """Everything that the face serves; see :meth:`chat`."""

    @abstractmethod
    async def read(self, body: Body, request_id: str, default_model: str) -> Asked:
        """Turn a request's body into a history, inside ``async with body.work()``. Raises a :class:`GatewayError`."""

    def refusal(self, error: GatewayError, request_id: str) -> Response:
        """An error as the answer to a request, wherever it was raised."""
        return json_refusal(error, error.body(request_id))

    def chat(self, path: str, openapi: Json) -> Route:
        """The route ``POST path`` of requests that :meth:`read` reads."""

        async def serve(request: Request, fleet: Fleet) -> Response:
            return await fleet.chat(request, self)

        return Route("POST", path, serve, openapi)


def owner(faces: Iterable[Face], path: str) -> Face:
    """The face whose shape the errors of ``path`` have. One face must have the empty prefix."""
    return max((face for face in faces if path.startswith(face.prefix)), key=lambda face: len(face.prefix))


def json_refusal(error: GatewayError, body: Json) -> Response:
    """``{"error": body}`` with the error's status and headers."""
    return Response(dumps({"error": body}), error.status, error.headers(), "application/json")
