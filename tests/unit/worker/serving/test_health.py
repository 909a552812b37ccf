"""What a worker finds out about its models by how runs end, and how that passes by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from fleet.process.breaker import OPEN_FIRST, OPEN_LAST, THRESHOLD
from protos import chat_pb2 as pb
from tests.harness.waiting import until
from worker.serving import health as module
from worker.serving.health import COUNTED, FORGET, NO_TOKEN, UNREACHABLE, Judge, Judged
from worker.wire.reach import Reach

KEY = ("m", "chat")
UNCOUNTED = ("model_rejected_request", "unsupported_request", "agent_failed", "deadline", "worker_full")


class Stage:
    def __init__(self) -> None:
        self.now = 100.0
        self.changes = 0
        self.requests = 0
        self.judge = Judge(self.changed, lambda: self.now)

    def changed(self) -> None:
        self.changes += 1

    def run(self, end: pb.Done | pb.Error | pb.Cancelled, begun: bool = False, request_id: str = "") -> None:
        self.requests += 1
        judged = Judged(self.judge, *KEY, request_id or f"r{self.requests}")
        judged.began()
        if begun:
            judged.answered()
        judged.ended(end)

    def fail(self, code: str = "model_failed", times: int = 1, **fields: Any) -> None:
        for _ in range(times):
            self.run(pb.Error(code=code, **fields))

    def state(self) -> tuple[str, float, bool] | None:
        """Code, seconds and whether a trial is wanted, of what fails."""
        failing = self.judge.failing()
        if not failing:
            return None
        [one] = failing
        assert (one.name, one.endpoint) == KEY
        return one.code, one.since.ToMilliseconds() / 1000, one.trial


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("code", sorted(COUNTED - {UNREACHABLE, "model_quota_exhausted", NO_TOKEN}))
def test_several_requests_in_a_row_that_fail_say_that_all_do(stage: Stage, code: str) -> None:
    stage.fail(code, THRESHOLD - 1)
    assert stage.state() is None
    assert stage.changes == 0
    stage.fail(code)
    assert stage.state() == (code, 0.0, False)
    assert stage.changes == 1


@pytest.mark.parametrize(
    "error",
    [
        pb.Error(code=UNREACHABLE),
        pb.Error(code="model_quota_exhausted"),
        pb.Error(code="model_unauthorized", provider=pb.ProviderError(status=401)),
    ],
    ids=lambda error: error.code,
)
def test_one_failure_is_enough_where_no_request_can_have_caused_it(stage: Stage, error: pb.Error) -> None:
    stage.run(error)
    assert stage.state() == (error.code, 0.0, False)


def test_a_refusal_that_may_concern_the_request_takes_several(stage: Stage) -> None:
    stage.fail("model_unauthorized", provider=pb.ProviderError(status=403))
    assert stage.state() is None


@pytest.mark.parametrize("code", UNCOUNTED)
def test_what_a_request_did_wrong_says_nothing(stage: Stage, code: str) -> None:
    stage.fail(code, 100)
    stage.fail("model_failed", THRESHOLD - 1)
    stage.fail(code, 100)
    assert stage.state() is None


def test_the_attempts_of_one_request_count_once(stage: Stage) -> None:
    for _ in range(100):
        stage.run(pb.Error(code="model_failed"), request_id="poison")
    assert stage.state() is None


def test_an_answer_in_between_starts_the_count_again(stage: Stage) -> None:
    for _ in range(THRESHOLD):
        stage.fail("model_failed", THRESHOLD - 1)
        stage.run(pb.Done())
    assert stage.state() is None


def test_a_stream_that_breaks_after_its_beginning_was_an_answer(stage: Stage) -> None:
    for _ in range(THRESHOLD):
        stage.run(pb.Error(code="model_stream_broken"), begun=True)
    assert stage.state() is None


def test_a_model_that_says_nothing_fails(stage: Stage) -> None:
    for _ in range(THRESHOLD):
        stage.run(pb.Cancelled(reason=NO_TOKEN))
    assert stage.state() == (NO_TOKEN, 0.0, False)


def test_a_client_that_leaves_says_nothing(stage: Stage) -> None:
    for _ in range(100):
        stage.run(pb.Cancelled(reason="client_gone"))
    assert stage.state() is None


@pytest.mark.parametrize("end", [pb.Done(), pb.Error(code="model_failed"), pb.Cancelled(reason="client_gone")])
def test_the_first_answer_ends_it(stage: Stage, end: Any) -> None:
    stage.fail(times=THRESHOLD)
    stage.now += 1
    with capture_logs() as logs:
        stage.run(end, begun=True)
    assert stage.state() is None
    assert stage.changes == 2
    assert logs == [{"event": "answers again", "log_level": "info", "model": "m", "endpoint": "chat", "seconds": 1.0}]


def test_it_is_logged_once_with_its_code(stage: Stage) -> None:
    with capture_logs() as logs:
        stage.fail(times=10 * THRESHOLD)
    assert [log["event"] for log in logs] == ["fails for everyone"]
    assert logs[0] == {
        "event": "fails for everyone",
        "log_level": "warning",
        "model": "m",
        "endpoint": "chat",
        "code": "model_failed",
    }


def test_its_age_is_that_of_the_first_failure_and_its_code_the_last_ones(stage: Stage) -> None:
    stage.fail(times=THRESHOLD)
    stage.now += 40
    stage.fail("model_timeout")
    assert stage.state() == ("model_timeout", 40.0, False)


def test_after_a_while_one_trial_is_asked_for(stage: Stage) -> None:
    stage.fail(times=THRESHOLD)
    stage.now += OPEN_FIRST
    assert stage.state() == ("model_failed", OPEN_FIRST, True)
    trial = Judged(stage.judge, *KEY, "trial")
    trial.began()
    assert stage.state() == ("model_failed", OPEN_FIRST, False)
    trial.ended(pb.Error(code="model_failed"))
    stage.now += OPEN_FIRST * 2 - 0.1
    assert [failing.trial for failing in stage.judge.failing()] == [False]
    stage.now += 0.1
    assert [failing.trial for failing in stage.judge.failing()] == [True]


def test_a_trial_without_an_outcome_is_followed_by_another(stage: Stage) -> None:
    stage.fail(times=THRESHOLD)
    stage.now += OPEN_FIRST
    stage.fail("model_rejected_request")
    assert stage.state() == ("model_failed", OPEN_FIRST, True)


def test_gateways_are_told_at_once_only_of_what_is_new(stage: Stage) -> None:
    stage.fail(times=THRESHOLD)
    stage.fail(times=1000)
    stage.now += OPEN_LAST
    stage.fail()
    assert stage.changes == 1


def test_what_no_one_asks_for_any_more_may_serve_again(stage: Stage) -> None:
    stage.fail(times=THRESHOLD)
    stage.now += FORGET
    assert stage.state() is not None
    stage.now += 0.1
    assert stage.state() is None
    stage.fail()  # one is enough now: nothing has shown that it works
    assert stage.state() == ("model_failed", 0.0, False)


def test_names_and_endpoints_are_judged_by_themselves(stage: Stage) -> None:
    stage.fail(times=THRESHOLD)
    for key in (("m", "embeddings"), ("n", "chat")):
        Judged(stage.judge, *key, "r").ended(pb.Done())
    assert stage.state() is not None


def test_only_what_failed_is_kept(stage: Stage) -> None:
    for number in range(100):
        Judged(stage.judge, f"m{number}", "chat", "r").ended(pb.Done())
    assert not stage.judge._cases


# ---------------------------------------------------------------- addresses


class Address:
    """Of ``m`` alone, or of all."""

    def __init__(self, *names: str) -> None:
        self.names = names or ("m",)
        self.is_there = False
        self.tried = 0
        self.asked: list[str] = []

    async def try_it(self) -> bool:
        self.tried += 1
        return self.is_there

    def reach(self, name: str) -> Reach | None:
        self.asked.append(name)
        return self.try_it if name in self.names else None

    def alike(self, name: str) -> list[tuple[str, str]]:
        return [(other, "chat") for other in self.names]


async def watched(stage: Stage, address: Address, during: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(stage.judge.watch(address))
    try:
        await during()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REACH_EVERY", 0.002)


async def test_an_address_that_can_be_reached_again_ends_it_without_a_request(stage: Stage) -> None:
    address = Address()
    stage.fail(UNREACHABLE)

    async def during() -> None:
        await until(lambda: address.tried > 2)
        assert stage.state() is not None
        address.is_there = True
        await until(lambda: stage.state() is None)

    await watched(stage, address, during)
    assert stage.changes == 2


async def test_as_long_as_it_cannot_be_reached_no_trial_is_asked_for_and_nothing_is_forgotten(stage: Stage) -> None:
    address = Address()
    stage.fail(UNREACHABLE)
    stage.now += 10 * FORGET

    async def during() -> None:
        await until(lambda: address.tried > 2)
        assert stage.state() == (UNREACHABLE, 10 * FORGET, False)

    await watched(stage, address, during)


async def test_other_failures_and_unknown_addresses_are_left_to_requests(stage: Stage) -> None:
    address = Address()
    stage.fail("model_failed", THRESHOLD)

    async def during() -> None:
        Judged(stage.judge, "n", "chat", "r").ended(pb.Error(code=UNREACHABLE))
        await until(lambda: len(address.asked) > 2)

    await watched(stage, address, during)
    assert set(address.asked) == {"n"}
    assert address.tried == 0


async def test_what_has_the_same_address_cannot_be_reached_either(stage: Stage) -> None:
    address = Address("m", "n", "busy")
    stage.fail(UNREACHABLE)
    for request in range(THRESHOLD):
        Judged(stage.judge, "busy", "chat", f"b{request}").ended(pb.Error(code="model_failed"))

    def failing() -> dict[str, str]:
        return {one.name: one.code for one in stage.judge.failing()}

    async def during() -> None:
        await until(lambda: failing() == {"m": UNREACHABLE, "n": UNREACHABLE, "busy": "model_failed"})
        address.is_there = True
        await until(lambda: failing() == {"busy": "model_failed"})

    await watched(stage, address, during)
