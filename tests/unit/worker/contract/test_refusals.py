"""Providers' errors in the shapes in which they come."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.growth import TIMES, assert_linear
from worker.contract import refusals

QUOTA = {"error": {"code": 429, "message": "q", "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "33.5s"}]}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "why", "type": "t"}}, "why"),
        ({"error": "why"}, "why"),
        ([{"error": {"message": "why"}}], "why"),
        ({"message": "why"}, "why"),
        ({"object": "error", "message": "why", "code": 400}, "why"),
        ({"detail": "why"}, "why"),
        (
            {"detail": [{"loc": ["body", "messages", 0], "msg": "a"}, {"loc": ["x"], "msg": "b"}]},
            "body.messages.0: a; x: b",
        ),
        ({"detail": {"message": "why"}}, "why"),
        ({"errors": ["a", "b"]}, "a; b"),
        ({"errors": [{"message": "a", "code": 7003}]}, "a"),
        ({"title": "Bad", "detail": "why", "status": 400}, "why"),
        ({"error": {"message": json.dumps({"error": {"message": "why"}})}}, "why"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "why"}}}, "Provider returned error: why"),
        ({"error": "Internal Server Error", "message": "why", "status": 500}, "Internal Server Error: why"),
        ({"error": "invalid_client", "error_description": "why"}, "invalid_client: why"),
        ({"error": "why", "message": "why"}, "why"),
        ({"error": {"message": {"text": "why"}}}, "why"),
        ({"error": False, "reason": "why"}, "why"),
        ({"status": "error", "description": "why"}, "why"),
        ({"fault": {"faultstring": "why", "detail": {"errorcode": "x"}}}, "why"),
        ({"oops": {"why": [1, "two"]}}, '{"oops": {"why": [1, "two"]}}'),
        ("first line\nsecond", "first line second"),
        ("<html><title>502 Bad Gateway</title><body>x</body>", "502 Bad Gateway"),
        ("<h1>Sorry</h1><p>this &amp; that</p>", "Sorry this & that"),
        ("", ""),
        (None, ""),
        ([], ""),
        ({"error": {"message": {"deep": [[[]]]}}}, ""),
    ],
)
def test_a_message_is_found_wherever_it_is(body: object, message: str) -> None:
    assert refusals.read(body, 400).message == message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "503"}, 503),
        ({"http_code": 429}, 429),
        ({"status": 422}, 422),
        ({"statusCode": 500}, 500),
        ({"code": "of_a_kind_unknown"}, None),
        ({"code": 1234567}, None),
        ({"code": True}, None),
        ({}, None),
    ],
)
def test_an_error_in_a_stream_has_the_status_that_it_names(error: dict[str, Any], status: int | None) -> None:
    assert refusals.read({"error": {"message": "why", **error}}).status == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "rate_limit_exceeded"}, 429),
        ({"code": "context_length_exceeded"}, 400),
        ({"type": "overloaded_error"}, 503),
        ({"type": "BadRequestError", "code": None}, 400),
        ({"status": "INVALID_ARGUMENT"}, 400),
        ({"code": "insufficient_quota"}, 429),
        ({"code": "insufficient_credits"}, 402),
        ({"code": "rate_limit"}, 429),
    ],
)
def test_words_stand_for_a_status(error: dict[str, Any], status: int) -> None:
    said = refusals.read({"error": {"message": "why", **error}})
    assert said.status is None
    assert refusals.status_of(said.code, said.type) == status


def test_the_status_of_the_response_is_the_errors() -> None:
    assert refusals.read({"error": {"code": 500, "message": "why"}}, 400).status == 400
    assert refusals.read({"error": {"code": 500, "message": "why"}}, 200).status == 500


def test_code_type_and_parameter_are_kept_and_numbers_are_no_code() -> None:
    said = refusals.read(
        {"error": {"message": "why", "code": "c", "type": "t", "param": "p", "innererror": {"a": 1}}}, 400
    )
    assert (said.code, said.type, said.param, said.extra) == ("c", "t", "p", {"innererror": {"a": 1}})
    assert refusals.read({"message": "why", "code": 400}).code == ""
    assert refusals.read(QUOTA).code == "RESOURCE_EXHAUSTED"
    assert refusals.read({"error": {"message": "why", "big": "x" * refusals.EXTRA}}, 400).extra == {}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "1000000000"}, refusals.LONGEST),
        ({"retry-after": "+5"}, 5.0),
        ({"retry-after": " 5 , 7"}, 5.0),
        ({"retry-after": "5; x"}, 5.0),
        ({"retry-after": "7.5s"}, 7.5),
        ({"retry-after": "5 Seconds"}, 5.0),
        ({"retry-after": "9" * 400}, refusals.LONGEST),
        ({"x-ms-retry-after-ms": "4000", "retry-after": "9"}, 4.0),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "1m30s"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert refusals.retry_after(headers) == seconds


def test_a_date_to_wait_for() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3540 < (refusals.retry_after({"retry-after": later}) or 0) <= 3600
    assert refusals.retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0
    assert refusals.retry_after({"retry-after": later[:10]}) is None


def test_googles_details_tell_the_delay_and_the_reason() -> None:
    assert refusals.read([QUOTA]).retry_after == 33.5
    details = [{"reason": "API_KEY_INVALID"}, {"locale": "en"}]
    refused = refusals.read([{"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": details}}], 400)
    assert refused.code == "api_key_invalid"


@pytest.mark.parametrize(
    "data",
    [
        b'{"error": {"message": "why", "code": "c"}}',
        b'\xef\xbb\xbf{"error": {"message": "why", "code": "c"}}',
        '{"error": {"message": "why", "code": "c"}}'.encode("utf-16"),
        b'{"error": {"message": "why", "code": "c", "x": "\xff"}}',
        b'{"error": {"message": "why", "code": "c", "x": NaN}}',
        b'data: {"error": {"message": "why", "code": "c"}}\n\n',
        b'event: error\ndata:{"error": {"message": "why", "code": "c"}}\n\ndata: [DONE]\n\n',
    ],
)
def test_json_is_read_however_it_is_written(data: bytes) -> None:
    said = refusals.read(refusals.content(data), 400)
    assert (said.message, said.code) == ("why", "c")


@pytest.mark.parametrize("data", [b"", b"why", b"data: why", b"[" * 65536, b"data: {" * 9000, b"1" * 5000, b"\xff\xfe"])
def test_what_is_no_json_is_text(data: bytes) -> None:
    assert isinstance(refusals.content(data), str)


@pytest.mark.parametrize("unit", [b"[", b"data: {", b"data:", b"1", b"\xff\xfe", b" "])
def test_no_response_takes_long_to_decode(unit: bytes) -> None:
    def decoded(size: int) -> Callable[[], object]:
        data = (unit * size)[:size]
        return lambda: refusals.content(data)

    assert_linear(decoded, 4096)


def test_the_code_of_a_quoted_error_is_told() -> None:
    quoted = json.dumps({"error": {"message": "why", "code": "context_length_exceeded", "type": "t"}})
    for error in ({"message": "failed", "code": 400, "metadata": {"raw": quoted}}, {"message": quoted}):
        said = refusals.read({"error": error}, 400)
        assert (said.code, said.type) == ("context_length_exceeded", "t")
        assert said.message.endswith("why")
    assert refusals.read({"status": "error", "message": "why"}, 400).code == ""


@pytest.mark.parametrize("unit", ["<", "[", "{", "&", [[]], "<title", "<a"])
def test_no_body_takes_long(unit: str | list[object]) -> None:
    def read(size: int) -> Callable[[], object]:
        body = (unit * size)[:size]
        return lambda: refusals.read(body, 400)

    assert_linear(read, refusals.TEXT // TIMES)
