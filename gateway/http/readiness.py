"""``/readyz``: whether chats would be served now, of which models, and what one chat finds out."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.access.access import ANYONE, Access
from gateway.access.keys import Key
from gateway.chats.chat import Chat
from gateway.chats.chats import Chats
from gateway.chats.observer import Observer
from gateway.errors import GatewayError, InvalidField, OutOfTime, Unauthorized, Unavailable, UnknownModel
from gateway.routing.health import Health
from protos import chat_pb2 as pb

BALANCER = "balancer"

NAMED = 10
"""Models that a reason names."""

PROMPT = "Say OK."

TRY_TIMEOUT = 30.0
"""Seconds for the first token of a deep probe."""

TRY_EVERY = 10.0
"""Seconds for which its result holds: a further one of the same model gets that."""


@dataclass(frozen=True)
class Readiness:
    """``unready`` says why this gateway can serve nothing, whatever its models do; empty if it can."""

    unready: Callable[[], str]
    health: Callable[[], dict[str, Health]]
    clock: Callable[[], float] = time.monotonic

    def reason(self) -> str:
        """Why no chat would be served, without models' names; empty if one would."""
        return self.unready() or _unserved(self.health().values(), {})

    def answer(self, key: Key | None, asked_for: str, model: str) -> Response:
        """For a client with this ``key``; without one it is told no names. Raises :class:`GatewayError`."""
        if asked_for not in ("", BALANCER):
            raise InvalidField(f"for: must be {BALANCER}", "for")
        reason = self.unready()
        if asked_for == BALANCER:
            return _unready(reason) if reason else JSONResponse({"status": "ready"})
        health = self.health()
        shown = {name: of for name, of in health.items() if key is not None and key.allows(name)}
        if model:
            if key is None:
                raise Unauthorized
            if model not in shown and not reason:
                raise UnknownModel(model, list(shown))
            shown = health = {model: shown.get(model, Health())}
        reason = reason or _unserved(health.values(), shown)
        now = self.clock()
        models = {name: of.describe(now) for name, of in shown.items()}
        return _unready(reason, models) if reason else JSONResponse({"status": "ready", "models": models})


def _unserved(health: Iterable[Health], shown: dict[str, Health]) -> str:
    return "" if any(of.is_served for of in health) else f"no model can be served{_named(shown)}"


def _named(shown: dict[str, Health]) -> str:
    names = [f"{name} ({of.code or 'no worker'})" for name, of in shown.items()]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f": {', '.join(names[:NAMED])}{more}" if names else ""


def _unready(reason: str, models: dict[str, Any] | None = None) -> Response:
    content = {"status": "unready", "reason": reason, **({} if models is None else {"models": models})}
    return JSONResponse(content, 503, headers={"retry-after": "1"})


@dataclass
class Found:
    """What a chat found out, and when."""

    at: float
    status: int
    content: dict[str, Any]


class DeepProbe:
    """Sends a chat through the whole chain and leaves it at its first token; one at a time for each model."""

    def __init__(
        self, chats: Chats, access: Access, observer: Observer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chats = chats
        self._access = access
        self._observer = observer
        self._clock = clock
        self._found: dict[str, Found] = {}
        self._running: dict[str, asyncio.Lock] = {}

    async def answer(self, request: Request, key: Key, model: str, served: Iterable[str]) -> Response:
        """``served`` are the names of all models, the default first. Raises :class:`GatewayError`."""
        names = list(served)
        if not names:
            raise Unavailable("no_worker", "no worker is ready")
        model = model or names[0]
        if model not in names or not key.allows(model):
            raise UnknownModel(model, [name for name in names if key.allows(name)])
        self._running = {name: self._running.get(name) or asyncio.Lock() for name in names}
        self._found = {name: found for name, found in self._found.items() if name in names}
        async with self._running[model]:
            found = self._found.get(model)
            if found is None or self._clock() - found.at >= TRY_EVERY:
                found = self._found[model] = await self._try(request, key, model)
        age = {"seconds_ago": round(self._clock() - found.at, 1)}
        headers = {"retry-after": "1"} if found.status != 200 else {}
        return JSONResponse(found.content | age, found.status, headers=headers)

    async def _try(self, request: Request, key: Key, model: str) -> Found:
        record = request.state.record
        record.face, record.model, record.key = "probe", model, key.name if key is not ANYONE else ""
        self._observer.opened(record)
        history = pb.ChatHistory(request_id=request.state.request_id, model=model)
        history.messages.add(role=pb.ROLE_USER, source="user").content.add(text=PROMPT)
        chat = Chat(history, allows=key.allows, record=record)
        grant = self._access.enter(key, model, history)
        grant.follow(chat.reply)
        began = self._clock()
        try:
            error = await self._first_token(chat)
        finally:
            grant.close()
        content: dict[str, Any] = {"model": model, "worker": chat.worker, "attempts": chat.attempts}
        now = self._clock()
        if error is None:
            record.code = "ok"
            return Found(now, 200, {"status": "ready", **content, "first_token_ms": round((now - began) * 1000, 1)})
        record.end(error)
        return Found(now, 503, {"status": "unready", "code": error.code, "reason": str(error), **content})

    async def _first_token(self, chat: Chat) -> GatewayError | None:
        reply = chat.reply
        try:
            async with asyncio.timeout(TRY_TIMEOUT), self._chats.open(chat):
                while not reply.started and reply.end is None:
                    await reply.changed()
        except GatewayError as error:
            return error
        except TimeoutError:
            return OutOfTime("first_token_timeout", f"no token came within {TRY_TIMEOUT:g} s", retryable=True)
        return reply.end if isinstance(reply.end, GatewayError) else None
