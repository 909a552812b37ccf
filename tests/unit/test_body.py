"""Bodies that are wrong say where."""

import json

import pytest

from gateway.body import parse
from gateway.errors import GatewayError
from gateway.seed_body import ChatBody, history
from protos import chat_pb2 as pb


def refusal(body: bytes) -> tuple[int, str]:
    with pytest.raises(GatewayError) as refused:
        parse(ChatBody, body)
    return refused.value.status, refused.value.message


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty: it must be a JSON object"),
        (b"{", 400, "the body is not JSON: "),
        (b'{"messages": "\xff"}', 400, "the body is not JSON: "),
        (b'{"messages": [{"source": "user", "content": "\\ud800"}]}', 400, "the body is not JSON: "),
        (b"[" * 100_000, 400, "the body is not JSON: "),
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
def test_what_is_wrong_is_named(body: bytes, status: int, message: str) -> None:
    got_status, got_message = refusal(body)
    assert got_status == status
    assert got_message.startswith(message)


def test_unknown_fields_do_no_harm() -> None:
    body = parse(ChatBody, b'{"messages": [{"source": "user", "content": "a", "type": "TextMessage"}], "x": 1}')
    assert body.stream is True
    assert body.model is None


def test_the_source_decides_the_role() -> None:
    turns = [{"source": source, "content": source} for source in ("system", "user", "assistant", "critic")]
    asked = parse(ChatBody, json.dumps({"messages": turns}).encode())
    made = history(asked, "r", "default")
    assert [message.role for message in made.messages] == [
        pb.ROLE_SYSTEM,
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_ASSISTANT,
    ]
    assert [message.source for message in made.messages] == ["system", "user", "assistant", "critic"]
    assert made.model == "default"
