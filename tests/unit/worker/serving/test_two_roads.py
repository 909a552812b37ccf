"""A gateway's requests and its acks reach the worker by two roads, and may overtake each other."""

import asyncio
from collections import deque
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from fleet.lane import Inbox, Outbox
from fleet.lane.inbox import IncomingReply
from protos import chat_pb2 as pb
from tests.harness.virtual import VirtualLoop
from worker.contract.observer import Observer
from worker.contract.sink import Sink
from worker.serving.gateway_watch import GatewayWatch
from worker.serving.offer import Offer
from worker.serving.registry import Registry


class Endless:
    """A service whose runs end only when they are cancelled."""

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        await asyncio.Event().wait()
        return pb.Done()


class Roads:
    """A gateway, a worker, and what is on its way between them: in order on each road, and by no other rule."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.requests = deque[pb.ChatHistory]()
        self.acks = deque[pb.ChunkAck]()
        self.batches = deque[pb.ChunkBatch]()
        clock = asyncio.get_running_loop().time
        self.inbox = Inbox("g", lambda ack, _: self.acks.append(ack), clock)
        outbox = Outbox("w", lambda _, batch: self.batches.append(batch), 0.0, clock)
        outbox.link_up()
        self.registry = Registry({"m": Offer(Endless())}, outbox, 1000, group, Observer())
        self.watch = GatewayWatch(self.registry, outbox, 1e9, 1e9)
        self.open: dict[str, IncomingReply] = {}
        self._ids = count(1)

    def ask(self) -> None:
        request = pb.ChatHistory(request_id=f"{next(self._ids)}", attempt=1, reply_to="g", model="m")
        self.open[request.request_id] = self.inbox.open("w", request.request_id, 1)
        self.requests.append(request)

    def close(self) -> None:
        """The client goes, and what tells the worker so is lost."""
        if self.open:
            self.open.pop(next(iter(self.open))).close()

    def report(self) -> None:
        self.inbox.link_up()

    def deliver_request(self) -> None:
        if self.requests:
            self.registry.begin(self.requests.popleft())

    def deliver_ack(self) -> None:
        if self.acks:
            self.watch.acknowledged(self.acks.popleft())

    def deliver_batch(self) -> None:
        if self.batches:
            self.inbox.receive(self.batches.popleft())

    @property
    def running(self) -> set[str]:
        return {run.request_id for run in self.registry._runs.values()}


STEPS = ["ask", "close", "report", "deliver_request", "deliver_ack", "deliver_batch"]


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_whatever_overtakes_what_exactly_the_runs_that_are_wanted_go_on(steps: list[str]) -> None:
    async def take() -> None:
        async with asyncio.TaskGroup() as group:
            roads = Roads(group)
            for step in steps:
                arrived = roads.running
                getattr(roads, step)()
                await asyncio.sleep(0.001)
                assert arrived & {*roads.open} <= roads.running
            roads.report()
            await asyncio.sleep(0.001)
            while roads.requests or roads.batches or roads.acks:
                roads.deliver_request()
                roads.deliver_batch()
                roads.deliver_ack()
                await asyncio.sleep(0.001)
            assert roads.running == {*roads.open}
            roads.registry.cancel_all("shutdown")

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(take())
