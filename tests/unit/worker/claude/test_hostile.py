"""Events of no kind that Claude's API sends: none may stop the reader."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.recording import Recording
from worker.claude.events import MessageDecoder
from worker.openai.completion import Completion

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def said(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


KINDS = ["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "web_search_tool_result", "new"]
DELTAS = ["text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta", "new_delta"]
NAMES = [
    "id",
    "name",
    "text",
    "thinking",
    "signature",
    "partial_json",
    "citation",
    "citations",
    "input",
    "data",
    "usage",
]
ODDITIES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
INDEXES = st.sampled_from([0, 1, 2, -1, 2**70, "0", None, True])
HOSTILE = st.one_of(
    st.builds(
        lambda index, kind, more: {
            "type": "content_block_start",
            "index": index,
            "content_block": {**more, "type": kind},
        },
        INDEXES,
        st.sampled_from(KINDS) | JSON,
        ODDITIES,
    ),
    st.builds(
        lambda index, kind, more: said("content_block_delta", index=index, delta={**more, "type": kind}),
        INDEXES,
        st.sampled_from(DELTAS) | JSON,
        ODDITIES,
    ),
    st.builds(lambda index: {"type": "content_block_stop", "index": index}, INDEXES),
    st.builds(
        lambda reason, usage: {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}, JSON, JSON
    ),
    st.builds(lambda content: {"type": "message", "content": content, "stop_reason": "end_turn"}, JSON),
    st.builds(lambda kind, more: {"type": kind, **more}, JSON, st.dictionaries(st.text(max_size=5), JSON, max_size=2)),
    st.builds(lambda usage: {"type": "message_start", "message": {"usage": usage}}, JSON),
    JSON,
)


@settings(max_examples=600)
@given(st.lists(HOSTILE, max_size=8))
def test_whatever_a_server_sends_a_reply_ends_in_one_way(events: list[Any]) -> None:
    async def read() -> Recording:
        recording = Recording()
        completion = Completion(recording, None, MessageDecoder())
        for one in events:
            completion.data_received(b"data: " + json.dumps(one).encode() + b"\n\n")
        completion.eof_received()
        await recording.of(completion.end())
        return recording

    recording = asyncio.run(read())
    assert recording.end is not None
