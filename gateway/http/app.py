"""The HTTP surface."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.process.turns import Turns
from fleet.process.version import VERSION
from gateway.access.access import Access
from gateway.chats.chats import Chat, Chats
from gateway.errors import GatewayError, MalformedBody, UnknownModel
from gateway.faces.bodies import Bodies, Body
from gateway.faces.encoder import Encoder
from gateway.faces.ndjson import request as seed_body
from gateway.faces.ndjson.encoder import Ndjson
from gateway.faces.ndjson.refusal import error_response
from gateway.faces.openai import request as openai_body
from gateway.faces.openai.encoder import OpenAIFormat, openai_error
from gateway.http import openapi as documents
from gateway.http.middleware import Edge
from gateway.http.response import ChatResponse
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb

COUNTED = 200
"""Names of unknown fields that are counted one by one; the rest are one number."""


@dataclass(frozen=True)
class Views:
    """What the probes and the fleet page show: each gives a fresh answer. ``unready`` is a reason, or empty."""

    unready: Callable[[], str]
    fleet: Callable[[], dict[str, Any]]
    models: Callable[[], list[str]]
    started: int = 0
    """When this gateway began, in seconds since 1970: the models' ``created``."""
    ignored: Counter[str] = field(default_factory=Counter)
    """How often clients sent which fields that are not known here."""
    leaving: Callable[[], bool] = lambda: False
    """Whether this gateway is about to end, so that every answer closes its connection."""


class Endpoints:
    """The two chat APIs, which differ in what they take and how they answer, and in nothing else."""

    def __init__(self, settings: GatewaySettings, chats: Chats, access: Access, views: Views) -> None:
        self._settings = settings
        self._chats = chats
        self._access = access
        self._views = views
        self._bodies = Bodies(settings.bodies_memory, Turns())

    async def seed(self, request: Request) -> Response:
        """Stream the reply to a conversation, one JSON object a line."""
        key = self._access.identify(request)
        async with self._body(request) as body:
            asked = await seed_body.read(body, request.state.request_id, self._settings.default_model)
            encoder = Ndjson(asked.history.request_id)
            return await self._answer(key, body, asked.history, lambda _: encoder, stream=asked.stream)

    async def openai(self, request: Request) -> Response:
        """Complete a conversation, as OpenAI's API does."""
        key = self._access.identify(request)
        async with self._body(request) as body:
            asked = await openai_body.read(body, request.state.request_id, self._settings.default_model)
            self._count(asked.ignored)
            request_id, include_usage = asked.history.request_id, asked.include_usage

            def encoder(model: Callable[[], str]) -> Encoder:
                return OpenAIFormat(request_id, model, include_usage=include_usage)

            return await self._answer(key, body, asked.history, encoder, stream=asked.stream)

    async def models(self, request: Request) -> dict[str, Any]:
        """The models that can be asked now."""
        key = self._access.identify(request)
        names = [name for name in self._views.models() if key is None or key.allows(name)]
        return {"object": "list", "data": [self._model(name) for name in names]}

    async def model(self, request: Request, model_id: str) -> dict[str, Any]:
        """One model that can be asked now."""
        key = self._access.identify(request)
        names = [name for name in self._views.models() if key is None or key.allows(name)]
        if model_id not in names:
            raise UnknownModel(model_id, names)
        return self._model(model_id)

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._views.started, "owned_by": "chatfleet"}

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[Body]:
        """The request's body; what it takes of the memory for bodies is given back if no answer comes of it."""
        body = await self._bodies.read(request, self._settings.max_body, self._settings.body_timeout)
        try:
            yield body
        except BaseException:
            body.release()
            raise

    async def _answer(
        self,
        key: Any,
        body: Body,
        history: pb.ChatHistory,
        encoder: Callable[[Callable[[], str]], Encoder],
        *,
        stream: bool,
    ) -> Response:
        model = history.model or next(iter(self._views.models()), "")
        if key is not None and key.models is not None:
            history.model = model  # what was allowed is what is asked for
        grant = self._access.enter(key, model, history)
        chat = Chat(history, body.release)
        grant.follow(chat.reply)

        def done() -> None:
            body.release()
            grant.close()

        response = ChatResponse(
            self._chats,
            chat,
            encoder(lambda: chat.model),
            stream=stream,
            hold=self._settings.hold_status,
            stall=self._settings.stall_timeout,
            done=done,
        )
        response.headers.update(grant.headers)
        return response

    def _count(self, names: list[str]) -> None:
        ignored = self._views.ignored
        for name in names:
            ignored[name[:100] if name[:100] in ignored or len(ignored) < COUNTED else "(others)"] += 1


