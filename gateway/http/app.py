"""The HTTP application: the routes of all faces, the probes, and errors in the shape of the face that owns the path."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from fleet.process.turns import Turns
from fleet.process.version import VERSION
from gateway.access.access import Access
from gateway.access.keys import Key
from gateway.chats.chats import Chat, Chats
from gateway.errors import GatewayError, InvalidField, MalformedBody
from gateway.faces import listed
from gateway.faces.bodies import Bodies, Body
from gateway.faces.face import Asked, Face, Fleet, Route, owner
from gateway.faces.openapi import error_schema, refusals
from gateway.http.middleware import Edge
from gateway.http.response import ChatResponse
from gateway.settings import GatewaySettings


@dataclass(frozen=True)
class Views:
    """The gateway's state as the routes show it. ``unready`` returns a reason, or an empty text."""

    unready: Callable[[], str]
    fleet: Callable[[], dict[str, Any]]
    models: Callable[[], list[str]]
    started: int = 0
    """When this gateway began, in seconds since 1970."""
    leaving: Callable[[], bool] = lambda: False
    """Whether this gateway drains: then every answer closes its connection."""


class ChatService(Fleet):
    def __init__(self, settings: GatewaySettings, chats: Chats, access: Access, views: Views) -> None:
        self.started = views.started
        self._settings = settings
        self._chats = chats
        self._access = access
        self._views = views
        self._bodies = Bodies(settings.bodies_memory, Turns())

    def models(self, request: Request) -> list[str]:
        key = self._access.identify(request)
        return [name for name in self._views.models() if key.allows(name)]

    async def chat(self, request: Request, face: Face) -> Response:
        settings = self._settings
        key = self._access.identify(request)
        body = await self._bodies.read(request, settings.max_body, settings.body_timeout, face.max_values)
        try:
            asked = await face.read(body, request.state.request_id, settings.default_model)
            response = self._open(key, body, asked)
        except BaseException:
            body.release()
            raise
        traceparent = request.headers.get("traceparent", "")
        self._chats.observer.request_opened(asked.history.request_id, face.name, asked.history.model, traceparent)
        return response

    def _open(self, key: Key, body: Body, asked: Asked) -> Response:
        history = asked.history
        if history.endpoint and not history.model:  # only chats have a default
            raise InvalidField("model is missing", "model")
        model = history.model or next(iter(self._views.models()), "")
        if key.models is not None:
            history.model = model  # exactly the model that is checked, even if another becomes the default meanwhile
        chat = Chat(history, body.release, key.allows)
        encoder = asked.encoder(lambda: chat.model)  # before the grant, which a defective face must not leave open
        grant = self._access.enter(key, model, history)
        grant.follow(chat.reply)

        def done() -> None:
            body.release()
            grant.close()

        response = ChatResponse(
            self._chats,
            chat,
            encoder,
            stream=asked.stream,
            hold=None if asked.waits else self._settings.hold_status,
            stall=self._settings.stall_timeout,
            done=done,
        )
        response.headers.update(grant.headers)
        return response


class RestConvertor(PathConvertor):
    """The rest of a path. Unlike Starlette's ``path`` it matches newlines."""

    regex = "(?s:.*)"


def build(
    settings: GatewaySettings,
    chats: Chats,
    access: Access,
    views: Views,
    faces: Sequence[Face] | None = None,
) -> ASGIApp:
    """The application, ready to be served; ``faces`` are all that are listed, if they are not given."""
    faces = faces or listed.load()
    register_url_convertor("rest", RestConvertor())
    # A redirect to a path without its last slash would name the host that the client claims to have asked.
    app: FastAPI = FastAPIOffline(
        title="chatfleet", version=VERSION, redoc_url=None, static_url="/docs-static", redirect_slashes=False
    )
    service = ChatService(settings, chats, access, views)
    for face in faces:
        for route in face.routes():
            # A plain response class: FastAPI must not document JSON beside what the route's own description says.
            plain: dict[str, Any] = {"response_class": Response, "response_model": None}
            app.add_api_route(route.path, _endpoint(route, service), methods=[route.method], **plain, **route.openapi)
    _add_operations(app, access, views)
    _render_errors(app, faces)
    served: ASGIApp = app
    if settings.cors_origins:  # outside of FastAPI, whose answers to defects must have its headers too
        served = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "x-attempts", "x-should-retry", "retry-after", "retry-after-ms"],
        )
    return Edge(served, views.leaving)


def _endpoint(route: Route, service: ChatService) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await route.serve(request, service)

    return endpoint


def _add_operations(app: FastAPI, access: Access, views: Views) -> None:
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

    @app.get("/fleet", tags=["operations"], responses=refusals(error_schema(), 401))
    async def fleet(request: Request) -> dict[str, Any]:
        """The workers and their load."""
        access.identify(request)
        return views.fleet()


def _render_errors(app: FastAPI, faces: Sequence[Face]) -> None:
    async def refuse(request: Request, error: Exception) -> Response:
        return owner(faces, request.scope["path"]).refusal(_gateway_error(request, error), request.state.request_id)

    for kind in (GatewayError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, refuse)


def _gateway_error(request: Request, error: Exception) -> GatewayError:
    match error:
        case GatewayError():
            return error
        case HTTPException(status_code=status, detail=detail, headers=headers):
            code = "not_found" if status == 404 else "not_allowed"
            return GatewayError(code, f"{request.url.path[:200]}: {detail}", status=status, headers=headers)
        case ClientDisconnect():
            message = "the client closed its connection before its request was complete"
            return MalformedBody("incomplete_body", message)
    return GatewayError("internal_error", "the gateway failed; its log has the request id")
