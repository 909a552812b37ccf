"""One line a line, for every client."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.process.turns import at_once
from gateway.chats.reply import Completed
from gateway.errors import GatewayError, UnknownModel
from gateway.faces import listed
from gateway.faces.encoder import Encoder
from gateway.faces.face import Face
from gateway.faces.line import dumps, dumps_text
from gateway.faces.ndjson.encoder import Ndjson
from gateway.faces.openai.encoder import OpenAIFormat
from protos import chat_pb2 as pb

ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""All that ``str.splitlines`` splits at."""
ODD = f"a{ENDS}\u2027b\u202a\x84\xc2\xe2\u0080\u2026\u201c"
TEXTS = st.text() | st.text(st.sampled_from(ODD))


@given(TEXTS)
def test_any_text_reads_back_as_it_was_and_holds_no_end_of_a_line(text: str) -> None:
    for encoded in (dumps(text), dumps_text(text), dumps({text: [text]})):
        assert len(encoded.decode().splitlines()) == 1
    assert json.loads(dumps(text)) == json.loads(dumps_text(text)) == text
    assert json.loads(dumps({text: [text]})) == {text: [text]}


def test_nothing_else_is_escaped() -> None:
    assert dumps_text("é漢—“”…") == '"é漢—“”…"'.encode()


def encoders() -> list[Encoder]:
    return [Ndjson("r"), OpenAIFormat("r", lambda: ODD, include_usage=True)]


EVENTS = [
    pb.ReplyEvent(text=ODD),
    pb.ReplyEvent(text=ODD),
    pb.ReplyEvent(reasoning=ODD),
    pb.ReplyEvent(tool_call=pb.ToolCall(id=ODD, name=ODD, arguments=ODD)),
    pb.ReplyEvent(tool_call=pb.ToolCall(arguments=ODD)),
    pb.ReplyEvent(logprobs=json.dumps([{"token": ODD}], indent=1)),
]


@pytest.mark.parametrize("encoder", encoders(), ids=["ndjson", "openai"])
def test_every_line_and_event_is_one_line(encoder: Encoder) -> None:
    ends = Completed(ODD, pb.Usage()), GatewayError("odd", ODD)
    written = [*(encoder.event(event) for event in EVENTS), *(encoder.end(end) for end in ends)]
    if isinstance(encoder, OpenAIFormat):
        events = b"".join(written).decode()
        assert [line[:6] for line in events.splitlines() if line] == ["data: "] * events.count("\n\n")
        payloads: list[Any] = [json.loads(e[6:]) for e in events.split("\n\n") if e and e != "data: [DONE]"]
        assert payloads[0]["model"] == ODD
        assert payloads[0]["choices"][0]["delta"]["content"] == ODD
        return
    for line in filter(None, written):
        assert line.decode().splitlines(keepends=True) == [line.decode()]
    assert json.loads(written[0])["content"] == ODD


@pytest.mark.parametrize("encoder", encoders(), ids=["ndjson", "openai"])
def test_whole_answers_are_one_line_too(encoder: Encoder) -> None:
    whole = at_once(encoder.whole(EVENTS, Completed("stop")))
    assert len(whole.decode().splitlines()) == 1


@pytest.mark.parametrize("face", listed.load(), ids=lambda face: face.name)
def test_refusals_are_one_line_too(face: Face) -> None:
    refused = face.refusal(UnknownModel("x", [ODD]), "r")
    assert len(bytes(refused.body).decode().splitlines()) == 1
