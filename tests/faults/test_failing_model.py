"""The model behind one worker fails: its requests succeed elsewhere, and it is left alone until it works again."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.faults.crowd import CROWD, Say
from tests.faults.standing import PATIENCE, Standing, settle
from tests.harness.chat import Reply, ask
from tests.harness.fleet import Backend, Fleet, model_entries
from tests.harness.process import Process
from tests.schedule import Schedule

pytestmark = pytest.mark.slow

FEW = 5
"""Requests that a failing model may still get while a hundred are served: trials, 2 s and more apart."""


class Sick:
    """A fleet with one worker more, whose model is a backend of its own."""

    def __init__(self, fleet: Fleet, worker: Process, backend: Backend) -> None:
        self.fleet = fleet
        self.worker = worker
        self.backend = backend

    def attempts(self) -> int:
        """How often the worker tried its model in vain, so far."""
        return self.worker.log().count('event="chat failed"')

    async def answers(self, count: int) -> None:
        """So many messages at once are each answered, word for word."""
        asked = [f"hello {number}" for number in range(count)]
        replies = await asyncio.gather(*[ask(self.fleet.address, content) for content in asked])
        for content, reply in zip(asked, replies, strict=True):
            assert_echo(reply, content)

    async def is_found_out(self, within: float) -> None:
        """Until the worker says that its model fails; every message meanwhile is answered."""
        async with asyncio.timeout(within):
            while not any(worker["failing"] for worker in self.fleet.status()["workers"]):
                await self.answers(12)

    async def works_again(self, within: float) -> None:
        """Until the worker is used again; every message meanwhile is answered."""
        async with asyncio.timeout(within):
            while not [record for record in self.backend.requests() if record["completed"] and record["first_token"]]:
                await self.answers(3)


def assert_echo(reply: Reply, content: str) -> None:
    assert reply.status == 200, reply.lines
    assert reply.text == f"You said: {content}"
    assert reply.last["done"] is True


@pytest.fixture(scope="module")
def sick(plain_standing: Standing) -> Iterator[Sick]:
    with plain_standing.whole() as fleet:
        backend = Backend(fleet.folder)
        backend.process.name = "sick-backend"
        backend.start()
        models = fleet.folder / "sick.yaml"
        models.write_text(yaml.safe_dump(model_entries(backend.url, "sick"), sort_keys=False))
        worker = fleet.new_worker(WORKER_MODELS=str(models))
        worker.start()
        settle(lambda: len(fleet.ready_workers()) == 3, "the worker is there too")
        try:
            yield Sick(fleet, worker, backend)
        finally:
            backend.process.end()


@pytest.mark.parametrize("failure", ["answers 500", "refuses connections"])
async def test_a_model_that_fails_behind_one_worker_fails_no_request(sick: Sick, figures: Say, failure: str) -> None:
    if failure == "answers 500":
        sick.backend.say(Schedule(status=500))
    else:
        sick.backend.process.kill()
    before = sick.attempts()
    await sick.is_found_out(PATIENCE)
    learnt = sick.attempts()
    began = time.monotonic()
    await sick.answers(CROWD)
    after = sick.attempts() - learnt
    figures(f"{learnt - before} requests failed there until it was left alone; {after} more during the next {CROWD}")
    assert after <= FEW

    if failure == "answers 500":
        sick.backend.say(None)
    else:
        sick.backend.start()
    sick.backend.forget()
    mended = time.monotonic()
    await sick.works_again(PATIENCE)
    figures(f"used again {time.monotonic() - mended:.2f} s after it was mended, {mended - began:.2f} s after the crowd")
