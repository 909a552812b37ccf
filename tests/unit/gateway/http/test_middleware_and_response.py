"""Chats over a real HTTP server, with their worker played by the test: what is written past ASGI is the same answer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet.settings import HostPort
from gateway.access.access import Access
from gateway.chats.reply import LIMIT
from gateway.http import app, server
from protos import chat_pb2 as pb
from tests.harness.http import Address, Connection
from tests.harness.waiting import until
from tests.unit.gateway.chats.test_chats import Stage

SEED = "/chat/completions"
OPENAI = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    SEED: {"messages": [{"source": "user", "content": "hi"}], "stream": True},
    OPENAI: {"messages": [{"role": "user", "content": "hi"}], "stream": True, "model": "m"},
}
PIECE = 1000


class Edge:
    """A gateway without a bus: ``worker`` says what comes from there."""

    def __init__(self, stage: Stage, address: Address) -> None:
        self.stage = stage
        self.address = address

    async def asked(self, times: int = 1) -> "Worker":
        """Wait for that many chats; the last one's worker, which has taken it on."""
        history, worker_id = (await self.stage.asked(times))[-1]
        return Worker(self.stage, worker_id, history.request_id)


class Worker:
    """Where one chat runs."""

    def __init__(self, stage: Stage, worker_id: str, request_id: str) -> None:
        self._stage = stage
        self._worker_id = worker_id
        self.request_id = request_id
        self.pushed = 0
        self.chunk(accepted=pb.Accepted())

    def chunk(self, **event: Any) -> None:
        chunk = pb.ReplyEvent(request_id=self.request_id, attempt=1, **event)
        self._stage.chats.deliver(self._worker_id, [chunk])

    def text(self, text: str) -> None:
        self.pushed += len(text.encode())
        self.chunk(text=text, tokens=1)

    def done(self) -> None:
        self.chunk(done=pb.Done(finish_reason="stop"))

    @property
    def unread(self) -> int:
        return self._stage.chats._chats[self.request_id].reply.unread

    @property
    def consumed(self) -> int:
        return self._stage.chats._inbox._lanes[self._worker_id]._replies[self.request_id, 1].total

    @property
    def runs(self) -> bool:
        return self.request_id in self._stage.chats._chats


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Edge]:
    stage = Stage(**settings)
    sock = server.listen(HostPort("127.0.0.1", 0))
    views = app.Views(unready=lambda: "", fleet=dict, models=lambda: ["m"])
    http = server.make_server(app.build(stage.settings, stage.chats, Access(None), views), stage.settings)
    task = asyncio.create_task(http.serve(sockets=[sock]))
    try:
        yield Edge(stage, sock.getsockname())
    finally:
        http.should_exit = http.force_exit = True
        await task
        sock.close()


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with serving() as made:
        yield made


