"""Whether chats would be served: by what the workers say, and by one that is tried."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.access.keys import Key
from gateway.errors import GatewayError
from gateway.http import readiness
from gateway.http.readiness import Readiness
from gateway.routing.health import Health
from protos import chat_pb2 as pb
from tests.unit.gateway.http.serving import Gateway, serving

ANYONE = Key(name="a", sha256="0" * 64)
LIMITED = Key(name="b", sha256="1" * 64, models=frozenset({"good"}))

GOOD = Health(2)
HALF = Health(2, 1, "model_failed", 93.0)
BAD = Health(2, 2, "model_unreachable", 95.0)


def ask(
    health: dict[str, Health], key: Key | None = ANYONE, asked_for: str = "", model: str = "", unready: str = ""
) -> tuple[int, dict[str, Any]]:
    made = Readiness(lambda: unready, lambda: health, lambda: 100.0)
    response = made.answer(key, asked_for, model)
    return response.status_code, json.loads(bytes(response.body))


def refusal(*args: Any, **given: Any) -> tuple[str, int]:
    with pytest.raises(GatewayError) as refused:
        ask(*args, **given)
    return refused.value.code, refused.value.status


def test_it_is_ready_for_what_it_can_serve_and_says_what_fails() -> None:
    assert ask({"good": GOOD, "half": HALF, "bad": BAD}) == (
        200,
        {
            "status": "ready",
            "models": {
                "good": {"state": "healthy", "workers": 2},
                "half": {
                    "state": "degraded",
                    "workers": 2,
                    "failing": 1,
                    "code": "model_failed",
                    "failing_seconds": 7.0,
                },
                "bad": {
                    "state": "failing",
                    "workers": 2,
                    "failing": 2,
                    "code": "model_unreachable",
                    "failing_seconds": 5.0,
                },
            },
        },
    )


def test_it_is_unready_when_nothing_can_be_served() -> None:
    status, content = ask({"bad": BAD, "gone": Health()})
    assert (status, content["status"]) == (503, "unready")
    assert content["reason"] == "no model can be served: bad (model_unreachable), gone (no worker)"
    assert list(content["models"]) == ["bad", "gone"]


def test_a_reason_names_a_few_models() -> None:
    _, content = ask({f"m{number}": BAD for number in range(500)})
    assert content["reason"].endswith("m9 (model_unreachable) and 490 more")


def test_what_the_gateway_itself_lacks_comes_first() -> None:
    assert ask({}, unready="no link to the host") == (
        503,
        {"status": "unready", "reason": "no link to the host", "models": {}},
    )


@pytest.mark.parametrize(("model", "status"), [("good", 200), ("half", 200), ("bad", 503)])
def test_one_model_can_be_asked_for(model: str, status: int) -> None:
    got, content = ask({"good": GOOD, "half": HALF, "bad": BAD}, model=model)
    assert got == status
    assert list(content["models"]) == [model]


def test_an_unknown_model_is_no_matter_of_readiness() -> None:
    assert refusal({"good": GOOD}, model="x") == ("unknown_model", 404)
    status, content = ask({}, model="x", unready="no worker is ready")
    assert (status, content["reason"]) == (503, "no worker is ready")


def test_a_balancer_asks_for_the_gateway_only() -> None:
    """Else all gateways would be taken out at once, and clients would get no error but a dead end."""
    assert ask({"bad": BAD}, asked_for="balancer") == (200, {"status": "ready"})
    status, content = ask({"good": GOOD}, asked_for="balancer", unready="draining")
    assert (status, content) == (503, {"status": "unready", "reason": "draining"})
    assert refusal({}, asked_for="x") == ("invalid_field", 422)


def test_without_a_key_no_name_is_told() -> None:
    for health in ({"good": GOOD}, {"bad": BAD}):
        _, content = ask(health, key=None)
        assert not {"good", "bad"} & set(json.dumps(content).replace('"', " ").split())
    assert ask({"bad": BAD}, key=None)[0] == 503
    assert refusal({"bad": BAD}, key=None, model="bad") == ("invalid_api_key", 401)


def test_a_key_is_told_of_its_own_models_only() -> None:
    status, content = ask({"good": GOOD, "bad": BAD}, key=LIMITED)
    assert (status, list(content["models"])) == (200, ["good"])
    status, content = ask({"bad": BAD}, key=LIMITED)
    assert (status, content["models"], content["reason"]) == (503, {}, "no model can be served")
    assert refusal({"bad": BAD}, key=LIMITED, model="bad") == ("unknown_model", 404)


# ---------------------------------------------------------------- over HTTP, and a deep probe


async def get(gateway: Gateway, path: str = "/readyz", method: str = "GET") -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        response = await client.request(method, "http://{}:{}".format(*gateway.address) + path)
    return response.status_code, response.json()


def says(gateway: Gateway, worker_id: str, *failing: pb.Failing) -> None:
    status = pb.WorkerStatus(
        worker_id=worker_id, models=["m"], capacity=4, state=pb.WORKER_STATE_READY, failing=failing
    )
    gateway.stage.hear(status)


async def test_what_workers_say_shows() -> None:
    failing = pb.Failing(name="m", endpoint="chat", code="model_unauthorized")
    async with serving(workers=1, clock=lambda: 0.0) as gateway:
        says(gateway, "w0")
        assert await get(gateway) == (200, {"status": "ready", "models": {"m": {"state": "healthy", "workers": 1}}})
        says(gateway, "w0", failing)
        status, content = await get(gateway)
        assert (status, content["reason"]) == (503, "no model can be served: m (model_unauthorized)")
        assert (await get(gateway, "/readyz?for=balancer"))[0] == 200
        assert (await get(gateway, "/readyz?model=m"))[0] == 503
        assert (await get(gateway, "/readyz?model=x"))[0] == 404


async def test_a_deep_probe_tells_when_the_first_token_came_and_lets_the_chat_go() -> None:
    async with serving(workers=1) as gateway:
        trying = asyncio.create_task(get(gateway, method="POST"))
        worker = await gateway.asked()
        await asyncio.sleep(0.01)
        worker.text("OK")
        status, content = await trying
        assert status == 200
        assert content.pop("first_token_ms") >= 10
        assert content.pop("seconds_ago") < 10
        assert content == {"status": "ready", "model": "m", "worker": "w0", "attempts": 1}
        assert not worker.runs
        assert [reason for _, _, reason in gateway.stage.cancels()] == ["client_gone"]


async def test_a_deep_probe_tells_what_failed() -> None:
    async with serving(workers=1) as gateway:
        trying = asyncio.create_task(get(gateway, "/readyz?model=m", method="POST"))
        worker = await gateway.asked()
        worker.event(error=pb.Error(code="model_unauthorized", message="the key is refused"))
        status, content = await trying
        assert (status, content["status"], content["code"]) == (503, "unready", "model_unauthorized")
        assert content["reason"] == "the key is refused"


async def test_a_deep_probes_result_holds_for_a_while() -> None:
    async with serving(workers=1) as gateway:
        trying = [asyncio.create_task(get(gateway, method="POST")) for _ in range(5)]
        (await gateway.asked()).text("OK")
        results = [await each for each in trying]
        assert {status for status, _ in results} == {200}
        assert len(gateway.stage.histories()) == 1


async def test_a_later_deep_probe_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "TRY_EVERY", 0.0)
    async with serving(workers=1) as gateway:
        for times in (1, 2):
            trying = asyncio.create_task(get(gateway, method="POST"))
            (await gateway.asked(times)).text("OK")
            assert (await trying)[0] == 200


async def test_a_deep_probe_does_not_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "TRY_TIMEOUT", 0.05)
    async with serving(workers=1) as gateway:
        status, content = await get(gateway, method="POST")
        assert (status, content["code"]) == (503, "first_token_timeout")


async def test_a_deep_probe_of_an_unknown_model_asks_no_one() -> None:
    async with serving(workers=1) as gateway:
        assert (await get(gateway, "/readyz?model=x", method="POST"))[0] == 404
        assert not gateway.stage.histories()
