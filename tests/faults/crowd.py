"""Many clients at once, each of which notes what it reads and when."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from tests.harness.chat import JSON, PATH, Line, Reply, Stream, assert_complete, assert_ends_once, body_of
from tests.harness.fleet import BackendClient, Fleet
from tests.harness.http import Address, Connection
from tests.harness.waiting import SOON, eventually, until
from tests.schedule import Schedule, reply_text

CROWD = 100
"""Streams at once that a fault must be shown to spare."""

Say = Callable[[str], None]
T = TypeVar("T")


class HasBackend(Protocol):
    """A fleet, wherever it runs, whose model is the test backend."""

    @property
    def backend(self) -> BackendClient: ...


def schedules(name: str, count: int = CROWD, **fields: float) -> list[Schedule]:
    """So many schedules alike, each with its own tag and its own text."""
    return [Schedule(tag=f"{name}-{number}", **fields) for number in range(count)]  # type: ignore[arg-type]


class Client:
    """One request, with further ``fields``, over a connection of its own. Cancelling its task closes the connection."""

    def __init__(self, address: Address, schedule: Schedule, **fields: object) -> None:
        self.address = address
        self.schedule = schedule
        self.fields = fields
        self.reply: Reply | None = None
        """As far as it has been read."""
        self.broken: Exception | None = None
        """How the connection broke, if the answer did not end."""
        self.heard_at: list[float] = []
        self.sent = False
        """Whether the request has been written to the connection."""
        self.ended_at: float | None = None
        self.task: asyncio.Task[None]

    @property
    def tag(self) -> str:
        return self.schedule.tag or "a chat without a tag"

    @property
    def has_text(self) -> bool:
        return self.reply is not None and any(line["content"] for line in self.reply.lines)

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def whole(self) -> Reply:
        """The answer, which must have ended."""
        assert self.broken is None, f"{self.tag}: {self.broken!r}"
        assert self.ended, self.tag
        assert self.reply is not None
        return self.reply

    @property
    def longest_pause(self) -> float:
        """Seconds between two lines, at most."""
        pauses = zip(self.heard_at, self.heard_at[1:], strict=False)
        return max((after - before for before, after in pauses), default=0.0)

    async def run(self) -> None:
        """Ask and read to the end, or to where the connection breaks."""
        try:
            async with Connection(self.address) as connection:
                connection.send("POST", PATH, body_of(self.schedule, **self.fields), JSON)
                self.sent = True
                response = await connection.answer()
                self.reply = Reply(response.status, response.headers, [])
                if response.headers["content-type"].startswith("application/x-ndjson"):
                    stream = Stream(connection, response)
                    while (line := await stream.line()) is not None:
                        self._hear(line)
                else:
                    self._hear(await response.json())
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.broken = error
        self.ended_at = time.monotonic()

    def assert_complete(self) -> None:
        """The answer came whole, byte for byte, and ended once."""
        assert_complete(self.whole, self.schedule)

    def _hear(self, line: Line) -> None:
        assert self.reply is not None
        self.heard_at.append(time.monotonic())
        self.reply.lines.append(line)


class Crowd(Sequence[Client]):
    """Clients that ask at the same time."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients = list(clients)

    def __getitem__(self, index: int) -> Client:  # type: ignore[override]
        return self._clients[index]

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def unfinished(self) -> int:
        return sum(not client.ended for client in self)

    @property
    def longest_pause(self) -> float:
        return max(client.longest_pause for client in self)

    async def all_have_text(self, within: float = SOON) -> None:
        """Until every client has read something, and none has ended yet."""
        await until(lambda: all(client.has_text or client.ended for client in self), within, "every client has text")
        assert self.unfinished == len(self), [client.reply for client in self if client.ended][:3]

    async def all_hear_more(self, than: float, within: float = SOON) -> None:
        """Until every client has read something after the time ``than``."""
        await until(lambda: all(client.heard_at[-1] > than for client in self), within, "every client hears more")

    async def end(self, within: float = 60.0) -> None:
        """Until every answer has ended."""
        await until(lambda: not self.unfinished, within, "every answer has ended")

    async def leave(self) -> float:
        """Close every connection; when that was."""
        for client in self:
            client.task.cancel()
        left = time.monotonic()
        await asyncio.gather(*[client.task for client in self], return_exceptions=True)
        return left

    def assert_complete(self) -> None:
        """Every answer came whole, byte for byte, and ended once."""
        for client in self:
            client.assert_complete()


@contextlib.asynccontextmanager
async def crowd(address: Address, asked: Sequence[Schedule]) -> AsyncIterator[Crowd]:
    """Let a crowd ask; leaving the context waits for the end of every answer."""
    clients = Crowd(Client(address, schedule) for schedule in asked)
    async with asyncio.TaskGroup() as group:
        for client in clients:
            client.task = group.create_task(client.run())
        yield clients


def assert_cut(client: Client, code: str) -> None:
    """The answer is right as far as it goes, and ends in exactly one error, of this code, that says to try again."""
    reply = client.whole
    assert reply.status == 200, reply.lines
    assert reply_text(client.schedule).startswith(reply.text)
    assert_ends_once(reply)
    assert reply.last["content"] == ""
    assert reply.error["code"] == code
    assert reply.error["retryable"] is True


def assert_refused(client: Client, status: int, code: str) -> None:
    """The answer is an HTTP error that says when to try again."""
    reply = client.whole
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.error["retryable"] is True
    assert int(reply.headers["retry-after"]) >= 1


def by_worker(fleet: HasBackend, clients: Iterable[Client]) -> dict[str, list[Client]]:
    """Which worker asked the model last on behalf of which clients, by the workers' names."""
    workers = {record["tag"]: record["authorization"].removeprefix("Bearer ") for record in fleet.backend.requests()}
    found: dict[str, list[Client]] = {}
    for client in clients:
        found.setdefault(workers[client.tag], []).append(client)
    return found


async def backend_has(fleet: HasBackend, count: int) -> None:
    """Until the backend answers so many requests at the same time."""
    await eventually(lambda: fleet.backend.active() == count, SOON, f"the backend answers {count} requests")


def queue_length(fleet: Fleet) -> int:
    """Requests that wait at the first gateway."""
    return int(fleet.status()["queue"]["waiting"])


async def all_closed(fleet: HasBackend, prefix: str, since: float, within: float = SOON) -> list[float]:
    """Seconds from ``since`` until the backend saw the connection of each request with such a tag closed, in order."""

    def closed() -> list[float]:
        ends = [record["closed"] for record in fleet.backend.requests() if record["tag"].startswith(prefix)]
        return sorted(end - since for end in ends) if all(ends) else []

    return await eventually(closed, within, "the model's connections are closed")


@dataclasses.dataclass
class Tally:
    """What became of a constant load."""

    completed: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


@contextlib.asynccontextmanager
async def constant_load(
    address: Address, make: Callable[[], Schedule], clients: int = CROWD, **fields: object
) -> AsyncIterator[Tally]:
    """So many clients, each of which asks again as soon as it is answered, until the context is left."""
    tally = Tally()
    stop = asyncio.Event()

    async def ask_again_and_again() -> None:
        while not stop.is_set():
            client = Client(address, make(), **fields)
            await client.run()
            try:
                client.assert_complete()
                tally.completed += 1
            except AssertionError as error:
                last = client.reply.lines[-1:] if client.reply else []
                tally.failures.append(f"{client.tag}: {str(error)[:500]} {last}")

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask_again_and_again())
        yield tally
        stop.set()
