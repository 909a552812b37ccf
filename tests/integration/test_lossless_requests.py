"""What clients send reaches the model's server as it came, through real processes; what a model cannot do is named."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.exchanges import Json, reaches
from tests.harness.fleet import SYSTEM_MESSAGE, Fleet, model_entries
from tests.schedule import Schedule

PATH = "/v1/chat/completions"
MARK = {"cache_control": {"type": "ephemeral"}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
DENIED = {"vision": False, "function_calling": False, "json_output": False, "structured_output": False}
EXTRA: Json = {
    "temperature": 0.3,
    "max_tokens": 50,
    "extra_body": {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}},
    "default_headers": {"x-tenant": "${TENANT}"},
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    entries = model_entries(made.backend.url, "${KEY}")
    served = entries["models"]["test"]
    entries["models"] |= {
        "extra": {**served, "config": {**served["config"], **EXTRA}},
        "nameless": {**served, "config": {**served["config"], "include_name_in_message": False}},
        "denied": {**served, "config": {**served["config"], "model_info": {**DENIED, "family": "unknown"}}},
    }
    models = made.folder / "lossless.yaml"
    models.write_text(yaml.safe_dump(entries, sort_keys=False))
    made.new_worker(WORKER_MODELS=str(models), KEY="sk-1\n", TENANT="t\r\n")
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.url, timeout=30, trust_env=False) as client:
        yield client


def asked(schedule: Schedule, *messages: Json, **fields: Any) -> Json:
    return {**fields, "messages": [*messages, {"role": "user", "content": schedule.message()}]}


def arrived(fleet: Fleet, client: httpx.Client, *messages: Json, **fields: Any) -> tuple[Json, Json]:
    """What a client sent, and the request that the model's server got of it."""
    schedule = Schedule(tag=f"lossless-{secrets.token_hex(8)}")
    sent = asked(schedule, *messages, **fields)
    answer = client.post(PATH, json=sent)
    assert answer.status_code == 200, answer.text
    assert schedule.tag is not None
    return sent, fleet.backend.request(schedule.tag)


