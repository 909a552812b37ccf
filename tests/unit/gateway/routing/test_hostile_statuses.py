"""Statuses of the largest size take no more steps than a gateway's loop has time for, however fast the machine is."""

import gc
import sys
from collections.abc import Callable

from gateway.routing.directory import NAME, Directory
from gateway.routing.health import health
from gateway.routing.load import describe_load
from protos import chat_pb2 as pb

CALLS = 120_000
"""Of functions, Python's and C's: about 50 ms."""

MODELS = [f"{number:03x}" for number in range(1000)]
LARGEST = 250 * 1024


def calls(work: Callable[[], object]) -> int:
    """How many functions it calls, without those that a garbage collection calls, which comes when it comes."""
    count = 0

    def profile(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def status(worker: str = "w") -> pb.WorkerStatus:
    return pb.WorkerStatus(worker_id=worker, models=MODELS, capacity=1, state=pb.WORKER_STATE_READY)


def limited(servers: int) -> Directory:
    """Thirty workers, each with a thousand limited names."""
    known, told = Directory("g", 30.0), status()
    for number, name in enumerate(MODELS):
        told.details[name].CopyFrom(pb.Details(concurrency=1, server=1 + number % servers, active_by_gateway={"b": 1}))
    for number in range(30):
        told.worker_id = f"w{number}"
        known.heard(told, 0.0)
    return known


def test_a_status_that_names_the_same_failure_again_and_again() -> None:
    told = status()
    while told.ByteSize() < LARGEST:
        told.failing.extend([pb.Failing(name=MODELS[-1], endpoint="chat", code="a")] * 100)
    known = Directory("g", 30.0)
    assert calls(lambda: known.heard(told, 0.0)) < CALLS


def test_many_workers_with_many_names_of_one_server_or_of_many() -> None:
    waiting = dict.fromkeys(MODELS, 1)
    for servers in (1, len(MODELS)):
        known = limited(servers)
        told = status()
        for name in MODELS:
            told.details[name].CopyFrom(pb.Details(concurrency=1, server=1, active_by_gateway={"b": 1}))
        assert calls(lambda known=known, told=told: known.heard(told, 0.0)) < CALLS  # type: ignore[misc]
        assert calls(lambda known=known: health(known, 0.0)) < CALLS  # type: ignore[misc]
        assert calls(lambda known=known: describe_load(known, known.ready(0.0), waiting)) < CALLS  # type: ignore[misc]


def test_long_names_are_not_remembered() -> None:
    known = Directory("g", 30.0)
    for number in range(10):
        known.heard(pb.WorkerStatus(worker_id="w", models=["a", f"{number}" * (NAME + 1)]), 0.0)
    assert [name for name, _ in known._named] == ["a"]
