"""API keys: who may ask, for what, how much, and how soon a change counts."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.harness.fleet import Fleet
from tests.harness.process import ENDS, REPOSITORY
from tests.harness.waiting import SOON, wait_until
from tests.integration.keyed import KeyedGateway
from tests.schedule import Schedule, reply_text

SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
BOTH = pytest.mark.parametrize("path", [SEED, OPENAI], ids=["seed", "openai"])
STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
APP = "https://app.example"

LIMITS: dict[str, dict[str, Any]] = {
    "free": {},
    "other-only": {"models": ["other"]},
    "nothing": {"models": []},
    "sdk": {"models": ["test"], "requests_per_minute": 1},
    "hasty": {"concurrent": 1},
    "revoked": {},
}
for _path in (SEED, OPENAI):
    LIMITS |= {
        f"requests{_path}": {"requests_per_minute": 3},
        f"tokens{_path}": {"tokens_per_minute": 100},
        f"concurrent{_path}": {"concurrent": 2},
        f"all{_path}": {"requests_per_minute": 50, "tokens_per_minute": 1000, "concurrent": 5},
    }


@pytest.fixture(scope="module")
def gateway(shared_fleet: Fleet) -> Iterator[KeyedGateway]:
    with KeyedGateway(shared_fleet, LIMITS, GATEWAY_CORS_ORIGINS=APP) as gateway:
        yield gateway


def body(path: str, schedule: Schedule, **fields: Any) -> dict[str, Any]:
    who = "source" if path == SEED else "role"
    return {"messages": [{who: "user", "content": schedule.message()}]} | fields


def ask(client: httpx.Client, path: str, schedule: Schedule | None = None, **fields: Any) -> httpx.Response:
    return client.post(path, json=body(path, schedule or Schedule(tokens=1), **fields))


def refusal(answer: httpx.Response, path: str, status: int) -> dict[str, Any]:
    """The error of a refusal, in the shape of its API."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() >= {"code", "message", "retryable", "request_id"}
    assert ("type" in error) == path.startswith("/v1")
    return error


# ---------------------------------------------------------------- who


@BOTH
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer wrong", "bearer\twrong", "Basic dGVzdDp0ZXN0", "wrong", "Bearer \xff\xfe"],
    ids=repr,
)
def test_without_a_good_key_nobody_is_served(gateway: KeyedGateway, path: str, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    with gateway.client() as client:
        answer = client.post(path, json=body(path, Schedule()), headers=headers)
    error = refusal(answer, path, 401)
    assert error["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"] == error["request_id"]


def test_a_key_is_asked_for_before_the_body_is_looked_at(gateway: KeyedGateway) -> None:
    with gateway.client(key="wrong") as client:
        assert client.post(OPENAI, content=b"no JSON").status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/models", 401), ("/v1/models/test", 401), ("/fleet", 401), ("/healthz", 200), ("/readyz", 200)],
)
def test_probes_need_no_key_and_all_else_does(gateway: KeyedGateway, path: str, status: int) -> None:
    with gateway.client() as stranger, gateway.client("free") as friend:
        assert stranger.get(path).status_code == status
        assert friend.get(path).status_code == 200


@BOTH
@STREAMED
def test_a_good_key_is_served(gateway: KeyedGateway, path: str, stream: bool) -> None:
    schedule = Schedule(tag=f"keyed{path}{stream}".replace("/", "-"))
    with gateway.client("free") as client:
        answer = ask(client, path, schedule, stream=stream)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    seen = gateway.fleet.backend.request(schedule.tag or "")
    assert gateway.keys["free"] not in json.dumps(seen)