CALL = {"id": "c1", "type": "function", "function": {"name": "get.it", "arguments": "{}"}}
CONVERSATION: list[Json] = [
    {"role": "developer", "content": [{"type": "text", "text": "long", **MARK}]},
    {"role": "user", "content": "hi", "name": "tory", **MARK},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "4"},
            {"type": "text", "text": "2"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "original"}, **MARK},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I think",
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        "tool_calls": [
            {**CALL, "extra_content": {"google": {"thought_signature": "s"}}},
            {"id": "c2", "type": "custom", "custom": {"name": "c", "input": "i"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]},
    {"role": "tool", "tool_call_id": "c2", "content": "42", "is_error": False, **MARK},
    {"role": "system", "content": "be brief", "name": "s"},
    {"role": "assistant", "refusal": "no", "name": "a"},
    {"role": "function", "name": "g", "content": None},
]
OPTIONS: Json = {
    "model": "test",
    "tools": [
        {"type": "function", "function": {"name": "get.it"}, **MARK},
        {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
        {"google_search": {}},
    ],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    "response_format": {"type": "json_object", "schema": {"type": "object"}},
    "stream_options": {"include_obfuscation": False},
    "temperature": 2.5,
    "max_tokens": -1,
    "seed": None,
    "n": 1,
    "user": "u" * 2000,
    "modalities": ["text"],
    "top_k": 5,
    "thinking": {"type": "disabled"},
    "service_tier": "flex",
    "functions": [],
    "function_call": "none",
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
}


@pytest.mark.parametrize("stream", [False, True])
def test_everything_arrives_and_nothing_is_added(fleet: Fleet, client: httpx.Client, stream: bool) -> None:
    sent, got = arrived(fleet, client, *CONVERSATION, **OPTIONS, stream=stream)
    own = {"role": "system", "content": SYSTEM_MESSAGE}
    expected = reaches(sent, "test")
    assert got["body"] == {**expected, "messages": [own, *expected["messages"]]}


def test_a_bare_request_stays_bare(fleet: Fleet, client: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    _, got = arrived(fleet, client, tools=tools)
    assert got["body"].keys() == {"model", "messages", "stream", "stream_options", "tools"}
    assert got["body"]["tools"] == tools
    assert got["body"]["messages"][1].keys() == {"role", "content"}


def test_the_seeds_messages_have_no_names(fleet: Fleet, client: httpx.Client) -> None:
    schedule = Schedule(tag=f"lossless-{secrets.token_hex(8)}")
    turns = [("user", "hi"), ("writer", "hello"), ("system", "be kind"), ("user", schedule.message())]
    messages = [{"source": source, "content": text, "type": "TextMessage"} for source, text in turns]
    assert client.post("/chat/completions", json={"messages": messages}).status_code == 200
    assert schedule.tag is not None
    got = fleet.backend.request(schedule.tag)["body"]
    roles = ("user", "assistant", "system", "user")
    assert got["messages"][1:] == [
        {"role": role, "content": text} for role, (_, text) in zip(roles, turns, strict=True)
    ]
    assert got.keys() == {"model", "messages", "stream", "stream_options"}


def test_an_entrys_config_completes_requests_and_their_own_values_win(fleet: Fleet, client: httpx.Client) -> None:
    _, got = arrived(fleet, client, model="extra")
    body = got["body"]
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.3, 50, 5)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (got["headers"]["x-tenant"], got["authorization"]) == ("t", "Bearer sk-1")
    body = arrived(fleet, client, model="extra", temperature=1, top_k=None, max_completion_tokens=7)[1]["body"]
    assert (body["temperature"], body["top_k"], body["max_completion_tokens"]) == (1, 5, 7)
    assert "max_tokens" not in body


def test_names_are_left_out_where_the_entry_says_so(fleet: Fleet, client: httpx.Client) -> None:
    _, got = arrived(fleet, client, {"role": "user", "content": "hi", "name": "tory"}, model="nameless")
    assert got["body"]["messages"][1] == {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "url",
    [
        f"data:IMAGE/PNG;base64,{PNG}",
        f"data:image/png; base64,{PNG}",
        f"data:image/png;charset=utf-8;base64,{PNG}",
        f"DATA:application/pdf;base64,{PNG}",
        "HTTPS://e.example/a.png",
        " https://e.example/a.png\n",
        "gs://bucket/a.png",
    ],
)
def test_an_image_may_be_anywhere(fleet: Fleet, client: httpx.Client, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    _, got = arrived(fleet, client, {"role": "user", "content": [part, {"type": "image_url", "image_url": url}]})
    assert got["body"]["messages"][1]["content"] == [part, {"type": "image_url", "image_url": url}]


IMAGE = {"type": "image_url", "image_url": {"url": "https://e.example/a.png"}}


@pytest.mark.parametrize(
    ("capability", "fields"),
    [
        ("vision", {"messages": [{"role": "user", "content": [IMAGE]}]}),
        ("function_calling", {"tools": [{"type": "web_search"}]}),
        ("function_calling", {"functions": [{"name": "f"}]}),
        ("json_output", {"response_format": {"type": "json_object"}}),
        ("structured_output", {"response_format": {"type": "json_schema", "json_schema": {}}}),
    ],
)
def test_what_the_entry_denies_is_refused_in_our_words(client: httpx.Client, capability: str, fields: Json) -> None:
    answer = client.post(PATH, json={**asked(Schedule()), "model": "denied", **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_request")
    assert error["message"].endswith(f"{capability} is false in its entry of models.yaml")


def test_more_than_one_choice_is_refused_by_name(client: httpx.Client) -> None:
    answer = client.post(PATH, json={**asked(Schedule()), "n": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


def test_numbers_keep_their_digits(fleet: Fleet, client: httpx.Client) -> None:
    schedule = Schedule(tag=f"lossless-{secrets.token_hex(8)}")
    text = json.dumps(asked(schedule, x=0)).replace('"x": 0', '"x": 123456789012345678901234567890')
    assert client.post(PATH, content=text).status_code == 200
    assert schedule.tag is not None
    assert fleet.backend.request(schedule.tag)["body"]["x"] == 123456789012345678901234567890
