"""The faces of embeddings and completions."""

import json
from typing import Any

import pytest

from gateway.chats.reply import Completed
from gateway.errors import GatewayError, WorkerLost
from gateway.faces.face import Asked
from gateway.faces.openai.passed_on import Completions, Embeddings, PassedOn
from protos import chat_pb2 as pb
from tests.unit.gateway.faces.test_body import body_of


async def asked(face: PassedOn, text: bytes) -> Asked:
    return await face.read(body_of(text), "r", "default")


def part(text: str) -> pb.ReplyEvent:
    return pb.ReplyEvent(custom=pb.Custom(kind="answer", json=text))


async def test_a_body_goes_on_as_it_came_without_the_models_name() -> None:
    made = await asked(Embeddings(), b'{ "input" : ["a", 1.50], "model":"m", "x":{"model": null} , "\\u00e9":1e400}')
    history = made.history
    assert (history.endpoint, history.model, history.request_id) == ("embeddings", "m", "r")
    assert history.body == '{"input":["a", 1.50],"x":{"model": null},"é":1e400}'.encode()
    assert (made.stream, made.waits) == (True, True)
    assert not history.messages


@pytest.mark.parametrize(("stream", "waits"), [(True, False), (False, True), (None, True)])
async def test_a_completion_may_be_streamed(stream: bool | None, waits: bool) -> None:
    made = await asked(Completions(), json.dumps({"model": "m", "stream": stream}).encode())
    assert made.waits is waits
    assert made.encoder(lambda: "").media_type == ("application/json" if waits else "text/event-stream")
    assert json.loads(made.history.body) == {"stream": stream}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"model": "m", "stream": 1}, "stream"),
        ({"model": "m", "stream": True}, "stream"),
    ],
)
async def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        await asked(Embeddings(), json.dumps(body).encode())
    assert refused.value.param == param


async def test_parts_of_an_answer_are_chunks_and_an_error_cannot_be_told_in_it() -> None:
    encoder = (await asked(Embeddings(), b'{"model":"m"}')).encoder(lambda: "")
    assert encoder.ping() == b""
    assert encoder.event(part('{"é')) == '{"é'.encode()
    assert encoder.event(pb.ReplyEvent(text="a")) == b""
    assert encoder.end(Completed("stop")) == encoder.end(WorkerLost("worker_lost", "gone")) == b""


async def test_events_are_passed_on_and_an_error_is_one_of_its_own() -> None:
    encoder = (await asked(Completions(), b'{"model":"m","stream":true}')).encoder(lambda: "m")
    ping = json.loads(encoder.ping()[6:])
    assert (ping["object"], ping["model"], ping["choices"][0]["text"]) == ("text_completion", "m", "")
    assert encoder.event(part("data: {}\n\ndata: {")) == b"data: {}\n\ndata: {"
    assert encoder.ping() == b""
    error = encoder.end(WorkerLost("worker_lost", "gone"))
    assert error.startswith(b"\n\ndata: {")
    assert json.loads(error[8:])["error"]["code"] == "worker_lost"
    assert encoder.event(part('"\u2028\u2029\x85"')) == rb'"\u2028\u2029\u0085"'
    assert encoder.event(part("}\n\n")) == b"}\n\n"
    assert encoder.ping()
    assert encoder.end(WorkerLost("worker_lost", "gone")).startswith(b"data: ")
    assert encoder.end(Completed("stop")) == b"data: [DONE]\n\n"
