"""Thousands of requests that nobody should send: none breaks anything, and the next one works."""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.tools import clean_environment, python_clients
from tests.conftest import LONG
from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import Fleet
from tests.integration.hostile import Hostile, hostile_requests
from tests.schedule import Schedule
from tests.security.fuzz import GIVEN_SEED

COUNT = 10_000 if LONG else 1_500
AT_ONCE = 16
PATIENCE = 30.0
"""Seconds in which every request must have its answer, or its connection's end."""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method,allow_header_conformance"
)
"""Not ``positive_data_acceptance``: a schema cannot say that ``tool_choice`` must name one of the tools."""
PHASES = "examples,coverage,fuzzing"
"""The document's own examples are streams too, which the other phases rarely hit upon."""
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 413, 422]
"""
"""What a request that the schema forbids may get. 413 is not among Schemathesis' own: more messages than are allowed
can be more bytes than are allowed. 408, 429 and 5xx are not among these: nothing here is slow, busy or away."""
MIB = 1024 * 1024
GROWTH = 8 * MIB


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One that soon gives up waiting for a body."""
    with Fleet(settings={"GATEWAY_BODY_TIMEOUT": "5"}) as fleet:
        yield fleet


async def exchange(fleet: Fleet, hostile: Hostile) -> bytes:
    """All that the gateway says to a request, up to the end of the connection."""
    async with asyncio.timeout(PATIENCE), connection(fleet) as (reader, writer):
        try:
            for piece in hostile.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(hostile.pause)
            if hostile.closes:
                writer.write_eof()
        except ConnectionError:
            pass  # it has heard enough
        return await everything(reader)


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What arrives up to the end, or up to a reset."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(64 * 1024):
            parts.append(part)
    return b"".join(parts)


@asynccontextmanager
async def connection(fleet: Fleet) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*fleet.address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def check(hostile: Hostile, answer: bytes) -> int:
    """The answer's status, 0 for none, once it is one that the request may have."""
    if not answer:
        assert hostile.closes or hostile.kind == "huge headers"
        return 0
    start, _, body = answer.partition(b"\r\n\r\n")
    status = int(start.split()[1])
    assert status < 500 or status in hostile.expected, answer[:1000]
    assert not hostile.expected or status in hostile.expected, answer[:1000]
    if hostile.reply is not None and status == 200:
        body = unchunked(body) if b"transfer-encoding: chunked" in start else body
        assert text_of(body) == hostile.reply
    return status


def unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


def text_of(body: bytes) -> str:
    """The text of a whole answer, in whichever of its four forms."""
    if body.startswith(b"data: "):
        assert body.endswith(b"\n\ndata: [DONE]\n\n")
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n")[:-2]]
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    objects: list[dict[str, Any]] = [json.loads(line) for line in body.splitlines()]
    if "choices" in objects[0]:
        return str(objects[0]["choices"][0]["message"]["content"])
    return "".join(line["content"] for line in objects)


async def send_all(fleet: Fleet, requests: Iterator[Hostile]) -> Counter[tuple[str, int]]:
    """Send them, some at once, and count the statuses by kind."""
    statuses: Counter[tuple[str, int]] = Counter()

    async def sender() -> None:
        for hostile in requests:
            try:
                statuses[hostile.kind, check(hostile, await exchange(fleet, hostile))] += 1
            except (AssertionError, TimeoutError, ValueError) as error:
                error.add_note(f"{hostile.kind}: {b''.join(hostile.pieces)[:3000]!r}")
                raise

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(sender())
    return statuses


def assert_works(fleet: Fleet) -> None:
    """A normal request is served."""
    schedule = Schedule()
    assert_complete(asyncio.run(ask(fleet.address, schedule)), schedule)


@pytest.mark.timeout(900)
async def test_thousands_of_hostile_requests_do_no_harm(fleet: Fleet, figures: Callable[[str], None]) -> None:
    seed = int(os.environ.get(GIVEN_SEED) or secrets.randbits(32))
    figures(f"seed {seed}")
    requests = hostile_requests(seed, COUNT, fleet.address)
    members = [*fleet.workers, fleet.gateway]
    statuses = await send_all(fleet, (next(requests) for _ in range(COUNT // 3)))
    before = {member.name: member.memory() for member in members}
    statuses += await send_all(fleet, requests)
    assert statuses.total() == COUNT
    await asyncio.to_thread(assert_works, fleet)
    growth = {member.name: (member.memory() - before[member.name]) / MIB for member in members}
    figures(", ".join(f"{name} {size:+.1f} MiB" for name, size in growth.items()))
    assert max(growth.values()) * MIB < GROWTH
    kinds = {kind for kind, _ in statuses}
    for kind in sorted(kinds):
        figures(kind + ": " + ", ".join(f"{n} x {status}" for (k, status), n in sorted(statuses.items()) if k == kind))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_document_promises_is_kept(
    pytestconfig: pytest.Config, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """Schemathesis makes requests from the OpenAPI document, and compares the answers with it.

    A fleet of its own: the unknown fields that are sent would use up what a gateway counts by name.
    """
    command = python_clients(pytestconfig) / "schemathesis"
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    seed = os.environ.get(GIVEN_SEED) or str(secrets.randbits(32))
    figures(f"seed {seed}")
    asked = ["--checks", CHECKS, "--phases", PHASES, "--seed", seed, "--no-shrink"]
    bounds = ["--max-examples", "100", "--request-timeout", "20", "--continue-on-failure"]
    with Fleet() as fleet:
        done = subprocess.run(
            [command, "--config-file", configuration, "run", f"{fleet.url}/openapi.json", *asked, *bounds],
            cwd=tmp_path,
            env=clean_environment() | {"NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert_works(fleet)
