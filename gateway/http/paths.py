"""What a request's path means: other spellings of the paths that are served, and advice about those that are not."""

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

ALIASES = {"/health": "/healthz", "/models": "/v1/models"}

AZURE = re.compile(
    "/openai(?:/v1|/deployments/(?P<model>.+?))(?P<path>/(?:chat/completions|completions|embeddings|models))"
)
"""Azure's paths, old and new. The old ones name the model, whatever the body says."""

LACKING = {
    "assistants": "Assistants API",
    "audio": "audio API",
    "batches": "batch API",
    "conversations": "Conversations API",
    "files": "files API",
    "fine_tuning": "fine-tuning",
    "images": "images API",
    "messages": "Anthropic API",
    "moderations": "moderations",
    "realtime": "Realtime API",
    "rerank": "reranking",
    "responses": "Responses API",
    "threads": "Assistants API",
    "uploads": "uploads API",
    "vector_stores": "vector stores",
    "videos": "video API",
}
"""By what follows ``/v1/``: known APIs of others, whose clients are told what there is instead."""


class Paths:
    """Gives the application each request in its own words: HEAD as GET, and a path as ``known`` has it.

    A redirect would do for neither: clients drop the body or the key on the way. The server leaves out a HEAD's body.
    """

    def __init__(self, app: ASGIApp, known: Iterable[str]) -> None:
        self._app = app
        self._known = frozenset(known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(self._read(scope), receive, send)

    def _read(self, scope: Scope) -> Scope:
        asked, method = scope["path"], scope["method"]
        path = asked if asked in self._known else self._meant(scope, asked)
        if path == asked and method != "HEAD":
            return scope
        return {**scope, "method": "GET" if method == "HEAD" else method, "path": path}

    def _meant(self, scope: Scope, asked: str) -> str:
        path = "/" + "/".join(filter(None, asked.split("/")))
        path = ALIASES.get(path, path)
        if azure := AZURE.fullmatch(path):
            scope["state"]["model"] = azure["model"] or ""
            return "/v1" + azure["path"]
        return path if path in self._known else asked


def advice(path: str) -> str:
    """What a client should be told that asks for a path that is not served."""
    name = next((part for part in path.split("/") if part not in ("", "v1", "openai")), "")
    if name in LACKING:
        return f"Not Found. This gateway has no {LACKING[name]}: use chat completions, POST /v1/chat/completions"
    if path.endswith("/chat/completions") or name in ("completions", "embeddings", "models"):
        return (
            "Not Found. OpenAI's API is at /v1: set the client's base URL to one that ends in /v1, or without it, "
            "if the client adds /v1 by itself"
        )
    if name in ("api", "v1beta"):
        return "Not Found. This gateway speaks OpenAI's API: set the client's base URL to one that ends in /v1"
    return "Not Found"
