"""Keys do not reach a log or a user."""

from collections.abc import Callable

import pytest

from tests.growth import TIMES, assert_linear
from worker.contract.masking import READ, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Incorrect API key provided: sk-abc. See", "Incorrect API key provided: *** See"),
        ("Incorrect API key provided: abc-def", "Incorrect API key provided: ***"),
        ("wrong: qwer****1234", "wrong: ***"),
        ("Authorization: Bearer abcdef", "Authorization: Bearer ***"),
        ("authorization=abcdef", "authorization=***"),
        ("Basic dXNlcjpw failed", "Basic *** failed"),
        ("AIzaSyABCDEFG is not valid", "*** is not valid"),
        ("eyJhbGciOiJI.eyJzdWIi.c2ln", "***"),
        ("https://me:secret@host/v1", "https://***@host/v1"),
        ("GET /v1?key=abc&x=1", "GET /v1?key=***&x=1"),
        ('{"api_key": "abc", "x": 1}', '{"api_key": "***", "x": 1}'),
        ("x-api-key: abc", "x-api-key: ***"),
        ("the key own-key-1 is blocked", "the key *** is blocked"),
        ("the key 'own-key-' is cut", "the key '***' is cut"),
        ("API key 'abcdef' is wrong", "API key '***' is wrong"),
        ("Authorization: Token abcdef", "Authorization: Token ***"),
        ("bearer=abcdef", "bearer=***"),
        ("token: abc1-def2-ghi", "token: ***"),
        (
            "the api key abcdef12345 and the token 'abcdef12345' are wrong",
            "the api key *** and the token '***' are wrong",
        ),
        ("client_secret=abcdef&password=abcdef", "client_secret=***&password=***"),
        ('{"token": "abcdef"}', '{"token": "***"}'),
        ("github_pat_abcdef glpat-abcdef xoxb-abcdef gho_abcdef", "*** *** *** ***"),
    ],
)
def test_what_looks_like_a_key_is_masked(text: str, masked: str) -> None:
    assert mask(text, ["own-key-1"]) == masked


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 4096 tokens",
        "bearer authentication is required",
        "API key not valid. Please pass a valid API key.",
        "unexpected token: abcdef; the password is missing, the token 'x' is not one",
        "risk-free, key-value, the basic tier: **all**",
        "see https://example.com/docs?page=2#errors",
    ],
)
def test_what_is_no_key_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "piece", ["a", "*", "a:", "bearer ", "sk-", "http://", "x-api-key ", "token ", "token a1", "?key=", "eyJ", "a.b-"]
)
def test_no_text_takes_long(piece: str) -> None:
    def masked(size: int) -> Callable[[], str]:
        text = (piece * size)[:size]
        return lambda: mask(text)

    assert len(mask(piece * 20_000)) <= 2 * READ
    assert_linear(masked, READ // TIMES)
