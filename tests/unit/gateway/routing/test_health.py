"""How models do, over all workers that serve them."""

from gateway.routing.directory import Directory
from gateway.routing.health import health
from protos import chat_pb2 as pb


def hear(directory: Directory, worker_id: str, *failing: pb.Failing, now: float = 0.0, models: str = "a b") -> None:
    status = pb.WorkerStatus(
        worker_id=worker_id,
        models=models.split(),
        capacity=1,
        state=pb.WORKER_STATE_READY,
        endpoints={
            "b": pb.Endpoints(names=["chat", "embeddings"]),
            "c": pb.Endpoints(names=["completions", "embeddings"]),
        },
        failing=failing,
    )
    directory.heard(status, now)


def fails(name: str, seconds: int = 0, endpoint: str = "chat", code: str = "model_failed") -> pb.Failing:
    failing = pb.Failing(name=name, endpoint=endpoint, code=code)
    failing.since.FromSeconds(seconds)
    return failing


def described(directory: Directory, now: float = 0.0) -> dict[str, dict[str, object]]:
    return {name: of.describe(now) for name, of in health(directory, now).items()}


def test_a_model_fails_if_every_ready_worker_fails_with_it() -> None:
    directory = Directory("g", 30.0)
    hear(directory, "v")
    hear(directory, "w", fails("a", 7))
    assert described(directory) == {
        "a": {"state": "degraded", "workers": 2, "failing": 1, "code": "model_failed", "failing_seconds": 7.0},
        "b": {"state": "healthy", "workers": 2},
    }
    hear(directory, "v", fails("a", 3, code="model_unreachable"))
    assert described(directory, 1.0)["a"] == {
        "state": "failing",
        "workers": 2,
        "failing": 2,
        "code": "model_failed",
        "failing_seconds": 8.0,
    }
    hear(directory, "w")
    assert health(directory, 0.0)["a"].state == "degraded"
    assert health(directory, 0.0)["a"].is_served


def test_a_model_of_several_endpoints_fails_with_its_chats_or_where_it_has_none_with_any() -> None:
    directory = Directory("g", 30.0)
    hear(directory, "w", fails("b", endpoint="embeddings"), models="b c")
    assert [of.state for of in health(directory, 0.0).values()] == ["healthy", "healthy"]
    hear(directory, "w", fails("b"), fails("c", endpoint="embeddings"), models="b c")
    assert [of.state for of in health(directory, 0.0).values()] == ["failing", "failing"]


def test_a_model_that_only_workers_have_that_are_not_ready_is_absent() -> None:
    directory = Directory("g", 30.0)
    hear(directory, "w", now=0.0)
    hear(directory, "v", now=10.0, models="b")
    found = health(directory, 10.0)
    assert {name: (of.state, of.is_served) for name, of in found.items()} == {
        "a": ("absent", False),
        "b": ("healthy", True),
    }


def test_what_a_worker_says_is_bounded_and_checked() -> None:
    directory = Directory("g", 30.0)
    hear(directory, "w", *[fails(f"x{number}") for number in range(10_000)], fails("a", code='x"\x1b' * 1000))
    [worker] = directory
    assert list(worker.failing) == [("a", "chat")]
    assert health(directory, 0.0)["a"].code == "unknown"


def test_a_trial_is_one_request_until_the_worker_asks_again() -> None:
    directory = Directory("g", 30.0)
    trial = fails("a")
    trial.trial = True
    hear(directory, "w", fails("a"))
    [worker] = directory
    assert worker.blocks("a", "chat")
    assert worker.blocks("", "chat")
    assert not worker.blocks("b", "chat")
    hear(directory, "w", trial)
    assert not worker.blocks("a", "chat")
    worker.chosen("a", "chat")
    assert worker.blocks("a", "chat")
    hear(directory, "w", trial)
    assert not worker.blocks("a", "chat")
    worker.chosen("", "chat")
    assert worker.blocks("a", "chat")
