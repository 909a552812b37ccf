"""Requests that cannot be answered get a 4xx that names the field, and do no harm."""

import json
from typing import Any

import pytest

from tests.harness.chat import JSON, PATH, Reply, ask, ask_over, assert_complete, body_of, send
from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.schedule import Schedule

MEGABYTE = 1024 * 1024
CHUNKED = {"transfer-encoding": "chunked"}
HELLO = {"source": "user", "content": "Hello"}


def with_messages(messages: Any) -> bytes:
    return json.dumps({"messages": messages}).encode()


def with_field(**fields: Any) -> bytes:
    return json.dumps({"messages": [HELLO]} | fields).encode()


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"Hello",
    "half a JSON": b'{"messages": [',
    "an array": b"[1, 2]",
    "a string": b'"Hello"',
    "null": b"null",
    "invalid UTF-8": b'{"messages": [{"source": "user", "content": "\xff\xfe"}]}',
    "deep arrays": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"messages":' * 100_000 + b"1" + b"}" * 100_000,
}

WRONG_FIELDS = {
    "messages missing": (b'{"stream": true}', "messages"),
    "messages empty": (with_messages([]), "messages"),
    "messages null": (with_messages(None), "messages"),
    "messages a string": (with_messages("Hello"), "messages"),
    "messages an object": (with_messages(HELLO), "messages"),
    "a message that is a string": (with_messages(["Hello"]), "messages"),
    "deep messages": (b'{"messages": ' + b"[" * 100 + b"]" * 100 + b"}", "messages"),
    "source missing": (with_messages([{"content": "Hello"}]), "source"),
    "source empty": (with_messages([{"source": "", "content": "Hello"}]), "source"),
    "source a number": (with_messages([{"source": 5, "content": "Hello"}]), "source"),
    "source null": (with_messages([{"source": None, "content": "Hello"}]), "source"),
    "content missing": (with_messages([{"source": "user"}]), "content"),
    "content a number": (with_messages([{"source": "user", "content": 5}]), "content"),
    "content null": (with_messages([{"source": "user", "content": None}]), "content"),
    "content of the second message": (with_messages([HELLO, {"source": "user", "content": {}}]), "content"),
    "stream a word": (with_field(stream="perhaps"), "stream"),
    "stream a list": (with_field(stream=[]), "stream"),
    "model a number": (with_field(model=5), "model"),
    "a lone surrogate": (b'{"messages": [{"source": "user", "content": "\\ud800"}]}', ""),
}


def assert_refused(reply: Reply, *statuses: int) -> str:
    """The reply is an HTTP error of one of these statuses, in the documented shape; its message."""
    assert reply.status in statuses, reply.lines
    assert reply.headers["content-type"].startswith("application/json")
    message: str = reply.error["message"]
    assert message
    assert "\n" not in message
    return message


async def assert_next_works(fleet: Fleet, connection: Connection, reply: Reply) -> None:
    """The next request succeeds, over the same connection if the server has kept it."""
    schedule = Schedule()
    if reply.headers.get("connection") != "close":
        assert_complete(await ask_over(connection, body_of(schedule)), schedule)
    assert_complete(await ask(fleet.address, schedule), schedule)


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_body_that_is_no_json_object_is_refused(fleet: Fleet, body: bytes) -> None:
    async with Connection(fleet.address) as connection:
        reply = await ask_over(connection, body)
        assert_refused(reply, 400, 422)
        await assert_next_works(fleet, connection, reply)


@pytest.mark.parametrize(("body", "field"), WRONG_FIELDS.values(), ids=WRONG_FIELDS.keys())
async def test_a_wrong_field_is_named(fleet: Fleet, body: bytes, field: str) -> None:
    async with Connection(fleet.address) as connection:
        reply = await ask_over(connection, body)
        assert field in assert_refused(reply, 400, 422)
        await assert_next_works(fleet, connection, reply)


async def test_the_wrong_one_of_many_messages_is_named(fleet: Fleet) -> None:
    reply = await send(fleet.address, with_messages([HELLO] * 7 + [{"source": "user", "content": 1}] + [HELLO] * 3))
    assert "7" in assert_refused(reply, 400, 422)


async def test_an_unknown_model_is_not_found(fleet: Fleet) -> None:
    async with Connection(fleet.address) as connection:
        reply = await ask_over(connection, with_field(model="no-such-model"))
        assert "model" in assert_refused(reply, 404)
        assert reply.error["retryable"] is False
        await assert_next_works(fleet, connection, reply)


async def test_a_body_of_20_mb_is_too_large(fleet: Fleet) -> None:
    async with Connection(fleet.address) as connection:
        reply = await ask_over(connection, with_messages([HELLO | {"content": "x" * 20 * MEGABYTE}]))
        assert_refused(reply, 413)
    assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)


async def test_a_body_of_20_mb_in_chunks_is_too_large(fleet: Fleet) -> None:
    content = with_messages([HELLO | {"content": "x" * 20 * MEGABYTE}])
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    async with Connection(fleet.address) as connection:
        reply = await ask_over(connection, framed, JSON | CHUNKED)
        assert_refused(reply, 413)
    assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)


async def test_a_megabyte_is_not_too_large(fleet: Fleet) -> None:
    schedule = Schedule()
    turns = [HELLO | {"content": "x" * MEGABYTE}, {"source": "user", "content": schedule.message()}]
    assert_complete(await ask(fleet.address, turns), schedule)


async def test_a_nul_is_text_like_any_other(fleet: Fleet) -> None:
    schedule = Schedule()
    turns = [HELLO | {"content": "\u0000"}, {"source": "user", "content": schedule.message()}]
    assert_complete(await ask(fleet.address, turns), schedule)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", PATH, 405), ("POST", "/nothing", 404)])
async def test_a_wrong_address_is_refused_in_the_same_shape(fleet: Fleet, method: str, path: str, status: int) -> None:
    async with Connection(fleet.address) as connection:
        response = await connection.request(method, path)
        assert_refused(Reply(response.status, response.headers, [await response.json()]), status)


async def test_a_client_that_leaves_half_way_through_its_request_does_no_harm(fleet: Fleet) -> None:
    async with Connection(fleet.address) as connection:
        connection.send("POST", PATH, b'{"messages": [', JSON | {"content-length": "1000"})
        assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)
    assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)
