"""A model fails for everyone: workers find out, every gateway shows it, clients get its error, and it passes."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import Fleet, fetch, model_entries
from tests.harness.ports import free_port
from tests.harness.waiting import eventually, wait_until
from tests.schedule import Schedule

WITHIN = 60.0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(settings={"WORKER_SERVE": "test,other"}, start=False) as made:
        made.new_gateway()
        made.start()
        made.wait_until_ready()
        wait_until(lambda: len(made.status(1)["workers"]) == 2, WITHIN, "both gateways know the workers")
        yield made


def ready(fleet: Fleet, query: str = "", gateway: int = 0, method: str = "GET") -> tuple[int, Any]:
    return fetch("http://{}:{}/readyz".format(*fleet.addresses[gateway]) + query, method)


def states(fleet: Fleet, gateway: int = 0) -> dict[str, tuple[str, str]]:
    """State and code of each model that does not do well."""
    models = fleet.status(gateway)["models"]
    return {name: (of["state"], of.get("code", "")) for name, of in models.items() if of["state"] != "healthy"}


def test_each_gateway_knows_the_other(fleet: Fleet) -> None:
    ids = [fleet.status(gateway)["gateway"]["id"] for gateway in (0, 1)]

    def heard(gateway: int) -> list[tuple[str, str]]:
        return [(other["id"], other["state"]) for other in fleet.status(gateway)["other_gateways"]]

    each = [[(ids[1], "READY")], [(ids[0], "READY")]]
    wait_until(lambda: [heard(0), heard(1)] == each, WITHIN, "they hear each other")


def test_members_are_named_by_what_they_are(fleet: Fleet) -> None:
    assert all("worker" in worker["id"] for worker in fleet.status()["workers"])
    assert "gateway" in fleet.status()["gateway"]["id"]


def test_a_deep_probe_goes_through_the_whole_chain(fleet: Fleet) -> None:
    fleet.backend.forget()
    status, content = ready(fleet, "?model=other", method="POST")
    assert (status, content["status"], content["model"], content["attempts"]) == (200, "ready", "other", 1)
    assert content["worker"] in [worker["id"] for worker in fleet.status()["workers"]]
    assert ready(fleet, "?model=other", method="POST")[0] == 200
    assert len(fleet.backend.requests()) == 1


async def test_a_model_that_is_away_shows_everywhere_and_is_back_without_a_request(fleet: Fleet) -> None:
    fleet.backend.process.end()
    try:
        reply = await ask(fleet.address, Schedule())
        assert (reply.status, reply.error["code"]) == (502, "model_unreachable")
        await eventually(lambda: [ready(fleet, gateway=each)[0] for each in (0, 1)] == [503, 503], WITHIN, "unready")
        for gateway in (0, 1):
            content = ready(fleet, gateway=gateway)[1]
            assert content["reason"] == "no model can be served: test (model_unreachable), other (model_unreachable)"
            assert content["models"]["test"]["state"] == "failing"
            assert states(fleet, gateway)["test"] == ("failing", "model_unreachable")
            assert ready(fleet, "?for=balancer", gateway) == (200, {"status": "ready"})
        assert ready(fleet, "?model=test")[0] == 503
        reply = await ask(fleet.address, Schedule())
        assert (reply.status, reply.error["code"]) == (502, "model_unreachable")
        status, content = ready(fleet, method="POST")
        assert (status, content["code"]) == (503, "model_unreachable")
        asked = fleet.workers[0].log().count('event="chat failed"')
    finally:
        fleet.backend.start()
    await eventually(lambda: [states(fleet, each) for each in (0, 1)] == [{}, {}], WITHIN, "everything is in order")
    await eventually(lambda: [ready(fleet, gateway=each)[0] for each in (0, 1)] == [200, 200], WITHIN, "ready")
    assert fleet.workers[0].log().count('event="chat failed"') == asked
    assert 'event="fails for everyone"' in fleet.workers[0].log()
    assert 'event="answers again"' in fleet.workers[0].log()
    assert fleet.backend.requests() == []


async def test_a_refused_key_shows_until_the_first_answer(fleet: Fleet) -> None:
    reply = await ask(fleet.address, Schedule(status=401))
    assert reply.status == 502
    await eventually(lambda: states(fleet).get("test", ("", ""))[1] == "model_unauthorized", WITHIN, "it is found out")
    schedule = Schedule()
    while "test" in states(fleet):
        assert_complete(await ask(fleet.address, schedule), schedule)


async def test_a_clients_bad_requests_change_nothing(fleet: Fleet) -> None:
    for _ in range(6):
        assert (await ask(fleet.address, Schedule(status=400))).status == 400
    await eventually(lambda: ready(fleet)[0] == 200, WITHIN, "ready")
    assert "test" not in states(fleet)


async def test_a_worker_that_alone_cannot_reach_the_model_is_left_alone(fleet: Fleet) -> None:
    models = fleet.folder / "astray.yaml"
    entries = model_entries(f"http://127.0.0.1:{free_port()}", "astray")
    models.write_text(yaml.safe_dump(entries, sort_keys=False))
    worker = fleet.new_worker(WORKER_MODELS=str(models), FLEET_MEMBER_NAME="astray")
    worker.start()
    try:
        await eventually(lambda: len(fleet.ready_workers()) == 3, WITHIN, "the third worker is there")
        schedule = Schedule()
        while states(fleet).get("test") != ("degraded", "model_unreachable"):
            assert_complete(await ask(fleet.address, schedule), schedule)
        assert [one["id"][:7] for one in fleet.status()["workers"] if one["failing"]] == ["astray-"]
        await eventually(lambda: ready(fleet)[0] == 200, WITHIN, "it is ready for what it can serve")
        failed = worker.log().count('event="chat failed"')
        for _ in range(20):
            assert_complete(await ask(fleet.address, schedule), schedule)
        # Once it may be tried again, if it stood still when it was to look for the model itself.
        assert worker.log().count('event="chat failed"') <= failed + 1
    finally:
        worker.end()
