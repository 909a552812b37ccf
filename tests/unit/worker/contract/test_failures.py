"""What a model's failure becomes."""

import json
from types import SimpleNamespace
from typing import ClassVar

import httpx2
import openai
import pytest
from autogen_core.models import RequestUsage

from worker.contract.errors import BadAnswer, ClientFailed, ModelReported, ProviderRefused, StreamBroken, Unsupported
from worker.contract.failures import REASON_LIMIT, failure, reason

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1")


def answered(status: int, body: object = None, **headers: str) -> openai.APIStatusError:
    response = httpx2.Response(status, request=REQUEST, headers=headers)
    return openai.APIStatusError("text with the prompt", response=response, body=body)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "started", "code", "retryable"),
    [
        (answered(401), False, "model_unauthorized", False),
        (answered(403), False, "model_unauthorized", False),
        (answered(404), False, "model_not_found", False),
        (answered(429), False, "model_rate_limited", True),
        (answered(400), False, "model_rejected_request", False),
        (answered(402), False, "model_quota_exhausted", False),
        (answered(429, {"error": {"code": "insufficient_quota"}}), False, "model_quota_exhausted", False),
        (answered(403, {"error": {"code": "content_filter"}}), False, "model_rejected_request", False),
        (answered(500, {"error": {"code": "context_length_exceeded"}}), False, "model_rejected_request", False),
        (answered(400, {"error": {"code": "invalid_api_key"}}), False, "model_unauthorized", False),
        (answered(408), False, "model_timeout", True),
        (answered(409), False, "model_rejected_request", True),
        (answered(200, {"error": {"type": "overloaded_error"}}), False, "model_failed", True),
        (answered(500), False, "model_failed", True),
        (answered(503), True, "model_failed", True),
        (openai.APITimeoutError(REQUEST), False, "model_timeout", True),
        (openai.APIConnectionError(request=REQUEST), False, "model_unreachable", True),
        (openai.APIConnectionError(request=REQUEST), True, "model_stream_broken", True),
        (openai.APIError("overloaded", REQUEST, body={"message": "overloaded"}), True, "model_failed", True),
        (StreamBroken("cut", RequestUsage(1, 2)), True, "model_stream_broken", True),
        (ModelReported({"message": "overloaded"}), True, "model_failed", True),
        (ModelReported({"message": "slow", "code": "rate_limit_exceeded"}), True, "model_rate_limited", True),
        (ModelReported({"message": "slow", "code": 429}), True, "model_rate_limited", True),
        (ModelReported({"message": "long", "code": "context_length_exceeded"}), True, "model_rejected_request", False),
        (ModelReported({"message": "none", "code": 400}), False, "model_rejected_request", False),
        (ModelReported({"message": "none", "type": "insufficient_quota"}), True, "model_quota_exhausted", False),
        (ModelReported("what?"), True, "model_failed", True),
        (ProviderRefused("busy", status=529, type="overloaded_error"), True, "model_failed", True),
        (ProviderRefused("slow", type="rate_limit_error"), False, "model_rate_limited", True),
        (ProviderRefused("no", status=401), False, "model_unauthorized", False),
        (ProviderRefused("why?"), False, "model_failed", True),
        (ProviderRefused("why?", status=200, type="api_error"), True, "model_failed", True),
        (caused(ClientFailed(), ProviderRefused("no", status=404)), False, "model_not_found", False),
        (caused(openai.APITimeoutError(REQUEST), httpx2.ConnectTimeout("x")), False, "model_unreachable", True),
        (caused(openai.APITimeoutError(REQUEST), httpx2.ReadTimeout("x")), False, "model_timeout", True),
        (ConnectionResetError(), True, "model_stream_broken", True),
        (httpx2.ReadError("in the body of a refusal"), False, "model_stream_broken", True),
        (caused(openai.APIConnectionError(request=REQUEST), httpx2.ReadError("x")), False, "model_stream_broken", True),
        (caused(httpx2.ConnectError("TLS"), ConnectionResetError()), False, "model_unreachable", True),
        (httpx2.ReadTimeout("in the body of a refusal"), False, "model_timeout", True),
        (Unsupported("no images"), False, "unsupported_request", False),
        (ValueError("a defect"), False, "internal_error", False),
        (KeyError("defect"), False, "internal_error", False),
        (caused(openai.APIConnectionError(request=REQUEST), BadAnswer("too long")), False, "model_stream_broken", True),
        (
            caused(openai.APIConnectionError(request=REQUEST), httpx2.RemoteProtocolError("no HTTP")),
            False,
            "model_stream_broken",
            True,
        ),
        (caused(KeyError("an SDK's own"), httpx2.ConnectError("refused")), False, "model_unreachable", True),
        (caused(Unsupported("an image cannot be decoded"), OSError("x")), False, "unsupported_request", False),
        (caused(ClientFailed(), TypeError("of a client")), True, "model_failed", True),
        (caused(ClientFailed(), ValueError("in the middle")), True, "model_failed", True),
        (caused(ClientFailed(), answered(429)), False, "model_rate_limited", True),
        (caused(ClientFailed(), json.JSONDecodeError("x", "", 0)), True, "model_stream_broken", True),
    ],
)
def test_every_failure_has_its_code(error: Exception, started: bool, code: str, retryable: bool) -> None:
    made = failure(error, started)
    assert (made.code, made.retryable) == (code, retryable)
    assert "prompt" not in made.message