class ChatRoutes:
    """Serves the two chat APIs past FastAPI's layers, which take as long as all else until a request is with a worker.

    FastAPI has the same endpoints at the same places: it describes them, and serves everything but a POST to them.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or leave it to the application."""
        chat = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(scope["path"]) if chat else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except GatewayError as error:
            response = await _refuse(request, error)
        except ClientDisconnect as error:
            response = await _hang_up(request, error)
        except Exception as error:
            response = await _fail(request, error)
            await response(scope, receive, send)
            raise
        await response(scope, receive, send)


class RestConvertor(PathConvertor):
    """The rest of a path, newlines too, which Starlette's own ``path`` does not match."""

    regex = "(?s:.*)"


def build(settings: GatewaySettings, chats: Chats, access: Access, views: Views) -> ASGIApp:
    """The application, ready to be served."""
    register_url_convertor("rest", RestConvertor())
    # A redirect to a path without its last slash would name the host that the client claims to have asked.
    app: FastAPI = FastAPIOffline(
        title="chatfleet", version=VERSION, redoc_url=None, static_url="/docs-static", redirect_slashes=False
    )
    app.add_exception_handler(GatewayError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    app.add_exception_handler(ClientDisconnect, _hang_up)
    app.add_exception_handler(Exception, _fail)
    ends = Endpoints(settings, chats, access, views)
    app.post("/chat/completions", **documents.SEED)(ends.seed)
    app.post("/v1/chat/completions", **documents.OPENAI)(ends.openai)
    app.get("/v1/models", **documents.MODELS)(ends.models)
    app.get("/v1/models/{model_id:rest}", **documents.MODEL)(ends.model)

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Whether this process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"], responses={503: {"description": "not ready; says why"}})
    async def readyz() -> Response:
        """Whether a chat would be served now; 503 says why not."""
        reason = views.unready()
        if reason:
            return JSONResponse({"status": "unready", "reason": reason}, 503, headers={"retry-after": "1"})
        return JSONResponse({"status": "ready"})

    @app.get("/fleet", tags=["operations"], responses=documents.KEYED)
    async def fleet(request: Request) -> dict[str, Any]:
        """Who is there, and how busy."""
        access.identify(request)
        return views.fleet()

    served: ASGIApp = ChatRoutes(app, {"/chat/completions": ends.seed, "/v1/chat/completions": ends.openai})
    if settings.cors_origins:
        served = CORSMiddleware(
            served,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    return Edge(served, views.leaving)


def _is_openai(request: Request) -> bool:
    return request.url.path.startswith("/v1/")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    respond = openai_error if _is_openai(request) else error_response
    return respond(error, request.state.request_id)


async def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "not_allowed"
    failure = GatewayError(code, f"{request.url.path[:200]}: {error.detail}")
    failure.status = error.status_code
    failure.extra_headers = dict(error.headers or {})
    return await _refuse(request, failure)


async def _fail(request: Request, _: Exception) -> Response:
    return await _refuse(request, GatewayError("internal_error", "the gateway failed; its log has the request id"))


async def _hang_up(request: Request, _: Exception) -> Response:
    error = MalformedBody("incomplete_body", "the client closed its connection before its request was complete")
    return await _refuse(request, error)