@pytest.mark.parametrize("name", ["api-key", "x-api-key"])
def test_a_key_may_come_as_azures_and_anthropics_clients_send_it(gateway: KeyedGateway, name: str) -> None:
    with gateway.client() as client:
        for others in ({}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer wrong"}):
            for key, status in ((gateway.keys["other-only"], 200), ("wrong", 401), ("", 401)):
                answer = client.get("/v1/models", headers={name: key, **others})
                assert answer.status_code == status
        allowed = client.get("/v1/models", headers={name: gateway.keys["other-only"]}).json()
    assert [model["id"] for model in allowed["data"]] == ["other"]


@BOTH
@pytest.mark.parametrize("fields", [{"model": "test"}, {}], ids=["by name", "by default"])
def test_a_key_for_another_model_is_refused(gateway: KeyedGateway, path: str, fields: dict[str, Any]) -> None:
    with gateway.client("other-only") as client:
        error = refusal(ask(client, path, **fields), path, 403)
        assert error["code"] == "model_not_allowed"
        assert "'test'" in error["message"]
        assert ask(client, path, model="other").status_code == 200


def test_the_models_are_those_of_the_key(gateway: KeyedGateway) -> None:
    def listed(name: str) -> list[str]:
        with gateway.client(name) as client:
            paths = ("/v1/models", "/models", "/v1/models/")
            lists = [[model["id"] for model in client.get(path).json()["data"]] for path in paths]
        assert lists[1:] == lists[:1] * 2
        return lists[0]

    assert listed("free") == ["test", "other", "nowhere"]
    assert listed("other-only") == ["other"]
    assert listed("nothing") == []
    with gateway.client("other-only") as client:
        assert client.get("/v1/models/other").json()["id"] == "other"
        azure = "/openai/deployments/test/chat/completions"
        assert refusal(ask(client, azure, model="other"), "/v1", 403)["code"] == "model_not_allowed"
        error = refusal(client.get("/v1/models/test"), "/v1", 404)
        assert error["code"] == "model_not_found"
        assert "'other'" not in error["message"].partition(";")[0]
        assert "nowhere" not in error["message"]


# ---------------------------------------------------------------- how much


@BOTH
def test_requests_a_minute(gateway: KeyedGateway, path: str) -> None:
    with gateway.client(f"requests{path}") as client:
        for left, stream in ((2, True), (1, False), (0, True)):
            answer = ask(client, path, stream=stream)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "3"
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
            assert re.fullmatch(r"\d+s", answer.headers["x-ratelimit-reset-requests"])
        answer = ask(client, path)
    error = refusal(answer, path, 429)
    assert (error["code"], error["retryable"]) == ("rate_limit_exceeded", True)
    assert "3 requests a minute" in error["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"


@BOTH
@STREAMED
def test_tokens_a_minute(gateway: KeyedGateway, path: str, stream: bool) -> None:
    schedule = Schedule(usage={"prompt_tokens": 20, "completion_tokens": 30})
    with gateway.client(f"tokens{path}") as client:
        answers = [ask(client, path, schedule, stream=stream) for _ in range(3)]
    served = [answer for answer in answers if answer.status_code == 200]
    assert len(served) == (2 if stream else 0)  # one minute for both parameters of the same key
    for answer, left in zip(served, (100, 50), strict=False):
        assert answer.headers["x-ratelimit-limit-tokens"] == "100"
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(left)
    error = refusal(answers[-1], path, 429)
    assert "100 tokens a minute" in error["message"]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert answers[-1].headers["x-ratelimit-remaining-tokens"] == "0"


@BOTH
def test_requests_at_once(gateway: KeyedGateway, path: str) -> None:
    endless = Schedule(tokens=100_000, delay=0.01)
    with gateway.client(f"concurrent{path}") as client:
        with client.stream("POST", path, json=body(path, endless, stream=True)) as first:
            assert first.status_code == 200
            with client.stream("POST", path, json=body(path, endless, stream=True)) as second:
                assert second.status_code == 200
                answer = ask(client, path)
                assert "2 requests at once" in refusal(answer, path, 429)["message"]
                assert int(answer.headers["retry-after"]) >= 1
            wait_until(lambda: ask(client, path).status_code == 200, SOON, "the place of the one that left is free")
        for _ in range(3):
            assert ask(client, path).status_code == 200


@BOTH
def test_a_refused_request_takes_no_place(gateway: KeyedGateway, path: str) -> None:
    with gateway.client("hasty") as client:
        for _ in range(3):
            assert ask(client, path, model="no-such").status_code == 404
            assert ask(client, path, Schedule(status=400), model="test").status_code == 400
            assert client.post(path, json={"messages": 5}).status_code == 422
        assert ask(client, path).status_code == 200


@BOTH
def test_every_limit_shows_in_the_headers(gateway: KeyedGateway, path: str) -> None:
    with gateway.client(f"all{path}") as client:
        headers = ask(client, path).headers
    shown = {name for name in headers if name.startswith("x-ratelimit")}
    assert shown == {
        f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
    }


def test_openais_sdk_raises_what_fits(gateway: KeyedGateway) -> None:
    def complete(key: str, model: str = "test") -> str | None:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            question: Any = {"role": "user", "content": "Hello"}
            return client.chat.completions.create(model=model, messages=[question]).choices[0].message.content

    with pytest.raises(openai.AuthenticationError):
        complete("wrong")
    with pytest.raises(openai.PermissionDeniedError):
        complete(gateway.keys["sdk"], "other")
    assert complete(gateway.keys["sdk"]) == "You said: Hello"
    with pytest.raises(openai.RateLimitError) as limited:
        complete(gateway.keys["sdk"])
    assert int(limited.value.response.headers["retry-after"]) >= 1


def test_openais_sdk_waits_and_tries_again(gateway: KeyedGateway) -> None:
    question: Any = {"role": "user", "content": Schedule(tokens=100_000, delay=0.01).message()}
    asked: Any = {"model": "test", "messages": [question]}
    sdk = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.keys["hasty"], max_retries=20)
    with sdk, sdk.chat.completions.create(stream=True, **asked) as first:
        next(first)
        with pytest.raises(openai.RateLimitError):
            sdk.with_options(max_retries=0).chat.completions.create(stream=True, **asked)
        began = time.monotonic()
        first.response.close()
        asked["messages"] = [{"role": "user", "content": "Hello"}]
        assert sdk.chat.completions.create(**asked).choices[0].message.content == "You said: Hello"
        assert time.monotonic() - began < 30


# ---------------------------------------------------------------- the file


def test_a_revoked_key_stops_working_within_two_seconds(gateway: KeyedGateway) -> None:
    with gateway.client("revoked") as client, gateway.client("free") as other:
        assert ask(client, OPENAI).status_code == 200
        gateway.write({name: limits for name, limits in LIMITS.items() if name != "revoked"})
        began = time.monotonic()
        wait_until(lambda: client.get("/v1/models").status_code == 401, SOON, "the key is refused")
        assert time.monotonic() - began < 10  # two, and what a busy machine adds
        assert ask(client, SEED).status_code == 401
        assert ask(other, OPENAI).status_code == 200
        gateway.write(LIMITS)
        wait_until(lambda: client.get("/v1/models").status_code == 200, SOON, "the key is back")


@pytest.mark.parametrize("text", ["keys: [", "", "keys:\n- name: a\n  sha256: test-key-a\n"])
def test_a_broken_file_changes_nothing(gateway: KeyedGateway, text: str) -> None:
    said = gateway.process.log_size()
    gateway.replace(text)
    wait_until(lambda: "keys not reloaded" in gateway.process.log(said), SOON, "a complaint")
    with gateway.client("free") as friend, gateway.client() as stranger:
        assert friend.get("/v1/models").status_code == 200
        assert stranger.get("/v1/models").status_code == 401
    gateway.write(LIMITS)
    wait_until(lambda: "keys reloaded" in gateway.process.log(said), SOON, "the file is good again")


def test_a_new_key_works_once_its_entry_is_in_the_file(gateway: KeyedGateway) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "new", "zoë", str(gateway.file)],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        timeout=ENDS,
        check=True,
    )
    (key,) = re.findall(r"^\s+(cf-\S+)$", made.stdout, re.MULTILINE)
    with gateway.client("free") as friend, gateway.client(key=key) as client:
        wait_until(lambda: client.get("/v1/models").status_code == 200, SOON, "the new key works")
        assert ask(client, OPENAI).status_code == 200
        assert friend.get("/v1/models").status_code == 200, "the former keys are good"
    gateway.write(LIMITS)


# ---------------------------------------------------------------- pages from elsewhere


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return client.options(OPENAI, headers=headers)


def test_by_default_no_page_may_ask(fleet: Fleet) -> None:
    with httpx.Client(base_url=fleet.url, trust_env=False) as client:
        answers = [preflight(client, APP), ask(client, OPENAI), client.get("/v1/models", headers={"origin": APP})]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_listed_pages_may_ask_and_others_may_not(gateway: KeyedGateway) -> None:
    with gateway.client() as page:
        allowed = preflight(page, APP)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == APP
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-origin" not in preflight(page, "https://elsewhere.example").headers
        refused = page.post(OPENAI, json={}, headers={"origin": APP})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP)
    schedule = Schedule(tokens=3)
    with gateway.client("free", origin=APP) as page:
        answer = ask(page, SEED, schedule, stream=False)
        assert answer.json()["content"] == reply_text(schedule)
        assert answer.headers["access-control-allow-origin"] == APP
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "retry-after" in answer.headers["access-control-expose-headers"]
