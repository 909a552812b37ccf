"""What AutoGen's types cannot hold goes back to the model that said it."""

from typing import Any

import orjson
from autogen_core import FunctionCall

from protos import chat_pb2 as pb
from worker.agents.recall import Beside, Recall

CALL = FunctionCall(id="c1", name="f", arguments="{}")


def beside(*deltas: dict[str, Any]) -> Beside:
    made = Beside()
    for delta in deltas:
        made.add(pb.Fields(json=orjson.dumps({"delta": delta}).decode()))
    return made


def body(*ids: str) -> list[dict[str, Any]]:
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
    return [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": calls}]


def test_fields_return_to_their_message_and_call() -> None:
    recall, client = Recall(), object()
    signature = {"google": {"thought_signature": "s"}}
    said = beside({"tool_calls": [{"index": 0, "extra_content": signature}]}, {"thinking_blocks": [{"type": "t"}]})
    recall.keep(client, {0: CALL}, said)
    messages = body("c1")
    recall.put_back(client, messages)
    assert messages[1]["tool_calls"][0]["extra_content"] == signature
    assert messages[1]["thinking_blocks"] == [{"type": "t"}]
    messages[1]["thinking_blocks"].clear()  # a client may change its body
    messages = body("c1")
    recall.put_back(client, messages)
    assert messages[1]["thinking_blocks"] == [{"type": "t"}]


def test_another_model_gets_nothing_of_it() -> None:
    recall = Recall()
    recall.keep(object(), {0: CALL}, beside({"thinking_blocks": [1]}))
    messages = body("c1")
    recall.put_back(recall, messages)
    assert messages == body("c1")


def test_what_a_client_sends_back_goes_to_the_model() -> None:
    turn = pb.ChatMessage(role=pb.ROLE_ASSISTANT, extra='{"thinking_blocks":[1]}')
    turn.tool_calls.add(id="c1", name="f", arguments="{}", extra='{"extra_content":2,"function":{"x":3}}')
    recall = Recall()
    recall.read([turn])
    messages = body("c1")
    recall.put_back(object(), messages)
    assert messages[1]["thinking_blocks"] == [1]
    assert messages[1]["tool_calls"][0]["extra_content"] == 2
    assert messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}", "x": 3}


def test_pieces_of_fields_are_put_together() -> None:
    made = Beside()
    text = orjson.dumps({"delta": {"a": "b"}}).decode()
    made.add(pb.Fields(json=text[:5], cut=True))
    made.add(pb.Fields(json=text[5:]))
    assert made.message == {"a": "b"}


def test_deltas_of_one_item_are_merged() -> None:
    def part(text: str, index: int = 0) -> dict[str, Any]:
        return {"reasoning_details": [{"type": "reasoning.text", "index": index, "text": text}]}

    assert beside(part("a"), part("b"), part("c", 1)).message["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "ab"},
        {"type": "reasoning.text", "index": 1, "text": "c"},
    ]
