"""The HTTP application: the routes of all faces, the probes, and errors in the shape of the face that owns the path."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from fleet.metrics.exposition import Exposition
from fleet.process.health import Metrics
from fleet.process.turns import Turns
from fleet.process.version import VERSION
from gateway.access.access import ANYONE, Access
from gateway.access.keys import Key
from gateway.chats.chat import Chat, Record
from gateway.chats.chats import Chats
from gateway.chats.observer import Observer
from gateway.errors import GatewayError, InvalidField, MalformedBody
from gateway.faces import listed
from gateway.faces.bodies import Bodies, Body
from gateway.faces.face import Asked, Face, Fleet, owner
from gateway.faces.face import Route as FaceRoute
from gateway.faces.openapi import error_schema, json_response, refusals, secured
from gateway.http import pages
from gateway.http.middleware import Edge
from gateway.http.paths import Paths, advice
from gateway.http.readiness import DeepProbe, Readiness
from gateway.http.response import ChatResponse
from gateway.routing.health import Health
from gateway.settings import GatewaySettings

EXPOSED = [
    *("retry-after", "retry-after-ms", "x-attempts", "x-request-id", "x-should-retry"),
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
]
"""Headers of an answer that a web page of another origin may read."""


@dataclass(frozen=True)
class Views:
    """The gateway's state as the routes show it. ``unready`` returns a reason that is no model's, or an empty text."""

    unready: Callable[[], str]
    fleet: Callable[[], dict[str, Any]]
    models: Callable[[], dict[str, str]]
    """What is served, the default first, with its description."""
    health: Callable[[], dict[str, Health]] = dict
    """How what is served does."""
    started: int = 0
    """When this gateway began, in seconds since 1970."""
    leaving: Callable[[], bool] = lambda: False
    """Whether this gateway drains: then every answer closes its connection."""
    metrics: Metrics = field(default_factory=lambda: Exposition().render)


class ChatService(Fleet):
    def __init__(
        self,
        settings: GatewaySettings,
        chats: Chats,
        access: Access,
        views: Views,
        observer: Observer,
        bodies: Bodies | None,
    ) -> None:
        self.started = views.started
        self._observer = observer
        self._settings = settings
        self._chats = chats
        self._access = access
        self._views = views
        self._bodies = bodies or Bodies(settings.bodies_memory, Turns())

    def models(self, request: Request) -> dict[str, str]:
        key = self._access.identify(request)
        return {name: description for name, description in self._views.models().items() if key.allows(name)}

    async def chat(self, request: Request, face: Face) -> Response:
        settings = self._settings
        record: Record = request.state.record
        record.face, record.path, record.route = face.name, request.scope["path"], request.scope["route"].path
        self._observer.opened(record)
        key = self._access.identify(request)
        record.key = key.name if key is not ANYONE else ""
        body = await self._bodies.read(request, settings.max_body, settings.body_timeout, face.max_values)
        try:
            asked = await face.read(body, request.state.request_id, settings.default_model)
            asked.history.model = getattr(request.state, "model", "") or asked.history.model
            return self._open(key, body, asked, record)
        except BaseException:
            body.release()
            raise

    def _open(self, key: Key, body: Body, asked: Asked, record: Record) -> Response:
        history = asked.history
        model = history.model or next(iter(self._views.models()), "")
        record.model, record.stream = (history.model if history.endpoint else model), asked.stream
        history.traceparent, history.tracestate = record.traceparent, record.tracestate
        if history.endpoint and not history.model:  # only chats have a default
            raise InvalidField("model is missing", "model")
        if key.models is not None:
            history.model = model  # exactly the model that is checked, even if another becomes the default meanwhile
        chat = Chat(history, body.release, key.allows, record)
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
            turns=self._bodies.turns,
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
    observer: Observer | None = None,
    bodies: Bodies | None = None,
) -> ASGIApp:
    """The application, ready to be served; ``faces`` are all that are listed, if they are not given."""
    faces = faces or listed.load()
    observer = observer or Observer()
    register_url_convertor("rest", RestConvertor())
    # A redirect to a path without its last slash would name the host that the client claims to have asked.
    app: FastAPI = FastAPIOffline(
        None, None, title="chatfleet", version=VERSION, static_url="/docs-static", redirect_slashes=False
    )
    service = ChatService(settings, chats, access, views, observer, bodies)
    for face in faces:
        for route in face.routes():
            # A plain response class: FastAPI must not document JSON beside what the route's own description says.
            plain: dict[str, Any] = {"response_class": Response, "response_model": None}
            app.add_api_route(route.path, _endpoint(route, service), methods=[route.method], **plain, **route.openapi)
    readiness = Readiness(views.unready, views.health)
    _add_operations(app, access, views, readiness, DeepProbe(chats, access, observer))
    _add_pages(app, access, readiness)
    _render_errors(app, faces)
    app.openapi()  # now, and kept: it takes 50 ms, for which the first who asks would block the event loop
    served: ASGIApp = Paths(app, {route.path for route in app.routes if isinstance(route, Route)})
    if settings.cors_origins:  # outside of FastAPI, whose answers to defects must have its headers too
        served = CORSMiddleware(
            served,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    return Edge(served, views.leaving, observer)


def _endpoint(route: FaceRoute, service: ChatService) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await route.serve(request, service)

    return endpoint


def _add_pages(app: FastAPI, access: Access, readiness: Readiness) -> None:
    @app.get("/", include_in_schema=False)
    @app.get("/v1", include_in_schema=False)
    async def index(request: Request) -> Response:
        if pages.asks_for_html(request):
            return pages.index(readiness.reason(), access.needs_key)
        shown = {
            "service": "chatfleet",
            "version": VERSION,
            "openai": "/v1 is the base URL of OpenAI's API: POST /v1/chat/completions, GET /v1/models",
            "ndjson": "POST /chat/completions",
            "documentation": "/docs",
            "health": "/healthz, /readyz, /fleet, /metrics",
        }
        return JSONResponse(shown, headers={"vary": "accept"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return pages.docs()

    if access.needs_key:
        document = app.openapi
        app.openapi = lambda: secured(document(), free=("/healthz", "/readyz"))  # type: ignore[method-assign]


def _add_operations(app: FastAPI, access: Access, views: Views, readiness: Readiness, probe: DeepProbe) -> None:
    @app.get("/healthz", tags=["operations"], summary="Is this gateway alive?")
    async def healthz() -> dict[str, str]:
        """Whether this process is alive."""
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operations"],
        summary="Would a chat be served now?",
        response_model=None,
        responses={503: {"description": "not ready; says why"}, **refusals(error_schema(), 401, 404)},
    )
    async def readyz(request: Request, model: str = "", asked_for: Annotated[str, Query(alias="for")] = "") -> Response:
        """503 says why not, and which models fail.

        `model` asks for one of them. `for=balancer` asks whether this gateway takes requests, however its models do.
        Where keys are needed, only clients with one are told models' names.
        """
        return readiness.answer(access.known(request), asked_for, model)

    @app.post(
        "/readyz",
        tags=["operations"],
        summary="Try a chat",
        response_model=None,
        responses={503: {"description": "no answer came; says why"}, **refusals(error_schema(), 401, 403, 404, 429)},
    )
    async def try_chat(request: Request, model: str = "") -> Response:
        """Sends a short chat to `model`, or to the default one, and says whether a first token came.

        Requires a key where keys are needed, and costs what the model costs. A result holds for 10 seconds.
        """
        return await probe.answer(request, access.identify(request), model, views.models())

    shown = {200: json_response("the fleet as this gateway sees it", {"type": "object"})}
    responses = shown | refusals(error_schema(), 401)

    @app.get("/fleet", tags=["operations"], summary="Workers, load and queue", responses=responses)
    async def fleet(request: Request) -> Response:
        """The workers and their load."""
        access.identify(request)
        return Response(orjson.dumps(views.fleet(), option=orjson.OPT_INDENT_2), media_type="application/json")

    @app.get(
        "/metrics",
        tags=["operations"],
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses=refusals(error_schema(), 401),
    )
    async def metrics(request: Request) -> Response:
        """What is counted and measured, in Prometheus' text formats."""
        access.identify(request)
        text, media_type = await views.metrics(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type})


