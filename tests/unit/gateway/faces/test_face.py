"""What every face has, and what a new one needs."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from gateway.access.access import Access
from gateway.access.keys import Key
from gateway.chats.chat import Record
from gateway.chats.observer import Observer
from gateway.errors import GatewayError, UnknownModel
from gateway.faces import listed
from gateway.faces.bodies import Body
from gateway.faces.encoder import Encoder
from gateway.faces.face import Asked, Face, owner
from gateway.http import app
from gateway.http.wire import EXTENSION
from protos import chat_pb2 as pb
from tests.plain.face import PlainFace
from tests.unit.gateway.chats.test_chats import Stage


class SendWire:
    """A wire over ASGI's ``send``."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._chunks: deque[bytes] = deque()

    @property
    def writable(self) -> bool:
        return not self._chunks

    def write_chunk(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    async def drain(self) -> None:
        while self._chunks:
            await self._send({"type": "http.response.body", "body": self._chunks.popleft(), "more_body": True})

    def unsent(self) -> int:
        return len(self._chunks)


class Noted(Observer):
    """Keeps what it is told of requests."""

    def __init__(self) -> None:
        self.moments: list[tuple[str, ...]] = []

    def opened(self, record: Record) -> None:
        self.moments.append(("opened", record.face, record.traceparent))

    def closed(self, record: Record) -> None:
        self.moments.append(("closed", record.face, record.code))


class Scene:
    """An application with a plain face, whose workers the test plays."""

    def __init__(self, face: Face | None = None) -> None:
        self.stage = Stage()
        self.observer = Noted()
        views = app.Views(unready=lambda: "", fleet=dict, models=lambda: {"m": ""})
        faces: Sequence[Face] = [*listed.load(), face or PlainFace()]
        built = app.build(self.stage.settings, self.stage.chats, Access(None), views, faces, self.observer)

        async def wired(scope: Scope, receive: Receive, send: Send) -> None:
            await built({**scope, "extensions": {EXTENSION: SendWire(send)}}, receive, send)

        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(wired), base_url="http://a")

    async def answer(self, *events: dict[str, Any], **request: Any) -> httpx.Response:
        """Ask ``/plain``; the worker that gets the request replies with ``events``."""
        async with asyncio.timeout(10):
            asking = asyncio.create_task(self.client.post("/plain", json={"prompt": "hi"}, **request))
            [(history, worker)] = await self.stage.asked()
            assert [part.text for message in history.messages for part in message.content] == ["hi"]
            for event in ({"accepted": pb.Accepted()}, *events):
                chunk = pb.ReplyEvent(request_id=history.request_id, attempt=1, **event)
                self.stage.chats.deliver(worker, [chunk])
                await asyncio.sleep(0)
            return await asking


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with scene.client:
        yield scene


async def test_a_reply_in_plain_text(scene: Scene) -> None:
    done = pb.Done(finish_reason="stop")
    answer = await scene.answer({"reasoning": "hm"}, {"text": "é"}, {"reasoning": "hm"}, {"text": "b"}, {"done": done})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == "éb\n"


async def test_an_end_in_an_error_has_the_faces_shape_too(scene: Scene) -> None:
    broken = pb.Error(code="model_stream_broken", message="gone")
    answer = await scene.answer({"text": "a"}, {"error": broken})
    assert (answer.status_code, answer.text) == (200, "a\n[model_stream_broken: gone]\n")


async def test_an_error_before_the_first_event_has_its_status(scene: Scene) -> None:
    answer = await scene.answer({"error": pb.Error(code="model_rejected_request", message="no")})
    assert (answer.status_code, answer.text) == (400, "model_rejected_request: no\n")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/plain", b"{", 400, "invalid_json: the body is not JSON"),
        ("POST", "/plain", b"{}", 422, "invalid_field: prompt is missing"),
        ("POST", "/plain", b" " * (9 << 20), 413, "body_too_large: "),
        ("GET", "/plain", b"", 405, "not_allowed: /plain: GET is not allowed here"),
        ("GET", "/plain/nothing", b"", 404, "not_found: /plain/nothing: Not Found"),
    ],
)
async def test_errors_that_the_face_did_not_raise_have_its_shape(
    scene: Scene, method: str, path: str, body: bytes, status: int, text: str
) -> None:
    answer = await scene.client.request(method, path, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert answer.text.startswith(text)


class BrokenFace(PlainFace):
    """Its encoder cannot be made."""

    async def read(self, body: Body, request_id: str, default_model: str) -> Asked:
        def broken(_: object) -> Encoder:
            raise LookupError("secret")

        return replace(await super().read(body, request_id, default_model), encoder=broken)


async def test_a_request_that_a_defective_face_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = Key(name="alice", sha256="0" * 64, concurrent=1)
    monkeypatch.setattr(Access, "identify", lambda *_: limited)
    scene = Scene(BrokenFace())
    async with scene.client:
        for _ in range(2):
            answer = await scene.client.post("/plain", json={"prompt": "hi"})
            assert (answer.status_code, answer.text.partition(":")[0]) == (500, "internal_error")


async def test_a_face_appears_in_the_document(scene: Scene) -> None:
    paths = (await scene.client.get("/openapi.json")).json()["paths"]
    assert paths["/plain"]["post"]["summary"] == "Answer in plain text"
    assert paths["/plain"]["post"]["responses"]["200"]["content"] == {"text/plain": {}}
    assert {"/chat/completions", "/v1/chat/completions", "/v1/models", "/v1/models/{model_id}"} < paths.keys()


async def test_the_observer_hears_of_each_request_from_its_beginning_to_its_end(scene: Scene) -> None:
    await scene.client.post("/plain", content=b"{}")
    assert scene.observer.moments == [("opened", "plain", ""), ("closed", "plain", "invalid_field")]
    scene.observer.moments.clear()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    await scene.answer({"done": pb.Done()}, headers=trace)
    assert scene.observer.moments == [("opened", "plain", trace["traceparent"]), ("closed", "plain", "ok")]
    await scene.client.get("/v1/models")
    assert len(scene.observer.moments) == 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/chat/completions", "ndjson"),
        ("/healthz", "ndjson"),
        ("/v1", "openai"),
        ("/v1/chat/completions", "openai"),
        ("/v1/models/a/b", "openai"),
        ("/plain", "plain"),
        ("*", "ndjson"),
    ],
)
def test_the_longest_prefix_owns_a_path(path: str, name: str) -> None:
    assert owner([PlainFace(), *listed.load()], path).name == name


@pytest.mark.parametrize("face", [*listed.load(), PlainFace()], ids=lambda face: face.name)
def test_a_face_owns_its_own_routes(face: Face) -> None:
    for route in face.routes():
        assert owner([*listed.load(), PlainFace()], route.path).name == face.name


@pytest.mark.parametrize("error", [UnknownModel("x", ["m"]), GatewayError("internal_error", "broken")])
@pytest.mark.parametrize("face", listed.load(), ids=lambda face: face.name)
def test_every_listed_face_says_what_went_wrong(face: Face, error: GatewayError) -> None:
    answer = face.refusal(error, "r")
    assert answer.status_code == error.status
    assert error.message in bytes(answer.body).decode()