def test_a_rate_limit_says_how_long() -> None:
    assert failure(answered(429, None, **{"retry-after": "2.5"}), False).retry_after.ToMilliseconds() == 2500
    assert not failure(answered(429, None, **{"retry-after": "soon"}), False).HasField("retry_after")


def test_a_refused_request_says_why_in_the_providers_words() -> None:
    refused = failure(answered(400, {"message": "context length exceeded"}), False)
    assert refused.message == "the model rejected the request (HTTP 400): context length exceeded"
    body = {"error": {"message": "long", "code": "context_length_exceeded", "type": "t", "param": "messages", "x": 1}}
    said = failure(answered(400, body), False).provider
    assert (said.status, said.code, said.type, said.param) == (400, "context_length_exceeded", "t", "messages")
    assert said.extra == '{"x":1}'


def test_an_sdks_error_and_our_own_are_the_same() -> None:
    body = {"error": {"message": "slow", "code": "c", "type": "t", "param": "p"}}
    own = ProviderRefused("slow", status=429, code="c", type="t", param="p", retry_after=2)
    assert failure(answered(429, body, **{"retry-after": "2"}), False) == failure(own, False)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_wait_is_passed_on_whatever_failed(status: int) -> None:
    assert failure(answered(status, None, **{"retry-after-ms": "300"}), False).retry_after.ToMilliseconds() == 300


def test_keys_are_masked_in_all_that_a_provider_says() -> None:
    own = ProviderRefused("no own-key", status=400, code="sk-1", param="own-key", extra={"a": [{"b": "Bearer abcdef"}]})
    made = failure(
        own, False, lambda text: text.replace("own-key", "***").replace("sk-1", "***").replace("abcdef", "***")
    )
    assert not {word for word in ("own-key", "sk-1", "abcdef") if word in str(made)}
    assert "sk-2" not in str(failure(answered(403, {"message": "bad sk-2"}), False))
    broken = StreamBroken("it begins with 'sk-3'", RequestUsage(0, 0))
    assert "sk-3" not in failure(broken, False).message + reason(broken)


def test_a_reason_for_the_log_is_short_and_one_line() -> None:
    assert reason(answered(401, {"message": "wrong sk-1 \x1b[2J"})) == r"HTTP 401: wrong *** \x1b[2J"
    assert reason(answered(500, {"message": "a\nb"})) == "HTTP 500: a b"
    assert reason(answered(500, {"message": "a", "code": "c"})) == "HTTP 500: c: a"
    assert len(reason(answered(500, {"message": "a" * 5000}))) == REASON_LIMIT
    assert (
        reason(caused(ClientFailed(), caused(KeyError("x"), ConnectionRefusedError(111, "x")))) == "connection refused"
    )
    assert reason(BadAnswer("too many headers")) == "too many headers"
    assert reason(KeyError("a prompt")) == ""


def test_a_refused_key_is_told_of_and_not_quoted() -> None:
    refused = failure(answered(401, {"message": "Incorrect API key: sk-1", "code": "invalid_api_key"}), False)
    assert refused.message.endswith("the worker's key (HTTP 401): Incorrect API key: ***")
    assert (refused.provider.status, refused.provider.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("status", [424, 498, 499])
def test_a_server_that_failed_is_asked_again(status: int) -> None:
    refused = failure(answered(status, {"message": "no"}), False)
    assert (refused.code, refused.retryable) == ("model_rate_limited" if status == 498 else "model_failed", True)


def test_other_sdks_errors_are_read_too() -> None:
    class ResponseError(Exception):
        status_code = 503
        error = "model is loading"
        response: ClassVar = SimpleNamespace(headers={"retry-after": "3"})

    made = failure(caused(ClientFailed(), ResponseError()), False)
    assert (made.code, made.message) == ("model_failed", "the model failed (HTTP 503): model is loading")
    assert made.retry_after.seconds == 3


def test_half_a_character_in_a_message_does_no_harm() -> None:
    failure(answered(400, {"message": "\ud800"}), False).SerializeToString()


def test_a_broken_stream_tells_the_usage_so_far() -> None:
    usage = failure(StreamBroken("cut", RequestUsage(3, 4)), True).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 4)
