"""Faults, each of which makes some alerts fire, and how it is mended."""

import asyncio
import contextlib
import os
import resource
import unittest.mock
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil

from fleet.bus import relay, topics
from fleet.security.identity import Identity
from identities.authority import Change
from protos import chat_pb2 as pb
from tests.harness.chat import JSON, PATH, ask, body_of
from tests.harness.http import Address, Connection
from tests.harness.process import Process
from tests.harness.waiting import eventually
from tests.monitoring.watched import Watched
from tests.schedule import Schedule
from tests.security.test_members import Peer

Mend = Callable[[], Awaitable[None]]
Fault = Callable[[Watched], AbstractAsyncContextManager[Mend]]
"""Breaks something; gives what mends it. What was asked of the fleet goes on until it is left."""

PATIENCE = 150.0
"""Seconds for a process to be there again, on a machine that others use too."""
SLOW = 11.0
"""Seconds: more than the first token may take."""
LARGE = 7 * 1024 * 1024
"""Bytes of a request: six are more than the host holds of a sender for a member that reads nothing."""


# ------------------------------------------------------------ requests


@asynccontextmanager
async def asking(
    address: Address, question: Schedule | str, pause: float = 0.1, **fields: object
) -> AsyncIterator[None]:
    """Ask again and again, however it ends, and without waiting for an answer before the next question."""
    questions: set[asyncio.Task[None]] = set()

    async def one() -> None:
        with contextlib.suppress(OSError, EOFError, AssertionError, TimeoutError):
            await ask(address, question, **fields)

    async def repeat() -> None:
        while True:
            task = asyncio.create_task(one())
            questions.add(task)
            task.add_done_callback(questions.discard)
            await asyncio.sleep(pause)

    asker = asyncio.create_task(repeat())
    try:
        yield
    finally:
        asker.cancel()
        for task in [*questions]:
            task.cancel()
        await asyncio.gather(asker, *questions, return_exceptions=True)


@asynccontextmanager
async def dead_model(watched: Watched) -> AsyncIterator[Mend]:
    """The server of a model is killed."""
    watched.sick.process.kill()

    async def mend() -> None:
        await asyncio.to_thread(watched.sick.start)

    async with asking(watched.address, "hello", model="sick"):
        yield mend


@asynccontextmanager
async def slow_model(watched: Watched) -> AsyncIterator[Mend]:
    """A model takes long to its first token."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asking(watched.address, Schedule(first_delay=SLOW), 0.5, model="slow"))
        yield stack.aclose


@asynccontextmanager
async def full_model(watched: Watched) -> AsyncIterator[Mend]:
    """More requests than a model takes: they wait for long, and further ones are refused."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asking(watched.address, Schedule(hang=True), model="narrow"))
        yield stack.aclose


@asynccontextmanager
async def clients_that_read_nothing(watched: Watched) -> AsyncIterator[Mend]:
    async with contextlib.AsyncExitStack() as stack:

        async def stall(count: int) -> None:
            for _ in range(count):
                client = Connection(watched.address, limit=1024, receive_buffer=4096)
                connection = await stack.enter_async_context(client)
                body = body_of(Schedule(tokens=20_000, size=2_000), model="test")
                await connection.request("POST", PATH, body, JSON)

        stalled = 'chatfleet_requests_total{code="client_stalled"}'
        await stall(1)  # a counter is seen to grow once it is there
        await eventually(lambda: watched.prometheus.query(stalled), PATIENCE, "the first is counted")
        await stack.enter_async_context(again(lambda: stall(1), 0.5))
        yield stack.aclose


# ------------------------------------------------------------ members


@asynccontextmanager
async def peer(watched: Watched, role: str, agent_type: str) -> AsyncIterator[Peer]:
    """A member that sends what the test wants."""
    files = watched.folder / role
    identity = Identity(ca=files / "ca.pem", cert=files / "cert.pem", key=files / "key.pem")
    address = ("127.0.0.1", watched.fleet.host_port)
    peer = Peer(address, (files / "token").read_text().strip(), identity=identity)
    try:
        await peer.open()
        await peer.register(agent_type)
        await peer.dial()
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def flooded_worker(watched: Watched) -> AsyncIterator[Mend]:
    """A worker hangs, and a gateway that does not notice sends it more than the host holds for it."""
    worker = watched.fleet.workers[3]
    (known,) = (each for each in watched.fleet.ready_workers() if each["models"] == ["heavy"])

    async def mend() -> None:
        worker.thaw()
        await whole_again(watched)

    async with peer(watched, "gateway", "gateway.flood") as gateway:
        worker.freeze()
        try:
            for number in range(6):
                request = pb.ChatHistory(request_id="flood", attempt=number, model="heavy")
                request.messages.add().content.add(text="x" * LARGE)
                await gateway.publish(f"chat.{known['id']}", request)
            yield mend
        finally:
            worker.thaw()


@asynccontextmanager
async def garbage(watched: Watched) -> AsyncIterator[Mend]:
    """A worker sends statuses that cannot be read, as one with a defect would."""
    frame = relay.pack_bytes(topics.WORKERS.type, pb.WorkerStatus.DESCRIPTOR.full_name, b"\xff" * 40)
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(peer(watched, "worker", "my_agent.garbage"))
        assert worker.relay is not None
        worker.relay.send(frame)
        yield stack.aclose


@asynccontextmanager
async def stranger(watched: Watched) -> AsyncIterator[Mend]:
    """Somebody tries to join without the token."""
    worker = watched.fleet.new_worker(FLEET_TOKEN_FILE="")
    watched.fleet.workers.remove(worker)
    worker.start()

    async def mend() -> None:
        await asyncio.to_thread(worker.end)

    try:
        yield mend
    finally:
        await mend()


