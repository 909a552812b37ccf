"""What a gateway's metrics say of its queue, its workers and what they serve."""

import time

from prometheus_client import CollectorRegistry

from fleet import logs
from fleet.metrics.names import Served
from fleet.process.turns import Turns
from gateway.faces.bodies import Bodies
from gateway.metrics.state import GatewayState
from gateway.routing.admission import Admission, Claim
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb


class Stage:
    def __init__(self) -> None:
        self.directory = Directory("g", 30.0)
        self.admission = Admission(self.directory, Breakers(), 10, 30.0)
        self.admission.linked = True
        self.logged = logs.Counts()
        settings, served = GatewaySettings(), Served(self.directory.names)
        bodies = Bodies(settings.bodies_memory, Turns())
        parts = self.directory, self.admission, Breakers(), served, bodies
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(GatewayState(settings, *parts, ["a connection"], self.logged))
        self.served = served

    def hear(self, worker_id: str, *models: str, state: pb.WorkerState = pb.WORKER_STATE_READY, limit: int = 0) -> None:
        status = pb.WorkerStatus(worker_id=worker_id, models=models, capacity=4, state=state, active=1)
        for model in models if limit else ():
            status.details[model].concurrency = limit
        self.directory.heard(status, time.monotonic() + 3600)  # it stays fresh, however slow the machine is
        self.served("")
        self.served.gone()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"chatfleet_{name}", labels)


def test_a_model_has_the_workers_and_the_places_that_are_ready() -> None:
    stage = Stage()
    stage.hear("w1", "a", "b")
    stage.hear("w2", "a", limit=2)
    stage.hear("w3", "a", state=pb.WORKER_STATE_DRAINING)
    assert stage.value("model_workers", model="a") == 2
    assert stage.value("model_capacity", model="a") == 6
    assert stage.value("model_workers", model="b") == 1
    assert stage.value("workers", state="ready") == 2
    assert stage.value("workers", state="draining") == 1
    assert stage.value("workers", state="silent") == 0
    assert stage.value("worker_capacity", worker="w1") == 4


def test_a_model_whose_last_worker_left_is_there_with_none() -> None:
    """Else no alert could see that it has gone."""
    stage = Stage()
    stage.hear("w1", "a")
    stage.hear("w1", state=pb.WORKER_STATE_LEFT)
    assert stage.value("model_workers", model="a") == 0
    assert stage.value("worker_capacity", worker="w1") is None


async def test_those_who_wait_are_counted_by_what_they_wait_for() -> None:
    stage = Stage()
    stage.hear("w1", "a", limit=1)
    with await stage.admission.lease(Claim("a")):
        waiting = stage.admission._enqueue(Claim("a"))
        assert stage.value("num_requests_waiting", model="a") == 1
        assert (stage.value("queue_oldest_seconds") or 0) > 0
        stage.admission._give_up(waiting)
    assert stage.value("num_requests_waiting", model="a") == 0


def test_lanes_that_broke_and_connections_are_counted() -> None:
    stage = Stage()
    stage.logged["warning", "lane broken"] = 2
    assert stage.value("lanes_broken_total") == 2
    assert stage.value("http_connections") == 1
    assert stage.value("load_ratio") is None, "there is no worker"
