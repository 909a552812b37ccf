"""A request goes to the service of its endpoint, as it came."""

from typing import Any

import pytest

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.unit.worker.recording import Recording
from worker.contract.errors import Unsupported
from worker.contract.observer import Observer
from worker.contract.sink import Sink
from worker.services.endpoints import Endpoints
from worker.services.passed_on import PassedOn


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        return pb.Done(finish_reason=self.name)


class Client:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def pass_on(self, sink: Sink, endpoint: str, body: Any, name: str, *, streamed: bool) -> pb.Done:
        self.asked = [endpoint, body, name, streamed]
        return pb.Done()


async def test_each_endpoint_has_its_service_and_chat_is_the_default() -> None:
    service = Endpoints({"chat": Named("chat"), "embeddings": Named("embeddings")})
    for endpoint, expected in (("", "chat"), ("chat", "chat"), ("embeddings", "embeddings")):
        done = await service.run(pb.ChatHistory(endpoint=endpoint), Recording())
        assert done.finish_reason == expected
    with pytest.raises(Unsupported, match="model: 'm' has no endpoint 'completions'; it has chat, embeddings"):
        await service.run(pb.ChatHistory(endpoint="completions", model="m"), Recording())


@pytest.mark.parametrize(
    ("body", "streamed"),
    [(b'{"stream": true}', True), (b'{"stream":false}', False), (b'{"stream":null}', False), (b'{"a":"true"}', False)],
)
async def test_a_body_is_passed_on(body: bytes, streamed: bool) -> None:
    client = Client()
    service = PassedOn("m", client, "completions", Turns(), Observer())  # type: ignore[arg-type]
    await service.run(pb.ChatHistory(body=body, model="m"), Recording())
    assert client.asked[0] == "completions"
    assert client.asked[2:] == ["m", streamed]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"\xff":1}', b'"a"'])
async def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    service = PassedOn("m", Client(), "completions", Turns(), Observer())  # type: ignore[arg-type]
    with pytest.raises(Unsupported):
        await service.run(pb.ChatHistory(body=body), Recording())