def asking(path: str, version: str = "1.1", **fields: Any) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(BODIES[path] | fields).encode()
    return f"POST {path} HTTP/{version}\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def content_of(path: str, chunk: bytes) -> str:
    """The text of one HTTP chunk, which is whole lines or events."""
    if path == SEED:
        assert chunk.endswith(b"\n")
        return "".join(json.loads(line)["content"] for line in chunk.splitlines())
    assert chunk.endswith(b"\n\n")
    events = [
        json.loads(event.removeprefix(b"data: ")) for event in chunk.split(b"\n\n") if event[6:] not in (b"", b"[DONE]")
    ]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_every_text_is_a_chunk_as_soon_as_it_comes(edge: Edge, path: str) -> None:
    async with asyncio.timeout(10), Connection(edge.address) as connection:
        connection.send("POST", path, json.dumps(BODIES[path]).encode())
        worker = await edge.asked()
        got = ""
        chunks = None
        for number in range(20):
            worker.text(f"é{number} ")
            if chunks is None:
                chunks = (await connection.answer()).chunks()
            got += content_of(path, await anext(chunks))
            assert worker.consumed == worker.pushed
            assert worker.unread == 0
        worker.done()
        assert chunks is not None
        rest = [chunk async for chunk in chunks]
    assert got == "".join(f"é{number} " for number in range(20))
    assert len(rest) == 1
    assert content_of(path, rest[0]) == ""


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_a_client_that_stops_reading_for_a_moment_gets_every_byte_in_order(edge: Edge, path: str) -> None:
    async with asyncio.timeout(20), Connection(edge.address, limit=1024, receive_buffer=4096) as connection:
        connection.send("POST", path, json.dumps(BODIES[path]).encode())
        worker = await edge.asked()
        sent: list[str] = []
        got: list[str] = []

        def speak() -> None:
            sent.append(f"{len(sent):0{PIECE}}")
            worker.text(sent[-1])

        async def fill() -> None:
            while worker.unread < LIMIT // 4:
                speak()
                if len(sent) % 10 == 0:
                    await asyncio.sleep(0)

        speak()
        chunks = (await connection.answer()).chunks()
        for _ in range(3):
            await fill()
            assert worker.consumed == worker.pushed - worker.unread
            while len("".join(got)) < PIECE * (len(sent) - 20):
                got.append(content_of(path, await anext(chunks)))
            await until(lambda: worker.unread == 0)
            for _ in range(5):
                speak()
        worker.done()
        got.extend([content_of(path, chunk) async for chunk in chunks])
    assert "".join(got) == "".join(sent)


async def test_an_old_client_gets_the_same_chunks(edge: Edge) -> None:
    """Uvicorn sends them in chunks to any version of HTTP."""
    reader, writer = await asyncio.open_connection(*edge.address)
    async with asyncio.timeout(10):
        writer.write(asking(SEED, version="1.0"))
        worker = await edge.asked()
        worker.text("a")
        head = await reader.readuntil(b"\r\n\r\n")
        worker.text("b")
        await until(lambda: worker.unread == 0)
        worker.text("c")
        worker.done()
        body = await reader.read()
    writer.close()
    assert b"transfer-encoding: chunked\r\n" in head
    assert b"connection: close\r\n" in head
    assert body.endswith(b"\r\n0\r\n\r\n")
    lines = [line for line in body.split(b"\r\n") if line.startswith(b"{")]
    assert "".join(json.loads(line)["content"] for line in lines) == "abc"


async def test_a_request_in_a_row_with_another_is_not_served(edge: Edge) -> None:
    """The second is sent before the first is answered: that answer is whole, says that it is the last, and is."""
    async with asyncio.timeout(10), Connection(edge.address) as connection:
        connection._writer.write(asking(SEED) + asking(OPENAI))
        worker = await edge.asked()
        worker.text("a")
        response = await connection.answer()
        for text in "bcd":
            worker.text(text)
            await asyncio.sleep(0)
        worker.done()
        got = [content_of(SEED, chunk) async for chunk in response.chunks()]
        assert "".join(got) == "abcd"
        assert response.headers["connection"] == "close"
        assert await connection.at_end()
    assert len(edge.stage.histories()) == 1


async def test_a_request_after_each_answer_is_served(edge: Edge) -> None:
    async with asyncio.timeout(10), Connection(edge.address) as connection:
        for count, path in enumerate((SEED, OPENAI, SEED), 1):
            connection._writer.write(asking(path))
            worker = await edge.asked(count)
            for text in "abcd":
                worker.text(text)
            worker.done()
            got = [content_of(path, chunk) async for chunk in (await connection.answer()).chunks()]
            assert "".join(got) == "abcd"


