"""A request goes through the gateway's reader, over the wire and out of the worker as the client wrote it."""

import json

import orjson
import pytest
from hypothesis import given, settings

from fleet.process.turns import Turns
from gateway.faces.openai.request import read
from protos import chat_pb2 as pb
from tests.conftest import LONG
from tests.exchanges import REQUESTS, Json, reaches
from tests.unit.gateway.faces.test_body import body_of
from worker.contract.body import body
from worker.openai.request import completed


async def sent(request: Json, *, as_text: bool) -> Json:
    """What the worker posts."""
    asked = await read(body_of(json.dumps(request).encode()), "r", "")
    history = pb.ChatHistory.FromString(asked.history.SerializeToString())
    async with Turns().turn() as turn:
        made = completed(await body(history, "", turn, as_text=as_text), {"model": "served"})
    found: Json = json.loads(orjson.dumps(made))
    return found


@pytest.mark.parametrize("as_text", [True, False])
@given(request_=REQUESTS)
@settings(max_examples=1000 if LONG else 150)
async def test_a_request_reaches_the_model_as_it_came(as_text: bool, request_: Json) -> None:
    assert await sent(request_, as_text=as_text) == reaches(request_, "served")


async def test_what_a_json_library_would_change_is_sent_as_it_was_written() -> None:
    text = (
        b'{"messages":[{"role":"user","content":"hi"}],"x":[1.0,1e2,123456789012345678901234567890,"\\u00e9"],"seed":1}'
    )
    asked = await read(body_of(text), "r", "")
    async with Turns().turn() as turn:
        made = await body(asked.history, "", turn, as_text=True)
    assert text.partition(b'"x":')[2].partition(b',"seed"')[0] in orjson.dumps(made)
