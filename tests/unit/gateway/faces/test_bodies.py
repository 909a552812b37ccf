"""The memory for bodies: who gets it, and who has to give it back."""

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator

import pytest
from fastapi import Request

from fleet.process.turns import Turns
from gateway.errors import GatewayError
from gateway.faces.bodies import SMALL, Bodies, Body
from gateway.faces.compression import MEMORY
from tests.harness.waiting import SOON, until

MIB = 1024 * 1024


class Sender:
    """A client whose body comes in parts, when the test says so."""

    def __init__(self, bodies: Bodies, limit: int = 8 * MIB, timeout: float = 60.0, encoding: str = "") -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_awaited = False
        headers = [(b"content-encoding", encoding.encode())]
        request = Request({"type": "http", "method": "POST", "headers": headers}, self._receive)
        self.reading = asyncio.create_task(bodies.read(request, limit, timeout))

    async def _receive(self) -> dict[str, object]:
        self._is_awaited = True
        part = await self._parts.get()
        self._is_awaited = False
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def send(self, *parts: bytes | None) -> None:
        """Send parts, None for the end, and wait until they were read or refused."""
        self.put(*parts)
        await until(lambda: self.reading.done() or (self._is_awaited and self._parts.empty()))

    def put(self, *parts: bytes | None) -> None:
        for part in parts:
            self._parts.put_nowait(part)

    async def refusal(self) -> GatewayError:
        with pytest.raises(GatewayError) as refused:
            await asyncio.wait_for(self.reading, SOON)
        return refused.value


@pytest.fixture
async def bodies() -> AsyncIterator[Bodies]:
    found = Bodies(4 * MIB, Turns())
    yield found
    assert found.held == 0


def text(size: int) -> bytes:
    return b'"' + b"a" * (size - 1)


async def test_a_body_is_read_whole_and_held_until_it_is_released(bodies: Bodies) -> None:
    sender = Sender(bodies)
    await sender.send(b'{"a":', b" 1}", None)
    body = await sender.reading
    assert (bytes(body.text), body.outline.values, bodies.held) == (b'{"a": 1}', 3, 8)
    async with body.work():
        pass
    assert (bytes(body.text), bodies.held) == (b"", 8)
    body.release()
    body.release()


@pytest.mark.parametrize(("size", "status"), [(7 * MIB, 503), (9 * MIB, 413)])
async def test_a_compressed_body_counts_as_what_it_unpacks_to(bodies: Bodies, size: int, status: int) -> None:
    sender = Sender(bodies if status == 503 else Bodies(64 * MIB, Turns()), encoding="gzip")
    await sender.send(gzip.compress(text(size)))
    assert (await sender.refusal()).status == status


async def test_a_compressed_body_is_held_with_what_decompresses_it(bodies: Bodies) -> None:
    sender = Sender(bodies, encoding="gzip")
    await sender.send(gzip.compress(b'\xef\xbb\xbf{"a": 1}'), None)
    body = await sender.reading
    assert bytes(body.text) == b'{"a": 1}'
    assert bodies.held == MEMORY + 11
    body.release()


async def test_the_body_that_has_cost_most_makes_room(bodies: Bodies) -> None:
    slow, fast = Sender(bodies), Sender(bodies)
    await slow.send(text(2 * MIB))
    await asyncio.sleep(0.02)
    await fast.send(text(2 * MIB))
    error = await slow.refusal()
    assert (error.status, error.code, error.retryable) == (503, "overloaded", True)
    assert error.headers()["retry-after"] == "1"
    assert bodies.held == 2 * MIB
    await fast.send(b'"', None)
    (await fast.reading).release()


async def test_what_is_in_use_gives_nothing_back(bodies: Bodies) -> None:
    first, second = Sender(bodies), Sender(bodies)
    await first.send(text(2 * MIB), b'"', None)
    used = await first.reading
    await second.send(text(2 * MIB), None)
    assert (await second.refusal()).code == "overloaded"
    used.release()


async def test_small_bodies_have_room_that_large_ones_leave(bodies: Bodies) -> None:
    large = Sender(bodies)
    await large.send(text(3 * MIB), b"", None)
    used = await large.reading
    small = [Sender(bodies) for _ in range(16)]
    for sender in small:
        await sender.send(text(SMALL - 100), b'"', None)
    held: list[Body] = [await sender.reading for sender in small]
    for body in (used, *held):
        body.release()


async def test_a_refused_body_is_read_to_its_end_and_not_held(bodies: Bodies) -> None:
    sender = Sender(bodies)
    await sender.send(b"[" * 1000, b"a" * MIB)
    assert bodies.held == 0
    await sender.send(None)
    assert (await sender.refusal()).code == "body_too_complex"


@pytest.mark.parametrize(
    ("parts", "code"),
    [((b'"\xc3', None), "invalid_json"), ((b"a" * 2000, None), "body_too_large"), ((b"a",), "body_timeout")],
)
async def test_what_cannot_be_read_gives_its_memory_back(bodies: Bodies, parts: tuple[bytes | None], code: str) -> None:
    sender = Sender(bodies, limit=1000, timeout=0.05 if code == "body_timeout" else 60)
    await sender.send(*parts)
    assert (await sender.refusal()).code == code


async def test_a_client_that_leaves_gives_its_memory_back(bodies: Bodies) -> None:
    sender = Sender(bodies)
    await sender.send(text(MIB))
    assert bodies.held == MIB
    sender.reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender.reading


async def test_a_body_that_made_room_in_its_last_moment_is_not_taken_for_whole(bodies: Bodies) -> None:
    """Its end was there already, and what is left of it may be JSON too."""
    turn = bodies.turns.turn()
    await turn.__aenter__()
    sender = Sender(bodies)
    sender.put(b" " * 8192 + b"[]", b"{}", None)
    for _ in range(20):
        await asyncio.sleep(0)  # it waits for its turn
    (body,) = bodies._reading
    await turn.__aexit__()  # which wakes it up
    body.drop()
    refused = await sender.refusal()
    assert (refused.code, refused.status) == ("overloaded", 503)


async def test_nothing_is_kept_beside_the_text_while_more_is_waited_for(bodies: Bodies) -> None:
    sender = Sender(bodies)
    part = text(100_000)
    references = sys.getrefcount(part)
    await sender.send(part)
    assert bodies.held == 100_000
    assert sys.getrefcount(part) == references
    await sender.send(None)
    (await sender.reading).release()
