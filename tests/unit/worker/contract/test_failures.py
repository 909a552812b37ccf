"""What a model's failure becomes."""

import json

import httpx2
import openai
import pytest
from autogen_core.models import RequestUsage

from worker.contract.errors import BadAnswer, ClientFailed, ModelReported, StreamBroken, Unsupported
from worker.contract.failures import failure

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
        (answered(500), False, "model_failed", True),
        (answered(503), True, "model_failed", True),
        (openai.APITimeoutError(REQUEST), False, "model_timeout", True),
        (openai.APIConnectionError(request=REQUEST), False, "model_unreachable", True),
        (openai.APIConnectionError(request=REQUEST), True, "model_stream_broken", True),
        (openai.APIError("overloaded", REQUEST, body={"message": "overloaded"}), True, "model_failed", True),
        (StreamBroken("cut", RequestUsage(1, 2)), True, "model_stream_broken", True),
        (ModelReported({"message": "overloaded"}), True, "model_failed", True),
        (ConnectionResetError(), True, "model_stream_broken", True),
        (httpx2.ReadError("in the body of a refusal"), False, "model_unreachable", True),
        (httpx2.ReadTimeout("in the body of a refusal"), False, "model_timeout", True),
        (Unsupported("no images"), False, "unsupported_request", False),
        (ValueError("Model does not support function calling"), False, "unsupported_request", False),
        (ValueError("in the middle"), True, "internal_error", False),
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
        (caused(ClientFailed(), ValueError("Model does not support x")), False, "unsupported_request", False),
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
    assert refused.message.endswith("context length exceeded")


def test_a_refused_key_is_not_quoted() -> None:
    assert "sk-1" not in failure(answered(401, {"message": "Incorrect API key: sk-1"}), False).message


def test_half_a_character_in_a_message_does_no_harm() -> None:
    failure(answered(400, {"message": "\ud800"}), False).SerializeToString()


def test_a_broken_stream_tells_the_usage_so_far() -> None:
    usage = failure(StreamBroken("cut", RequestUsage(3, 4)), True).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 4)
