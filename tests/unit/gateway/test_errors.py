"""What errors tell clients, and that they stay what they were made."""

import inspect
from typing import Any

import pytest

from gateway import errors
from gateway.errors import (
    EXTRA,
    Busy,
    GatewayError,
    MalformedBody,
    ModelFailed,
    OutOfTime,
    OverLimit,
    Unauthorized,
    Unavailable,
    WorkerLost,
)
from protos import chat_pb2 as pb


def test_the_tree_at_the_top_names_every_error() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]
    assert len(kinds) > 12
    for kind in kinds:
        line = next(line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line.split())
        if kind not in (GatewayError, ModelFailed):
            assert str(kind.status) in line, kind.__name__


def test_a_body_has_what_every_client_sees() -> None:
    assert WorkerLost("worker_lost", "gone").body("r") == {
        "code": "worker_lost",
        "message": "gone",
        "retryable": True,
        "request_id": "r",
    }


def test_tokens_that_were_received_are_the_usage_unless_the_model_has_counted() -> None:
    error = OutOfTime("deadline", "late", retryable=True)
    counted = error.after(2, 3, repeated=True)
    assert isinstance(counted, OutOfTime)
    assert (counted.args, counted.status, counted.retryable) == (("late",), 504, True)
    assert counted.body("r")["usage"] == {"completion_tokens": 3}
    assert counted.headers() == {"x-attempts": "2", "x-should-retry": "false"}
    assert (error.usage, error.attempts) == (None, 0)
    assert error.after(1, 0).usage is None
    assert counted.after(2, 9).usage == counted.usage


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (WorkerLost("worker_lost", "gone"), {}),
        (Busy("queue_full", "full"), {"retry-after": "1"}),
        (Busy("queue_full", "full", retry_after=1.2), {"retry-after": "2"}),
        (Unavailable("no_worker", "none"), {"retry-after": "1"}),
        (Unauthorized(), {"www-authenticate": "Bearer"}),
        (OverLimit("1 a minute", 59.5, {"x-ratelimit-limit-requests": "1"}), {"x-ratelimit-limit-requests": "1"}),
        (GatewayError("not_allowed", "no", status=405, headers={"allow": "GET"}), {"allow": "GET"}),
    ],
)
def test_headers(error: GatewayError, headers: dict[str, str]) -> None:
    waits = {"retry-after": "60"} if isinstance(error, OverLimit) else {}
    assert error.headers() == {"x-attempts": "0"} | headers | waits


def test_the_status_of_one_error_is_not_that_of_its_kind() -> None:
    assert MalformedBody("body_timeout", "late", status=408).status == 408
    assert MalformedBody("invalid_json", "bad").status == 400


@pytest.mark.parametrize(
    ("error", "blames"),
    [
        (OutOfTime("not_accepted", ""), True),
        (OutOfTime("first_token_timeout", ""), False),
        (OutOfTime("deadline", ""), False),
        (WorkerLost("worker_silent", ""), True),
        (WorkerLost("worker_lost", ""), False),
        (ModelFailed(pb.Error(code="model_unreachable")), False),
        (Busy("queue_full", ""), False),
    ],
)
def test_only_the_workers_own_faults_count_against_it(error: GatewayError, blames: bool) -> None:
    assert error.blames_worker is blames


@pytest.mark.parametrize(
    ("reported", "status", "retry_after"),
    [
        ({"code": "model_rate_limited", "retryable": True}, 429, None),
        ({"code": "worker_full", "retryable": True}, 503, None),
        ({"code": "of_a_later_version"}, 502, None),
        ({}, 502, None),
    ],
)
def test_what_a_worker_reports(reported: dict[str, Any], status: int, retry_after: float | None) -> None:
    error = ModelFailed(pb.Error(**reported, usage=pb.Usage(prompt_tokens=1)))
    assert (error.status, error.retry_after) == (status, retry_after)
    assert error.retryable is reported.get("retryable", False)
    assert error.code == reported.get("code", "unknown")
    assert error.body("r")["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize("extra", ["[1]", "{", '{"a":' * 250 + "1" + "}" * 250, '{"a":"' + "x" * EXTRA + '"}', ""])
def test_further_fields_that_cannot_be_told_are_left_out(extra: str) -> None:
    said = ModelFailed(pb.Error(code="model_failed", provider=pb.ProviderError(status=500, extra=extra))).provider
    assert said == {"status": 500, "code": None, "type": None, "param": None}


def test_a_workers_retry_after_is_passed_on() -> None:
    reported = pb.Error(code="model_rate_limited", retryable=True)
    reported.retry_after.FromMilliseconds(2500)
    assert ModelFailed(reported).headers() == {"x-attempts": "0", "retry-after": "3"}
    reported.retry_after.FromMilliseconds(250)
    assert ModelFailed(reported).headers() == {"x-attempts": "0", "retry-after": "1", "retry-after-ms": "250"}


@pytest.mark.parametrize(
    ("code", "said", "status", "headers"),
    [
        ("model_rejected_request", 400, 400, {}),
        ("model_rejected_request", 422, 422, {}),
        ("model_rejected_request", 418, 400, {}),
        ("model_quota_exhausted", 402, 402, {}),
        ("model_quota_exhausted", 429, 429, {"x-should-retry": "false"}),
        ("model_not_found", 404, 404, {}),
        ("model_unauthorized", 401, 502, {"x-should-retry": "false"}),
        ("model_failed", 500, 502, {"x-should-retry": "false"}),
        ("model_failed", 529, 503, {"x-should-retry": "false"}),
        ("model_timeout", 408, 504, {"x-should-retry": "false"}),
    ],
)
def test_a_providers_status_is_passed_on_where_it_concerns_the_request(
    code: str, said: int, status: int, headers: dict[str, str]
) -> None:
    error = ModelFailed(pb.Error(code=code, provider=pb.ProviderError(status=said)))
    assert error.status == status
    assert error.headers() == {"x-attempts": "0"} | headers
    assert error.body("r")["provider"] == {"status": said, "code": None, "type": None, "param": None}