def _render_errors(app: FastAPI, faces: Sequence[Face]) -> None:
    async def refuse(request: Request, error: Exception) -> Response:
        if request.method == "OPTIONS" and isinstance(error, HTTPException) and error.status_code == 405:
            return Response(status_code=204, headers={"allow": _allowed(request)})
        failure = _gateway_error(request, error)
        request.state.record.end(failure)
        return owner(faces, request.scope["path"]).refusal(failure, request.state.request_id)

    for kind in (GatewayError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, refuse)


def _gateway_error(request: Request, error: Exception) -> GatewayError:
    path = request.scope["path"]
    match error:
        case GatewayError():
            return error
        case HTTPException(status_code=404):
            return GatewayError("not_found", f"{path[:200]}: {advice(path)}", status=404)
        case HTTPException(status_code=405):
            allowed = _allowed(request)
            reason = f"{path[:200]}: {request.method} is not allowed here; these are: {allowed}"
            if path in ("/", "/v1"):
                reason += ". Chat completions are at /v1/chat/completions"
            return GatewayError("not_allowed", reason, status=405, headers={"allow": allowed})
        case HTTPException(status_code=status, detail=detail, headers=headers):
            return GatewayError("not_allowed", f"{path[:200]}: {detail}", status=status, headers=headers)
        case ClientDisconnect():
            message = "the client closed its connection before its request was complete"
            return MalformedBody("incomplete_body", message)
    return GatewayError("internal_error", "the gateway failed; its log has the request id")


def _allowed(request: Request) -> str:
    """The methods of a path: those of all its routes, and those that every path with them has."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    methods = sorted({method for route in matching for method in route.methods or ()} - {"HEAD"})
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
