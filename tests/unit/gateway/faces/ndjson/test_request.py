"""The seed's requests."""

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.faces.face import Asked
from gateway.faces.ndjson.request import read
from protos import chat_pb2 as pb
from tests.unit.gateway.faces.test_body import body_of

TURN = {"source": "user", "content": "hi"}


async def asked(**fields: Any) -> Asked:
    return await read(body_of(json.dumps({"messages": [TURN], **fields}).encode()), "r", "default")


async def test_a_turns_source_gives_its_role() -> None:
    turns = [{"source": source, "content": source} for source in ("system", "user", "writer")]
    history = (await asked(messages=turns)).history
    assert [message.role for message in history.messages] == [pb.ROLE_SYSTEM, pb.ROLE_USER, pb.ROLE_ASSISTANT]
    assert [message.source for message in history.messages] == ["system", "user", "writer"]
    assert [message.content[0].text for message in history.messages] == ["system", "user", "writer"]


async def test_what_is_not_said() -> None:
    plain = await asked()
    assert (plain.history.request_id, plain.history.model, plain.stream) == ("r", "default", True)
    chosen = await asked(model="m", stream=False, anything=1)
    assert (chosen.history.model, chosen.stream) == ("m", False)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"source": "", "content": "a"}]}, "messages[0].source"),
        ({"messages": [TURN, {"source": "user"}]}, "messages[1].content"),
        ({"stream": "yes"}, "stream"),
        ({"model": 1}, "model"),
    ],
)
async def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        await asked(**fields)
    assert (refused.value.status, refused.value.param) == (422, param)
    assert refused.value.message.startswith(param)
