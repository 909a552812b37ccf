"""What a client's configuration adds to requests."""

import pytest

from worker.openai.request import Json, completed, with_prefixes, without_names

HI: Json = {"role": "user", "content": "hi"}
SENT: Json = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("body", "config", "made"),
    [
        ({"top_k": 1, "x": None}, {}, {"top_k": 1, "x": None}),
        ({}, {"temperature": 0, "timeout": 3}, {"temperature": 0}),
        ({"temperature": 1}, {"temperature": 0}, {"temperature": 1}),
        ({"temperature": None}, {"temperature": 0}, {"temperature": 0}),
        ({"top_k": 1}, {"extra_body": {"top_k": 5, "min_p": 0.1}, "min_p": 1}, {"top_k": 1, "min_p": 0.1}),
        ({"max_completion_tokens": 7}, {"max_tokens": 5}, {"max_completion_tokens": 7}),
        ({"max_completion_tokens": None}, {"max_tokens": 5}, {"max_completion_tokens": None, "max_tokens": 5}),
        ({"stream_options": {"x": 1}}, {}, {"stream_options": {"x": 1, "include_usage": True}}),
        ({"stream_options": {"include_usage": False}}, {}, {}),
        ({"stream_options": None}, {}, {}),
        (
            {"stream_options": {"include_usage": True}},
            {"stream_options": {"include_usage": False}},
            {"stream_options": {"include_usage": False}},
        ),
    ],
)
def test_the_configuration_completes_a_request_whose_own_values_win(body: Json, config: Json, made: Json) -> None:
    assert completed(body, {"model": "m", **config}) == {"model": "m", **SENT, **made}


def test_names_are_taken_out_of_users_messages() -> None:
    messages = [{**HI, "name": "a"}, {"role": "assistant", "content": "b", "name": "c"}]
    without_names(messages)
    assert messages == [HI, {"role": "assistant", "content": "b", "name": "c"}]


def test_a_name_begins_its_text() -> None:
    parts = [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]
    messages: list[Json] = [HI.copy(), {**HI, "name": "a"}, {**HI, "name": "b", "content": parts}]
    with_prefixes(messages)
    assert [message["content"] for message in messages] == [
        "hi",
        "a said:\nhi",
        [{"type": "text", "text": "b said:\nhi"}, {"type": "text", "text": "there"}],
    ]