async def test_one_chat_that_goes_wrong_takes_no_other_with_it(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(10), Connection(edge.address) as good, Connection(edge.address) as bad:
        good.send("POST", SEED, json.dumps(BODIES[SEED]).encode())
        first = await edge.asked(1)
        bad.send("POST", OPENAI, json.dumps(BODIES[OPENAI]).encode())
        second = await edge.asked(2)
        for worker in (first, second):
            worker.text("a")
        response = await good.answer()
        assert (await bad.answer()).status == 200

        def broken(_: object, __: str) -> bytes:
            raise LookupError

        monkeypatch.setattr("gateway.faces.openai.encoder.OpenAIFormat.text", broken)
        second.text("b")
        first.text("b")
        await until(lambda: not second.runs)
        first.text("c")
        first.done()
        got = [content_of(SEED, chunk) async for chunk in response.chunks()]
        assert "".join(got) == "abc"
        assert not (await bad._reader.read()).endswith(b"0\r\n\r\n")
    assert [reason for _, _, reason in edge.stage.cancels()] == ["client_gone"]


@pytest.mark.parametrize("behind", [b"", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", b"\x00"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_in_the_middle_ends_its_chat(edge: Edge, reset: bool, behind: bytes) -> None:
    """Also if it has sent more than its request."""
    async with asyncio.timeout(10):
        async with Connection(edge.address) as connection:
            connection.send("POST", SEED, json.dumps(BODIES[SEED]).encode())
            worker = await edge.asked()
            worker.text("a")
            await connection.answer()
            worker.text("b")
            connection._writer.write(behind)
            if reset:
                connection.reset()
        while worker.runs:
            worker.text("c")
            await asyncio.sleep(0.001)
    assert edge.stage.cancels()[0][2] == "client_gone"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_a_silent_chat_ends_it(edge: Edge, stream: bool, reset: bool) -> None:
    async with asyncio.timeout(10):
        async with Connection(edge.address) as connection:
            connection._writer.write(asking(SEED, stream=stream) + asking(SEED))
            worker = await edge.asked()
            if reset:
                connection.reset()
        await until(lambda: not worker.runs)
    assert [reason for _, _, reason in edge.stage.cancels()] == ["client_gone"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_other_methods_are_not_allowed_there(edge: Edge, method: str, path: str) -> None:
    async with asyncio.timeout(10), Connection(edge.address) as connection:
        response = await connection.request(method, path)
        assert response.status == 405
        assert response.headers["allow"] == "POST"
        if method != "HEAD":
            assert (await response.json())["error"]["code"] == "not_allowed"
        assert (await connection.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("path", [SEED, OPENAI])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"messages": 1}'])
async def test_errors_have_the_shape_of_their_api(edge: Edge, path: str, body: bytes) -> None:
    async with asyncio.timeout(10), Connection(edge.address) as connection:
        response = await connection.request("POST", path, body)
        assert response.status in (400, 422)
        error = (await response.json())["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert ("type" in error) == (path == OPENAI)
    assert {"code", "message", "retryable"} <= error.keys()


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_a_defect_is_answered_in_the_shape_of_its_api_too(
    edge: Edge, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise LookupError

    monkeypatch.setattr(edge.stage.chats, "open", broken)
    async with asyncio.timeout(10), Connection(edge.address) as connection:
        response = await connection.request("POST", path, json.dumps(BODIES[path]).encode())
        assert response.status == 500
        error = (await response.json())["error"]
    assert error["code"] == "internal_error"
    assert ("type" in error) == (path == OPENAI)


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_a_page_of_an_allowed_origin_may_read_the_stream(path: str) -> None:
    async with (
        asyncio.timeout(10),
        serving(cors_origins=["https://a.example"]) as edge,
        Connection(edge.address) as connection,
    ):
        origin = {"origin": "https://a.example"}
        connection.send("POST", path, json.dumps(BODIES[path]).encode(), origin)
        worker = await edge.asked()
        worker.text("a")
        response = await connection.answer()
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        for text in "bc":
            worker.text(text)
        worker.done()
        assert "".join([content_of(path, chunk) async for chunk in response.chunks()]) == "abc"
        preflight = {**origin, "access-control-request-method": "POST"}
        allowed = await connection.request("OPTIONS", path, headers=preflight)
        assert (allowed.status, await allowed.body()) == (200, b"OK")
        refused = await connection.request("POST", path, b"{", origin)
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, "https://a.example")
