"""A gateway over a real HTTP server and without a bus: the test plays the workers."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fleet.settings import HostPort
from gateway.access.access import Access
from gateway.http import app, server
from gateway.routing.health import health
from protos import chat_pb2 as pb
from tests.harness.http import Address
from tests.harness.waiting import until
from tests.unit.gateway.chats.test_chats import Stage

SEED = "/chat/completions"
OPENAI = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    SEED: {"messages": [{"source": "user", "content": "hi"}], "stream": True},
    OPENAI: {"messages": [{"role": "user", "content": "hi"}], "stream": True, "model": "m"},
}


class Gateway:
    """What a test sees of it."""

    def __init__(self, stage: Stage, address: Address) -> None:
        self.stage = stage
        self.address = address

    async def asked(self, times: int = 1) -> "Worker":
        """Wait for that many chats; the last one's worker, which has accepted it."""
        history, worker_id = (await self.stage.asked(times))[-1]
        return Worker(self.stage, worker_id, history.request_id)


class Worker:
    """Where one chat runs."""

    def __init__(self, stage: Stage, worker_id: str, request_id: str) -> None:
        self._stage = stage
        self.id = worker_id
        self.request_id = request_id
        self.pushed = 0
        self.event(accepted=pb.Accepted())

    def event(self, **event: Any) -> None:
        self._stage.chats.deliver(self.id, [pb.ReplyEvent(request_id=self.request_id, attempt=1, **event)])

    def text(self, text: str) -> None:
        self.pushed += len(text.encode())
        self.event(text=text, tokens=1)

    def done(self) -> None:
        self.event(done=pb.Done(finish_reason="stop"))

    @property
    def consumed(self) -> int:
        """Bytes for which credit was given back."""
        return self._stage.credit[self.request_id]

    @property
    def unread(self) -> int:
        """Bytes of which the client is behind."""
        return self.pushed - self.consumed

    @property
    def runs(self) -> bool:
        return self.request_id in self._stage.chats._chats


@contextlib.asynccontextmanager
async def serving(port: int = 0, **settings: Any) -> AsyncIterator[Gateway]:
    """Serve until the context is left."""
    stage = Stage(**settings)
    sock = server.listen(HostPort("127.0.0.1", port))
    views = app.Views(
        unready=lambda: "",
        fleet=dict,
        models=lambda: {"m": ""},
        health=lambda: health(stage.directory, stage.clock()),
        leaving=lambda: stage.chats.draining,
    )
    http = server.make_server(app.build(stage.settings, stage.chats, Access(None), views), stage.settings)
    # Without uvicorn's loop, which sleeps for 0.1 s twice at its end.
    http.config.load()
    http.lifespan = http.config.lifespan_class(http.config)
    await http.startup(sockets=[sock])
    try:
        yield Gateway(stage, sock.getsockname())
    finally:
        for listener in http.servers:
            listener.close()
        for connection in list(http.server_state.connections):
            connection.raw.abort()  # type: ignore[union-attr]
        await until(lambda: not http.server_state.connections and not http.server_state.tasks)
        sock.close()


def asking(path: str, version: str = "1.1", **fields: Any) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(BODIES[path] | fields).encode()
    return f"POST {path} HTTP/{version}\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def events_of(path: str, chunk: bytes) -> list[dict[str, Any]]:
    """What one HTTP chunk holds, which is whole lines or events."""
    if path == SEED:
        assert chunk.endswith(b"\n")
        return [json.loads(line) for line in chunk.splitlines()]
    assert chunk.endswith(b"\n\n")
    payloads = [event.removeprefix(b"data: ") for event in chunk.split(b"\n\n")]
    return [json.loads(payload) for payload in payloads if payload not in (b"", b"[DONE]")]


def content_of(path: str, chunk: bytes) -> str:
    """The text of one HTTP chunk."""
    events = events_of(path, chunk)
    if path == SEED:
        return "".join(event["content"] for event in events)
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))
