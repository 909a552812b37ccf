"""What a worker reports of itself, and when."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

from protos import chat_pb2 as pb
from tests.harness.waiting import until
from worker.contract.route import Route
from worker.serving.health import Judge
from worker.serving.offer import Offer
from worker.serving.status import Heartbeat


def heartbeat(sent: list[pb.WorkerStatus], draining: bool = False, **fields: Any) -> Heartbeat:
    service: Any = None
    registry = SimpleNamespace(
        offers={"a": Offer(service, Route("host", 3)), "b": Offer(service, **{"route": Route("host", 4), **fields})},
        capacity=7,
        active=2,
        draining=draining,
        started_total=9,
        judge=Judge(),
        counts=lambda: {"a": Counter(g=1), "b": Counter(g=1, h=2)},
    )
    return Heartbeat("w", "1.2.3", registry, sent.append, interval=0.005)  # type: ignore[arg-type]


def test_a_status_has_all_that_gateways_choose_by() -> None:
    sent: list[pb.WorkerStatus] = []
    heartbeat(sent).beat()
    assert sent == [
        pb.WorkerStatus(
            worker_id="w",
            models=["a", "b"],
            capacity=7,
            active=2,
            state=pb.WORKER_STATE_READY,
            version="1.2.3",
            active_by_gateway={"g": 2, "h": 2},
            started_total=9,
            routes=[3, 4],
        )
    ]


def test_a_worker_that_drains_or_leaves_says_so() -> None:
    sent: list[pb.WorkerStatus] = []
    beating = heartbeat(sent, draining=True)
    beating.beat()
    beating.leave()
    assert [status.state for status in sent] == [pb.WORKER_STATE_DRAINING, pb.WORKER_STATE_LEFT]


async def test_it_is_repeated_until_cancelled() -> None:
    sent: list[pb.WorkerStatus] = []
    task = asyncio.create_task(heartbeat(sent).run())
    await until(lambda: len(sent) >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_status_names_the_endpoints_of_models_that_have_others_than_chat() -> None:
    sent: list[pb.WorkerStatus] = []
    heartbeat(sent, endpoints=("embeddings",)).beat()
    assert {model: list(found.names) for model, found in sent[0].endpoints.items()} == {"b": ["embeddings"]}


def test_a_status_describes_what_is_described_and_counts_what_is_limited() -> None:
    sent: list[pb.WorkerStatus] = []
    heartbeat(sent, description="Writes.").beat()
    heartbeat(sent, concurrency=4).beat()
    heartbeat(sent, concurrency=4, route=Route("host", 4, server=5)).beat()
    assert [dict(status.details) for status in sent] == [
        {"b": pb.Details(description="Writes.")},
        {"b": pb.Details(concurrency=4, active_by_gateway={"g": 1, "h": 2})},
        {"b": pb.Details(concurrency=4, active_by_gateway={"g": 1, "h": 2}, server=5)},
    ]
