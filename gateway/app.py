"""The HTTP surface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from fleet.version import VERSION
from gateway import body
from gateway.chats import Chats
from gateway.edge import Edge
from gateway.errors import GatewayError, MalformedBody
from gateway.refusal import error_response
from gateway.response import ChatResponse
from gateway.settings import GatewaySettings

_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": body.ChatBody.model_json_schema()}}}
}


@dataclass(frozen=True)
class Views:
    """What the probes and the fleet page show: each gives a fresh answer. ``unready`` is a reason, or empty."""

    unready: Callable[[], str]
    fleet: Callable[[], dict[str, Any]]


def build(settings: GatewaySettings, chats: Chats, views: Views) -> ASGIApp:
    """The application, ready to be served."""
    app = FastAPI(title="chatfleet", version=VERSION, docs_url=None, redoc_url=None)
    app.add_exception_handler(GatewayError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    app.add_exception_handler(ClientDisconnect, _hang_up)

    @app.post("/chat/completions", openapi_extra=_BODY)
    async def chat_completions(request: Request) -> Response:
        """Stream the reply to a conversation, one JSON object a line."""
        raw = await body.read_body(request, settings.max_body, settings.body_timeout)
        asked = body.parse(body.ChatBody, raw)
        chat = chats.open(body.history(asked, request.state.request_id, settings.default_model))
        return ChatResponse(chats, chat, stream=asked.stream, hold=settings.hold_status, stall=settings.stall_timeout)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether this process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether a chat would be served now; 503 says why not."""
        reason = views.unready()
        if reason:
            return JSONResponse({"status": "unready", "reason": reason}, 503, headers={"retry-after": "1"})
        return JSONResponse({"status": "ready"})

    @app.get("/fleet")
    async def fleet() -> dict[str, Any]:
        """Who is there, and how busy."""
        return views.fleet()

    return Edge(app)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error_response(error, request.state.request_id)


async def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    failure = GatewayError(
        "not_found" if error.status_code == 404 else "not_allowed", f"{request.url.path}: {error.detail}"
    )
    failure.status = error.status_code
    response = error_response(failure, request.state.request_id)
    response.headers.update(error.headers or {})
    return response


async def _hang_up(request: Request, _: Exception) -> Response:
    error = MalformedBody("incomplete_body", "the client closed its connection before its request was complete")
    return error_response(error, request.state.request_id)
