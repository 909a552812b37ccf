"""Bodies that are wrong say where."""

import json

import pytest

from fleet.process.turns import Turns
from gateway.errors import GatewayError
from gateway.faces.bodies import Bodies, Body
from gateway.faces.ndjson.request import read
from protos import chat_pb2 as pb


def body_of(text: bytes) -> Body:
    """A body that was read."""
    body = Body(Bodies(2**30, Turns()))
    body.text += text
    body.outline.feed(text)
    body.outline.end()
    return body


async def refusal(text: bytes) -> tuple[int, str]:
    with pytest.raises(GatewayError) as refused:
        await read(body_of(text), "r", "default")
    return refused.value.status, refused.value.message


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty: it must be a JSON object"),
        (b"{", 400, "the body is not JSON: "),
        (b'{"messages": "\xff"}', 400, "the body is not JSON: "),
        (b'{"messages": [{"source": "user", "content": "\\ud800"}]}', 400, "the body is not JSON: "),
        (b"[" * 100_000, 422, "the body nests lists and objects more than 128 deep"),
        (b"[" + b"1," * 300_000, 422, "the body has more than the 200,000 JSON values"),
        (b'{"messages": [1e5], "a": NaN}', 400, "the body is not JSON: "),
        (b"[]", 422, "the body must be a JSON object"),
        (b"{}", 422, "messages is missing"),
        (b'{"messages": []}', 422, "messages must not be empty"),
        (b'{"messages": {}}', 422, "messages must be a list"),
        (b'{"messages": ["hi"]}', 422, "messages[0] must be an object"),
        (b'{"messages": [{"source": "user"}]}', 422, "messages[0].content is missing"),
        (b'{"messages": [{"content": "a"}]}', 422, "messages[0].source is missing"),
        (b'{"messages": [{"source": "", "content": "a"}]}', 422, "messages[0].source must not be empty"),
        (b'{"messages": [{"source": "user", "content": 5}]}', 422, "messages[0].content must be a string"),
        (b'{"messages": [{"source": "u", "content": ""}], "stream": "yes"}', 422, "stream must be true or false"),
        (b'{"messages": [{"source": "u", "content": ""}], "model": 1}', 422, "model must be a string"),
    ],
)
async def test_what_is_wrong_is_named(body: bytes, status: int, message: str) -> None:
    got_status, got_message = await refusal(body)
    assert got_status == status
    assert got_message.startswith(message)


async def test_unknown_fields_do_no_harm() -> None:
    asked = await read(
        body_of(b'{"messages": [{"source": "user", "content": "a", "type": "TextMessage"}], "x": 1}'), "r", ""
    )
    assert asked.stream is True
    assert asked.history.model == ""


async def test_the_source_decides_the_role() -> None:
    turns = [{"source": source, "content": source} for source in ("system", "user", "assistant", "critic")]
    made = (await read(body_of(json.dumps({"messages": turns}).encode()), "r", "default")).history
    assert [message.role for message in made.messages] == [
        pb.ROLE_SYSTEM,
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_ASSISTANT,
    ]
    assert [message.source for message in made.messages] == ["system", "user", "assistant", "critic"]
    assert made.model == "default"
