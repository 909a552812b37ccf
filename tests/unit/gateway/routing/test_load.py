"""The load, for people and autoscalers."""

from typing import Any

from gateway.routing.directory import Directory
from gateway.routing.load import describe_load
from protos import chat_pb2 as pb
from tests.unit.gateway.routing.test_directory import GONE_AFTER, directory, status


def load(known: Directory, now: float = 0.0, **waiting: int) -> dict[str, Any]:
    return describe_load(known, known.ready(now), waiting)


def details(server: int = 7, concurrency: int = 4, **runs: int) -> pb.Details:
    return pb.Details(server=server, concurrency=concurrency, active_by_gateway=runs)


def fleet(*served: dict[str, pb.Details], models: tuple[str, ...] = ("m",), capacity: int = 4) -> Directory:
    known = Directory("g", GONE_AFTER)
    for number, told in enumerate(served):
        active = {"other": sum(sum(one.active_by_gateway.values()) for one in told.values())}
        known.heard(
            status(str(number), models=models, capacity=capacity, details=told, active_by_gateway=active),
            0.0,
        )
    return known


def test_it_is_everything_that_runs_or_waits_over_what_the_ready_workers_can_take() -> None:
    known = directory()
    known.heard(status("v", capacity=12, active_by_gateway={"g": 1, "other": 5}), 0.0)
    known.heard(status("leaving", state=pb.WORKER_STATE_DRAINING, active_by_gateway={"other": 2}), 0.0)
    next(iter(known)).in_flight = 2
    assert load(known, m=3) == {"active": 9, "waiting": 3, "capacity": 16, "ratio": 0.75, "workers_ratio": 0.75}


def test_without_a_ready_worker_there_is_no_ratio() -> None:
    known = directory()
    known.relinked(1.0)
    for found in (load(Directory("g", GONE_AFTER), m=7), load(known, 1.0, m=7)):
        assert found == {"active": 0, "waiting": 7, "capacity": 0, "ratio": None, "workers_ratio": None}


def test_a_model_that_all_workers_share_is_counted_once() -> None:
    known = fleet({"m": details(other=3)}, {"m": details(other=1)})
    assert load(known, m=16) == {
        "active": 4,
        "waiting": 16,
        "capacity": 4,
        "ratio": 5.0,
        "workers_ratio": 0.5,  # more workers would not help those who wait
    }


def test_workers_with_a_model_server_each_add_up() -> None:
    known = fleet(*({"m": details(server, other=4)} for server in (7, 8, 9)))
    assert load(known, m=3)["ratio"] == 15 / 12
    assert load(known, m=3)["capacity"] == 12


def test_the_fullest_name_counts_where_others_have_no_limit() -> None:
    known = fleet({"m": details(other=2)}, {"m": details(other=2)}, models=("free", "m"), capacity=500)
    found = load(known, m=2)
    assert (found["capacity"], found["ratio"], found["workers_ratio"]) == (1000, 1.5, 0.004)


def test_names_of_one_server_wait_for_the_same_places() -> None:
    both = {"m": details(other=3), "n": details(other=1)}
    assert load(fleet(both, models=("m", "n")), m=2, n=6)["ratio"] == 3.0


def test_an_agents_own_limit_grows_with_the_workers() -> None:
    known = fleet(*[{"a": details(server=0, concurrency=2, other=2)}] * 2, models=("a", "m"), capacity=100)
    found = load(known, a=3)
    assert (found["ratio"], found["workers_ratio"]) == (7 / 4, 0.035)


def test_names_that_share_some_of_their_places_are_one_load() -> None:
    """As in a rollout that moves a model to another server."""
    known = fleet({"m": details(7), "n": details(8)}, {"m": details(8), "n": details(8)}, models=("m", "n", "o"))
    assert load(known, m=4, n=2)["ratio"] == 6 / 8