# ------------------------------------------------------------ files, limits


@asynccontextmanager
async def broken_keys(watched: Watched) -> AsyncIterator[Mend]:
    """Somebody makes a mistake in the key file."""
    good = watched.keys.read_text()

    async def mend() -> None:
        watched.keys.write_text(good)

    watched.keys.write_text("keys: [")
    yield mend


@asynccontextmanager
async def old_certificates(watched: Watched) -> AsyncIterator[Mend]:
    """Certificates were not renewed for long."""

    async def mend() -> None:
        assert await asyncio.to_thread(watched.authority.update), "what ends soon is renewed"

    with unittest.mock.patch("identities.authority.CERT_DAYS", 2):
        await asyncio.to_thread(watched.authority.update, Change.RENEW)
    yield mend


@asynccontextmanager
async def few_files(watched: Watched) -> AsyncIterator[Mend]:
    """A process has nearly as many files open as it may."""
    process = psutil.Process(watched.fleet.host.pid)
    before = process.rlimit(resource.RLIMIT_NOFILE)

    async def mend() -> None:
        process.rlimit(resource.RLIMIT_NOFILE, before)

    process.rlimit(resource.RLIMIT_NOFILE, (int(process.num_fds() * 1.15), before[1]))
    try:
        yield mend
    finally:
        await mend()


@asynccontextmanager
async def little_memory(watched: Watched) -> AsyncIterator[Mend]:
    """A container has hardly more memory than its process uses."""
    process = psutil.Process(watched.fleet.workers[1].pid)
    parent, limit = control_groups() or (Path(), "")
    group = parent / f"chatfleet-test-{process.pid}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(process.pid))
        (group / limit).write_text(str(int(process.memory_info().rss * 1.1)))

        async def mend() -> None:
            (group / limit).write_text(str(process.memory_info().rss * 4))

        yield mend
    finally:
        with contextlib.suppress(ProcessLookupError):
            (parent / "cgroup.procs").write_text(str(process.pid))
        await eventually(lambda: not (group / "cgroup.procs").read_text(), PATIENCE, "its control group is empty")
        group.rmdir()


def control_groups() -> tuple[Path, str] | None:
    """Where control groups with a limit of memory can be made, and the name of the limit; None where they cannot."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        folder = Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
        limit = "memory.limit_in_bytes" if controllers == "memory" else "memory.max"
        if controllers in ("memory", "") and (folder / limit).exists() and os.access(folder / limit, os.W_OK):
            return folder, limit
    return None


@asynccontextmanager
async def blocked_loop(watched: Watched) -> AsyncIterator[Mend]:
    """Something blocks a worker's event loop for 0.3 s, again and again."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(again(lambda: standing_still(watched.fleet.workers[0]), 0.7))
        yield stack.aclose


async def standing_still(process: Process) -> None:
    process.freeze()
    try:
        await asyncio.sleep(0.3)
    finally:
        process.thaw()


# ------------------------------------------------------------ links


@asynccontextmanager
async def lossy_link(watched: Watched) -> AsyncIterator[Mend]:
    """Acknowledgements come late, again and again."""
    far = [wire.far for wire in watched.cable.wires]

    async def hold() -> None:
        for proxy in far:
            proxy.hold("down")
        try:
            await asyncio.sleep(1.5)
        finally:
            for proxy in far:
                proxy.flow()

    reply = Schedule(tokens=200, delay=0.02)
    async with asking(watched.address, reply, 0.5, model="wired"), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(again(hold, 0.5))
        yield stack.aclose


@asynccontextmanager
async def closed_relay(watched: Watched) -> AsyncIterator[Mend]:
    """A firewall lets a member through to the host's first port only."""
    wire = watched.cable.wires[1].near

    async def mend() -> None:
        wire.flow()

    wire.refuse()
    wire.sever()
    try:
        yield mend
    finally:
        wire.flow()


# ------------------------------------------------------------ processes


@asynccontextmanager
async def crash_loop(watched: Watched) -> AsyncIterator[Mend]:
    """A gateway ends and is started again, and again."""
    gateway = watched.fleet.gateways[1]
    started = 'process_start_time_seconds{{instance="{}:{}"}}'.format(*watched.fleet.addresses[1])

    async def crash() -> None:
        before = await asyncio.to_thread(watched.prometheus.value, started)
        gateway.kill()
        gateway.start()
        await eventually(
            lambda: watched.prometheus.value(started) not in (None, before), PATIENCE, "its new life is seen"
        )

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(again(crash, 0))

        async def mend() -> None:
            await stack.aclose()
            await whole_again(watched)

        yield mend


def killed(choose: Callable[[Watched], list[Process]]) -> Fault:
    """Processes crash, and nobody starts them again for a while."""

    @asynccontextmanager
    async def fault(watched: Watched) -> AsyncIterator[Mend]:
        processes = choose(watched)

        async def mend() -> None:
            for process in processes:
                process.start()
            await whole_again(watched)

        for process in processes:
            process.kill()
        yield mend

    return fault


async def whole_again(watched: Watched) -> None:
    await eventually(watched.is_whole, PATIENCE, "every gateway knows every worker")


@asynccontextmanager
async def again(action: Callable[[], Awaitable[None]], pause: float) -> AsyncIterator[None]:
    """Do it again and again, with pauses."""

    async def repeat() -> None:
        while True:
            await action()
            await asyncio.sleep(pause)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
