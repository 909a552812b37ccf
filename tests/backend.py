"""A model server for tests: OpenAI's API over real HTTP, following the schedule in each request.

    python -m tests.backend --port 0

prints its port and then serves ``POST /v1/chat/completions``, ``/v1/completions`` and ``/v1/embeddings``. What it saw
can be read back:

- ``GET /requests``, ``GET /requests?tag=T``: records of requests, the oldest first; ``DELETE /requests`` forgets them;
- ``GET /active``: how many requests are being answered now, and the most at once since the last ``DELETE``;
- ``PUT /plain``: the schedule (JSON) for messages that carry none; an empty body restores the echo.

Times in records are of the monotonic clock, which all processes of a machine share.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import json
import signal
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from aiohttp import web

from tests.play import Cue, find_cue
from tests.schedule import (
    Schedule,
    argument_parts,
    echo,
    embedding,
    logprob_of,
    parse,
    reasoning_tokens,
    reply_text,
    reply_tokens,
)

KEPT_RECORDS = 20_000
SMALL_BODY = 1024
"""Bytes up to which the body of an untagged request is kept."""
PIECE = 16 * 1024
"""Bytes that a reply sent flat out puts into one write."""
SETTLE = 0.05
"""Seconds between the last token and a reset, so that the token is not discarded with the connection."""


@dataclasses.dataclass
class Record:
    """One request, as the backend saw it."""

    id: int
    tag: str | None
    authorization: str
    headers: dict[str, str] | None
    body: Any
    started: float
    first_token: float | None = None
    completed: float | None = None
    """When the answer ended, well or as scheduled."""
    closed: float | None = None
    """When the client closed the connection before that."""


class Records:
    """The last requests, and those being answered."""

    def __init__(self) -> None:
        self.kept: deque[Record] = deque(maxlen=KEPT_RECORDS)
        self.active = 0
        self.peak = 0
        self._count = 0

    def start(self, request: web.Request, raw: bytes, body: Any, tag: str | None) -> Record:
        self._count += 1
        record = Record(
            id=self._count,
            tag=tag,
            authorization=request.headers.get("authorization", ""),
            headers={name.lower(): value for name, value in request.headers.items()} if tag else None,
            body=body if tag or len(raw) <= SMALL_BODY else None,
            started=time.monotonic(),
        )
        self.kept.append(record)
        return record

    def tagged(self, tag: str) -> list[Record]:
        return [record for record in self.kept if record.tag == tag]

    def forget(self) -> None:
        self.kept.clear()
        self.peak = self.active

    @contextlib.contextmanager
    def answering(self, record: Record) -> Iterator[None]:
        """Count the request as active, and note how it ended."""
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            yield
            record.completed = time.monotonic()
        except (asyncio.CancelledError, ConnectionError):
            if record.completed is None:
                record.closed = time.monotonic()
            raise
        finally:
            self.active -= 1


class Backend:
    """The handlers, and what they share."""

    def __init__(self) -> None:
        self.records = Records()
        self.plain: Schedule | None = None
        self._said: Counter[tuple[str, str]] = Counter()
        """How often each speaker of each play has had its turn."""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self.complete),
                web.post("/v1/completions", self.complete_text),
                web.post("/v1/embeddings", self.embed),
                web.get("/requests", self.list_requests),
                web.delete("/requests", self.forget_requests),
                web.get("/active", self.count_active),
                web.put("/plain", self.set_plain),
            ]
        )
        return app

    async def complete(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        cue = find_cue(body["messages"])
        if cue is not None:
            schedule = self._turn(cue)
        else:
            content = last_user_text(body["messages"])
            schedule = parse(content) or self.plain or echo(content)
            if body["messages"][-1]["role"] == "tool":
                schedule = dataclasses.replace(schedule, tool_calls=None)
        record = self.records.start(request, raw, body, schedule.tag)
        try:
            with self.records.answering(record):
                return await self._answer(request, body, schedule, record)
        except ConnectionError:
            return web.Response()  # the client left before its handler was cancelled; this goes nowhere

    def _turn(self, cue: Cue) -> Schedule:
        number = self._said[cue.tag, cue.speaker]
        self._said[cue.tag, cue.speaker] += 1
        return dataclasses.replace(Schedule(**cue.part[min(number, len(cue.part) - 1)]), tag=cue.tag)

    async def _answer(
        self, request: web.Request, body: Mapping[str, Any], schedule: Schedule, record: Record
    ) -> web.StreamResponse:
        if schedule.hang:
            await forever()
        if schedule.status is not None and not self._has_failed_enough(schedule):
            return refusal(schedule)
        reply = Reply(schedule, body, record)
        return await (reply.stream(request) if body.get("stream") else reply.whole(request))

    async def complete_text(self, request: web.Request) -> web.StreamResponse:
        """A completion of ``prompt``, which carries the schedule."""
        prompt = json.loads(await request.read())["prompt"]
        return await self._pass(request, parse(prompt) or echo(prompt), TextReply)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """Embeddings of ``input``; ``schedule`` says how they come: ``tokens`` are pieces of the answer."""
        schedule = Schedule(**{"seed": 0, **json.loads(await request.read()).get("schedule", {})})
        return await self._pass(request, schedule, Embedding)

    async def _pass(
        self, request: web.Request, schedule: Schedule, kind: "type[TextReply | Embedding]"
    ) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        record = self.records.start(request, raw, body, schedule.tag)
        try:
            with self.records.answering(record):
                if schedule.hang:
                    await forever()
                if schedule.status is not None and not self._has_failed_enough(schedule):
                    return refusal(schedule)
                return await kind(schedule, body, record).send(request)
        except ConnectionError:
            return web.Response()

    def _has_failed_enough(self, schedule: Schedule) -> bool:
        return bool(
            schedule.fail_times and schedule.tag and len(self.records.tagged(schedule.tag)) > schedule.fail_times
        )

    async def list_requests(self, request: web.Request) -> web.Response:
        tag = request.query.get("tag")
        records = self.records.kept if tag is None else self.records.tagged(tag)
        return web.json_response([vars(record) for record in records])

    async def forget_requests(self, _: web.Request) -> web.Response:
        self.records.forget()
        self._said.clear()
        return web.json_response({})

    async def count_active(self, _: web.Request) -> web.Response:
        return web.json_response({"active": self.records.active, "peak": self.records.peak})

    async def set_plain(self, request: web.Request) -> web.Response:
        content = await request.text()
        self.plain = parse(content)
        return web.json_response({}, status=400 if content and self.plain is None else 200)


class Reply:
    """One answer in OpenAI's shape."""

    def __init__(self, schedule: Schedule, body: Mapping[str, Any], record: Record) -> None:
        self._schedule = schedule
        self._record = record
        self._model = body["model"]
        self._calls = schedule.tool_calls or []
        self._wants_logprobs = bool(body.get("logprobs"))
        self._alternatives = int(body.get("top_logprobs") or 0)
        self._wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._id = f"chatcmpl-{record.id}"
        self._prompt_tokens = sum(len(str(message.get("content", "")).split()) for message in body["messages"])
        self._said = 0

    async def whole(self, request: web.Request) -> web.StreamResponse:
        """``"stream": false``."""
        schedule = self._schedule
        await asyncio.sleep(schedule.first_delay + schedule.delay * schedule.tokens)
        if schedule.cut is not None:
            await self._break(request)
        message = {"role": "assistant"} | (
            {"content": None, "tool_calls": [tool_call(call, call["arguments"]) for call in self._calls]}
            if self._calls
            else {"content": None, "refusal": None} | {self._said_as: reply_text(schedule)}
        )
        if schedule.reasoning:
            message["reasoning_content"] = "".join(reasoning_tokens(schedule))
        tokens = [] if self._calls else list(reply_tokens(schedule))
        self._said = len(tokens)
        logprobs = {"content": [logprob_of(token, self._alternatives) for token in tokens], "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish_reason,
            "logprobs": logprobs if self._wants_logprobs else None,
        }
        return web.json_response(self._object("chat.completion") | {"choices": [choice], "usage": self._usage()})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(self._event({"role": "assistant", "content": ""}))
        async for piece in self._paced_pieces():
            self._record.first_token = self._record.first_token or time.monotonic()
            await response.write(piece)
        if self._schedule.cut is None:
            await response.write(self._ending())
        elif self._schedule.error_after is not None:
            await response.write(sse({"error": {"message": "the model broke", "type": "server_error", "code": None}}))
        elif self._schedule.end_after is None:
            await self._break(request)
        await response.write_eof()
        return response

    async def _paced_pieces(self) -> AsyncIterator[bytes]:
        """Events of tokens, each when it is due; those that are due together in one piece."""
        schedule = self._schedule
        start = time.monotonic() + schedule.first_delay
        piece = bytearray()
        for number, event in enumerate(self._token_events()):
            wait = start + number * schedule.delay - time.monotonic()
            if piece and (wait > 0 or len(piece) >= PIECE):
                yield bytes(piece)
                piece.clear()
                await asyncio.sleep(0)
            if wait > 0:
                await asyncio.sleep(wait)
            piece += event
        if piece:
            yield bytes(piece)

    def _token_events(self) -> Iterator[bytes]:
        schedule = self._schedule
        if schedule.fields is not None:
            yield self._event(schedule.fields)
        reply = () if self._calls else reply_tokens(schedule)
        for name, tokens in (("reasoning_content", reasoning_tokens(schedule)), (self._said_as, reply)):
            before, after = self._event({name: "@"}).split(b'"@"')
            for token in tokens:
                if self._said == schedule.cut:
                    return
                self._said += 1
                if self._wants_logprobs and name == "content":
                    yield self._event({name: token}, logprobs=[logprob_of(token, self._alternatives)])
                else:
                    yield before + json.dumps(token).encode() + after
        yield from self._call_events()

    def _call_events(self) -> Iterator[bytes]:
        """Each call's name first, then its arguments in parts: as OpenAI does."""
        for index, call in enumerate(self._calls):
            parts = [tool_call(call, ""), *({"function": {"arguments": part}} for part in argument_parts(call))]
            for part in parts:
                if self._said == self._schedule.cut:
                    return
                self._said += 1
                yield self._event({"tool_calls": [{"index": index} | part]})

    @property
    def _said_as(self) -> str:
        return "refusal" if self._schedule.refuses else "content"

    @property
    def _finish_reason(self) -> str:
        return "tool_calls" if self._calls else self._schedule.finish_reason

    def _ending(self) -> bytes:
        ending = self._event({}, self._finish_reason)
        if self._wants_usage:
            ending += sse(self._object("chat.completion.chunk") | {"choices": [], "usage": self._usage()})
        return ending + b"data: [DONE]\n\n"

    async def _break(self, request: web.Request) -> None:
        """Hang, or reset the connection."""
        if self._schedule.reset_after is not None and self._schedule.reset_after == self._schedule.cut:
            await asyncio.sleep(SETTLE)
            self._record.completed = time.monotonic()
            reset(request)
        await forever()

    def _event(
        self, delta: Mapping[str, Any], finish_reason: str | None = None, logprobs: list[dict[str, Any]] | None = None
    ) -> bytes:
        choice = {
            "index": 0,
            "delta": delta,
            "finish_reason": finish_reason,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        }
        return sse(self._object("chat.completion.chunk") | {"choices": [choice]})

    def _object(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": 1_700_000_000, "model": self._model}

    def _usage(self) -> dict[str, Any]:
        counted = {"prompt_tokens": self._prompt_tokens, "completion_tokens": self._said}
        usage = self._schedule.usage or counted
        return usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


class Pieces:
    """An answer whose pieces come as the schedule says, up to its fault."""

    media_type = "application/json"

    def __init__(self, schedule: Schedule, body: Mapping[str, Any], record: Record) -> None:
        self._schedule = schedule
        self._body = body
        self._record = record

    def pieces(self) -> Iterator[bytes]:
        raise NotImplementedError

    async def send(self, request: web.Request) -> web.StreamResponse:
        schedule = self._schedule
        await asyncio.sleep(schedule.first_delay)
        response = web.StreamResponse(headers={"content-type": self.media_type, "x-model": "real"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for number, piece in enumerate(self.pieces()):
            if number == schedule.cut:
                await self._break(request, response)
                break
            await response.write(piece)
            self._record.first_token = self._record.first_token or time.monotonic()
            await asyncio.sleep(schedule.delay)
        await response.write_eof()
        return response

    async def _break(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._schedule.error_after is not None:
            await response.write(sse({"error": {"message": "the model broke", "type": "server_error", "code": None}}))
        elif self._schedule.reset_after is not None:
            await asyncio.sleep(SETTLE)
            self._record.completed = time.monotonic()
            reset(request)
            await forever()
        elif self._schedule.hang_after is not None:
            await forever()


class TextReply(Pieces):
    """Of ``POST /v1/completions``."""

    @property
    def media_type(self) -> str:  # type: ignore[override]
        return "text/event-stream" if self._body.get("stream") else "application/json"

    def pieces(self) -> Iterator[bytes]:
        tokens = list(reply_tokens(self._schedule))
        usage = self._schedule.usage or {"prompt_tokens": 5, "completion_tokens": len(tokens)}
        usage = usage | {"total_tokens": sum(usage.values())}
        if not self._body.get("stream"):
            yield json.dumps(self._object("".join(tokens), "stop") | {"usage": usage}).encode()
            return
        for token in tokens:
            yield sse(self._object(token, None))
        yield sse(self._object("", "stop"))
        if (self._body.get("stream_options") or {}).get("include_usage"):
            yield sse(self._object("", None) | {"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def _object(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason, "x_model": "kept"}
        head = {"id": f"cmpl-{self._record.id}", "object": "text_completion", "created": 1_700_000_000}
        return head | {"model": self._body["model"], "choices": [choice], "system_fingerprint": "fp_7"}


class Embedding(Pieces):
    """Of ``POST /v1/embeddings``."""

    def pieces(self) -> Iterator[bytes]:
        given, dimensions = self._body["input"], self._body.get("dimensions", 8)
        count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
        vectors = (embedding(self._schedule.seed + index, dimensions) for index in range(count))
        yield b'{"object":"list","data":['
        for index, vector in enumerate(vectors):
            made: Any = vector
            if self._body.get("encoding_format") == "base64":
                made = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            item = {"object": "embedding", "index": index, "embedding": made}
            yield (b"," if index else b"") + json.dumps(item).encode()
        usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
        yield b'],"model":%b,"x_extra":{"model":"kept"},"usage":%b}\n' % (
            json.dumps(self._body["model"]).encode(),
            json.dumps(usage).encode(),
        )


def sse(payload: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def tool_call(call: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    """A tool call in OpenAI's shape."""
    more = {name: value for name, value in call.items() if name not in ("id", "name", "arguments")}
    return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": arguments}} | more


def refusal(schedule: Schedule) -> web.Response:
    """An HTTP error in OpenAI's shape."""
    error = {"message": f"the model answers {schedule.status}", "type": "test", "param": None, "code": "test"}
    error |= schedule.error or {}
    headers = {} if schedule.retry_after is None else {"retry-after": str(schedule.retry_after)}
    return web.json_response({"error": error}, status=schedule.status or 500, headers=headers)


def last_user_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last user turn, with its parts joined; empty if there is none."""
    for message in reversed(messages):
        if message["role"] == "user":
            content = message["content"] or []
            texts = (
                [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
            )
            return "".join(texts)
    return ""


def reset(request: web.Request) -> None:
    """End the connection with an RST instead of a FIN."""
    transport = request.transport
    if transport is not None:
        lingering = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        transport.abort()


async def forever() -> None:
    """Until the client closes the connection, which cancels the handler."""
    await asyncio.Event().wait()


async def serve(host: str, port: int, keep_alive: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = web.AppRunner(
        Backend().app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1, keepalive_timeout=keep_alive
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="A model server for tests.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; in a container 0.0.0.0")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--keep-alive", type=float, default=3600, help="seconds that an idle connection stays open")
    given = parser.parse_args()
    asyncio.run(serve(given.host, given.port, given.keep_alive))


if __name__ == "__main__":
    main()
