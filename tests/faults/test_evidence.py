"""Each row of the operators' table of faults is seen in the metric and in the log line that it names."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.faults.links import Cable
from tests.faults.standing import PATIENCE, settle
from tests.faults.test_readers import LONG_REPLY, tight_reader
from tests.harness.chat import ask, streaming
from tests.harness.fleet import Address, Fleet
from tests.harness.metrics import Metrics, scrape
from tests.harness.process import REPOSITORY, Process
from tests.schedule import Schedule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
LONG = Schedule(tokens=400, delay=0.05)


class Seen:
    """A fleet whose members all have metrics."""

    def __init__(self) -> None:
        settings = {"WORKER_CAPACITY": "2", "GATEWAY_QUEUE_LIMIT": "1", "GATEWAY_FIRST_TOKEN_TIMEOUT": "10"}
        settings |= {"GATEWAY_HEADER_TIMEOUT": "5", "GATEWAY_STALL_TIMEOUT": "5"}
        self.fleet = Fleet(2, settings, start=False, watched=True)

    @property
    def whole(self) -> bool:
        return len(self.fleet.ready_workers()) == 2 and self.fleet.is_idle()

    def metrics(self, process: str) -> list[Metrics]:
        """Of each process of that kind that answers."""
        addresses = {"gateway-0": self.fleet.address, **self.fleet.health}
        found = []
        for address in (address for name, address in addresses.items() if name.startswith(process)):
            try:
                found.append(scrape("http://{}:{}".format(*address)))
            except OSError:
                continue
        return found

    def value(self, process: str, name: str, **labels: str) -> float:
        return sum(metrics.value(name, **labels) for metrics in self.metrics(process))

    def exceeds(self, value: float, process: str, name: str, labels: dict[str, str]) -> bool:
        return self.value(process, name, **labels) > value

    def says(self, process: str, pattern: str, since: dict[str, int]) -> bool:
        return re.search(pattern, self.log(process, since)) is not None

    def log(self, process: str, since: dict[str, int] | None = None) -> str:
        """What each process of that kind has logged since its log had that size."""
        fleet = self.fleet
        members = {"gateway": [fleet.gateway], "host": [fleet.host], "worker": fleet.workers}[process]
        return "".join(member.log((since or {}).get(member.name, 0)) for member in members)

    async def runner(self) -> Process:
        """The worker that runs something."""

        def found() -> Process | None:
            ids = [worker["id"] for worker in self.fleet.status()["workers"] if worker["active"]]
            return next((worker for worker in self.fleet.workers if ids and ids[0] in worker.log()), None)

        async with asyncio.timeout(PATIENCE):
            while (worker := await asyncio.to_thread(found)) is None:
                await asyncio.sleep(0.05)
        return worker


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    made = Seen()
    with made.fleet:
        made.fleet.start()
        settle(lambda: made.whole, "the fleet is there")
        yield made


async def settled(state: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(settle, state, what)


# ------------------------------------------------------------ faults


async def die_before_a_token(seen: Seen) -> None:
    seen.fleet.backend.process.freeze()  # so that no token can come before the kill
    try:
        asking = asyncio.create_task(ask(seen.fleet.address, Schedule()))
        worker = await seen.runner()
        worker.kill()
    finally:
        seen.fleet.backend.process.thaw()
    assert (await asking).last["done"]
    worker.start()


async def die_in_a_stream(seen: Seen) -> None:
    async with streaming(seen.fleet.address, LONG) as stream:
        assert await stream.line()
        worker = await seen.runner()
        worker.kill()
        assert (await stream.rest())[-1]["error"]["code"] == "worker_lost"
    worker.start()


async def hang(seen: Seen) -> None:
    worker, since = seen.fleet.workers[0], seen.fleet.log_sizes()
    worker.freeze()
    await settled(lambda: seen.value("gateway", "chatfleet_workers", state="silent") == 1, "it is silent")
    await settled(lambda: "LEAVE_CAUSE_SILENT" in seen.log("host", since), "the host notices")
    worker.thaw()


async def lose_the_host(seen: Seen) -> None:
    seen.fleet.host.kill()
    await settled(lambda: seen.fleet.readiness()[0] == 503, "the gateway notices")
    seen.fleet.host.start()


@contextlib.asynccontextmanager
async def further_gateway(seen: Seen, **settings: str) -> AsyncIterator[tuple[Process, Address]]:
    """One that knows the workers, and its address."""
    fleet = seen.fleet
    gateway = fleet.new_gateway(**settings)
    address = fleet.addresses[-1]
    gateway.start()
    try:
        await settled(lambda: bool((fleet.status(-1) or {}).get("workers")), "it knows the workers")
        yield gateway, address
    finally:
        await asyncio.to_thread(gateway.end)
        fleet.gateways.remove(gateway)
        fleet.addresses.remove(address)


async def lose_a_gateway(seen: Seen) -> None:
    async with further_gateway(seen) as (gateway, address), streaming(address, LONG) as stream:
        assert await stream.line()
        gateway.kill()


async def cut_a_gateway_off(seen: Seen) -> None:
    cable = Cable("127.0.0.4", seen.fleet.host_port, seen.fleet.relay_port)
    with cable.laid() as dials:
        async with further_gateway(seen, FLEET_HOST=dials) as (_, address), streaming(address, LONG) as stream:
            assert await stream.line()
            since = seen.fleet.log_sizes()
            with cable.severed():
                await settled(lambda: "gateway gone" in seen.log("worker", since), "its worker gives it up")
            assert (await stream.rest())[-1]["error"]["code"] in {"worker_stopped", "lane_broken"}


def answer(schedule: Schedule, code: str, model: str = "test") -> Callable[[Seen], Awaitable[None]]:
    async def fail(seen: Seen) -> None:
        assert (await ask(seen.fleet.address, schedule, model=model)).error["code"] == code

    return fail


async def leave(seen: Seen) -> None:
    async with streaming(seen.fleet.address, LONG) as stream:
        assert await stream.line()
        stream.reset()


async def read_nothing(seen: Seen) -> None:
    async with tight_reader(seen.fleet.address, Schedule(tokens=LONG_REPLY)):
        await settled(lambda: "code=client_stalled" in seen.log("gateway"), "it is cut off")


async def say_nothing(seen: Seen) -> None:
    with socket.create_connection(seen.fleet.address), socket.create_connection(seen.fleet.address) as garbage:
        garbage.sendall(b"what is this?\r\n\r\n")
        await settled(lambda: "connection without a request" in seen.log("gateway"), "the silent one is closed")


async def be_too_many(seen: Seen) -> None:
    asked = Schedule(tokens=10, delay=0.2)
    replies = await asyncio.gather(*[ask(seen.fleet.address, asked) for _ in range(8)])
    assert {reply.status for reply in replies} == {200, 429}


@dataclass(frozen=True)
class Fault:
    row: str
    """How its line in the table begins."""
    inflict: Callable[[Seen], Awaitable[None]]
    metrics: tuple[tuple[str, str, dict[str, str]], ...]
    """Which rise: the process, the name, labels."""
    lines: tuple[tuple[str, str], ...]
    """Of which logs hold more than before: the process, a pattern."""


def request(code: str) -> tuple[str, str, dict[str, str]]:
    return "gateway", "chatfleet_requests_total", {"code": code}


def run(code: str) -> tuple[str, str, dict[str, str]]:
    return "worker", "chatfleet_runs_total", {"code": code}


FAULTS = [
    Fault(
        "a worker dies before a first token",
        die_before_a_token,
        (("gateway", "chatfleet_retries_total", {"code": "worker_lost"}),),
        (("gateway", 'event="trying elsewhere".* code=worker_lost'), ("gateway", 'event="worker gone"')),
    ),
    Fault(
        "a worker dies in the middle of a stream",
        die_in_a_stream,
        (request("worker_lost"), ("host", "chatfleet_host_members_left_total", {"kind": "worker", "cause": "closed"})),
        (("gateway", "event=request .*code=worker_lost"), ("host", 'event="member left" kind=worker')),
    ),
    Fault(
        "a worker hangs",
        hang,
        (("host", "chatfleet_host_members_left_total", {"kind": "worker", "cause": "silent"}),),
        (("host", 'event="member left" .*LEAVE_CAUSE_SILENT'),),
    ),
    Fault(
        "the host dies",
        lose_the_host,
        (
            ("gateway", "chatfleet_link_losses_total", {}),
            ("worker", "chatfleet_link_losses_total", {}),
        ),
        (("gateway", 'event="lost the host"'), ("worker", 'event="lost the host"')),
    ),
    Fault(
        "a gateway loses its link",
        cut_a_gateway_off,
        (("worker", "chatfleet_log_events_total", {"event": "gateway gone"}), run("cancelled")),
        (("worker", 'event="gateway gone"'),),
    ),
    Fault(
        "a gateway dies",
        lose_a_gateway,
        (("worker", "chatfleet_log_events_total", {"event": "gateway gone"}), run("cancelled")),
        (("worker", 'event="gateway gone"'),),
    ),
    Fault(
        "the model refuses or fails",
        answer(Schedule(status=500), "model_failed"),
        (request("model_failed"), run("model_failed")),
        (("gateway", "event=request .*code=model_failed"), ("worker", 'event="chat failed" .*code=model_failed')),
    ),
    Fault(
        "the model cannot be reached",
        answer(Schedule(), "model_unreachable", "nowhere"),
        (request("model_unreachable"), ("worker", "chatfleet_model_calls_total", {"code": "model_unreachable"})),
        (("worker", 'event="chat failed" .*code=model_unreachable .*reason='),),
    ),
    Fault(
        "the model's server sends garbage",
        answer(Schedule(end_after=5), "model_stream_broken"),
        (request("model_stream_broken"), run("model_stream_broken")),
        (("worker", 'event="chat failed" .*code=model_stream_broken'),),
    ),
    Fault(
        "the model hangs",
        answer(Schedule(hang=True), "first_token_timeout"),
        (request("first_token_timeout"), run("cancelled")),
        (("gateway", "event=request .*code=first_token_timeout"),),
    ),
    Fault(
        "a client disconnects",
        leave,
        (request("client_gone"), run("cancelled")),
        (("gateway", "event=request .*code=client_gone"),),
    ),
    Fault(
        "a client reads nothing",
        read_nothing,
        (request("client_stalled"),),
        (("gateway", "event=request .*code=client_stalled"),),
    ),
    Fault(
        "a client sends no request",
        say_nothing,
        (
            ("gateway", "chatfleet_log_events_total", {"event": "connection without a request"}),
            ("gateway", "chatfleet_log_events_total", {"event": "request refused"}),
        ),
        (
            ("gateway", 'event="connection without a request"'),
            ("gateway", 'event="request refused".*code=invalid_http'),
        ),
    ),
    Fault(
        "every worker is at capacity",
        be_too_many,
        (request("queue_full"), ("gateway", "chatfleet_request_queue_time_seconds_sum", {})),
        (("gateway", "event=request .*code=queue_full"),),
    ),
]

ELSEWHERE = {
    "the host's server or listener fails": "the process ends: `up` is 0",
    "a worker has given up a lane": "tests/unit/gateway/metrics/test_state.py",
    "a member reads nothing from the host": "tests/unit/host/test_metrics.py",
    "a member sends more than another can read": "tests/unit/host/test_servicer.py",
    "a member does what its role does not allow": "tests/unit/host/test_servicer.py",
    "a member sends in another's name": "tests/unit/fleet/metrics/test_process.py",
    "a member cannot reach the relay's port": "tests/unit/fleet/metrics/test_process.py",
}
"""Rows that take a member which misbehaves, and where what counts them is tested."""


def rows() -> dict[str, list[str]]:
    """The cells of the table's lines, by the first."""
    table = OPERATIONS[OPERATIONS.index("## Faults") : OPERATIONS.index("## What a provider says")]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {line[0]: line for line in lines if line[0] != "fault"}


def test_every_row_of_the_table_is_shown_somewhere() -> None:
    known = [fault.row for fault in FAULTS] + list(ELSEWHERE)
    for row in rows():
        assert [name for name in known if row.startswith(name)], row


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.row)
def test_the_table_names_the_metrics(fault: Fault) -> None:
    (cells,) = (cells for row, cells in rows().items() if row.startswith(fault.row))
    for _, name, _ in fault.metrics:
        assert f"`{name.removesuffix('_sum')}" in cells[3], name


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.row)
async def test_a_fault_is_seen_in_a_metric_and_in_the_log(fault: Fault, seen: Seen) -> None:
    await settled(lambda: seen.whole, "the fleet is whole")
    since = seen.fleet.log_sizes()
    values = [seen.value(process, name, **labels) for process, name, labels in fault.metrics]
    await fault.inflict(seen)
    for (process, name, labels), before in zip(fault.metrics, values, strict=True):
        await settled(partial(seen.exceeds, before, process, name, labels), f"{name} {labels} rises")
    for process, pattern in fault.lines:
        await settled(partial(seen.says, process, pattern, since), f"{pattern} is in the log")
