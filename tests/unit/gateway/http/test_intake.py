"""What is read of one connection and of many in a pass of the loop, over real sockets and both kinds of loop."""

import asyncio
import contextlib
import itertools
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from gateway.http.intake import AT_ONCE, FIRST, SIZE, Flow, Intake, Queue
from tests.harness.waiting import until

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


class Reader(asyncio.Protocol):
    """Keeps what it is given, and in which pass of the loop."""

    flow: Flow

    def __init__(self, passes: Callable[[], int]) -> None:
        self.passes = passes
        self.got: list[tuple[int, bytes]] = []
        self.ended = self.lost = False
        self.then: Callable[[], object] = lambda: None
        """What the application does with each read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = Flow(transport)

    def data_received(self, data: bytes) -> None:
        self.got.append((self.passes(), data))
        self.then()

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.got)


class Loop:
    """Counts its passes, and what is read in them."""

    def __init__(self) -> None:
        self.passes = 0
        self.readers: list[Reader] = []
        self.queue = Queue()

    async def count(self) -> None:
        while True:
            self.passes += 1
            await asyncio.sleep(0)

    async def connect(self) -> tuple[socket.socket, Reader]:
        """What its client writes to, and what reads it."""
        client, ours = socket.socketpair()
        client.setblocking(False)
        reader = Reader(lambda: self.passes)
        self.readers.append(reader)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Intake(reader, self.queue), ours)
        return client, reader


@contextlib.asynccontextmanager
async def counting() -> AsyncIterator[Loop]:
    loop = Loop()
    task = asyncio.create_task(loop.count())
    try:
        yield loop
    finally:
        task.cancel()
        for reader in loop.readers:
            reader.transport.abort()


async def send(client: socket.socket, data: bytes) -> None:
    with client:
        await asyncio.get_running_loop().sock_sendall(client, data)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def on_it(test: Callable[[], object]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(test())  # type: ignore[arg-type]

    return on_it


def test_all_is_read_in_order_and_little_in_one_pass(run: Callable[..., None]) -> None:
    sent = [bytes([number]) * (SIZE * 20 + number * 1000) for number in range(5)]

    async def test() -> None:
        async with counting() as loop:
            made = [await loop.connect() for _ in sent]
            async with asyncio.TaskGroup() as group:
                for (client, _), data in zip(made, sent, strict=True):
                    group.create_task(send(client, data))
                await until(lambda: all(reader.ended for reader in loop.readers))
            for reader, data in zip(loop.readers, sent, strict=True):
                assert reader.data == data
                passes = [number for number, _ in reader.got]
                assert len(set(passes)) == len(passes)
                assert all(len(part) <= SIZE for _, part in reader.got)

    run(test)


def test_of_many_that_send_much_some_are_read_from_in_one_pass(run: Callable[..., None]) -> None:
    async def test() -> None:
        async with counting() as loop:
            made = [await loop.connect() for _ in range(3 * AT_ONCE)]
            async with asyncio.TaskGroup() as group:
                for client, _ in made:
                    group.create_task(send(client, bytes(4 * SIZE)))
                await until(lambda: all(reader.ended for reader in loop.readers))
            assert all(len(reader.data) == 4 * SIZE for reader in loop.readers)
            reads = itertools.chain(*(itertools.pairwise(reader.got) for reader in loop.readers))
            rested = [number for (_, before), (number, _) in reads if len(before) in (FIRST, SIZE)]
            assert max(Counter(rested).values()) <= AT_ONCE
            assert {len(reader.got[0][1]) for reader in loop.readers} == {FIRST}
            assert {len(data) for reader in loop.readers for _, data in reader.got[1:-1]} == {SIZE}

    run(test)


@pytest.mark.parametrize("size", [1, FIRST - 1, FIRST, FIRST + 1, FIRST + SIZE, FIRST + SIZE + 1])
def test_the_end_is_seen_after_all_else(run: Callable[..., None], size: int) -> None:
    async def test() -> None:
        async with counting() as loop:
            client, reader = await loop.connect()
            await send(client, bytes(size))
            await until(lambda: reader.lost)
            assert (len(reader.data), reader.ended) == (size, True)

    run(test)


def test_what_the_application_pauses_stays_paused(run: Callable[..., None]) -> None:
    async def test() -> None:
        async with counting() as loop:
            client, reader = await loop.connect()
            reader.then = reader.flow.pause_reading
            sending = asyncio.create_task(send(client, bytes(3 * SIZE)))
            seen = 0
            while len(reader.data) < 3 * SIZE:
                await until(lambda: len(reader.got) > seen)  # noqa: B023
                begun = loop.passes
                await until(lambda: loop.passes >= begun + 20)  # noqa: B023
                assert len(reader.got) == seen + 1
                seen += 1
                reader.flow.resume_reading()
            await sending
            assert reader.data == bytes(3 * SIZE)

    run(test)


def test_one_that_has_sent_little_has_no_turn_left(run: Callable[..., None]) -> None:
    """So that many that wait, and send much at once, are read little of in one pass."""

    async def test() -> None:
        async with counting() as loop:
            client, reader = await loop.connect()
            with client:
                client.send(bytes(FIRST + 1))
                await until(lambda: len(reader.data) == FIRST + 1)
                client.send(bytes(2 * FIRST))
                await until(lambda: len(reader.data) == 3 * FIRST + 1)
            assert [len(data) for _, data in reader.got] == [FIRST, 1, FIRST, FIRST]

    run(test)


def test_an_application_that_resumes_at_once_still_lets_the_loop_run(run: Callable[..., None]) -> None:
    async def test() -> None:
        async with counting() as loop:
            client, reader = await loop.connect()

            def resume_at_once() -> None:
                reader.flow.pause_reading()
                reader.flow.resume_reading()

            reader.then = resume_at_once
            await send(client, bytes(5 * SIZE))
            await until(lambda: reader.ended)
            passes = [number for number, _ in reader.got]
            assert len(reader.data) == 5 * SIZE
            assert len(passes) == len(set(passes)) >= 5

    run(test)


def test_a_connection_that_is_dropped_while_reading_rests_is_left_alone(run: Callable[..., None]) -> None:
    failures: list[object] = []

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))
        async with counting() as loop:
            made = [await loop.connect() for _ in range(3 * AT_ONCE)]
            with contextlib.ExitStack() as clients:
                for client, reader in made:
                    reader.then = reader.transport.abort
                    clients.enter_context(client).send(bytes(FIRST))
                await until(lambda: all(reader.lost for reader in loop.readers))
                begun = loop.passes
                await until(lambda: loop.passes >= begun + 20)
        assert not failures

    run(test)
