"""What a client sees of the whole through the ingress: exact, at once, and noticed when it leaves."""

import asyncio
import sys
import time

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.clients.test_seed_client import SCRIPT, run
from tests.compose.engine import docker
from tests.compose.stack import Stack
from tests.faults.crowd import Say, all_closed, crowd, schedules
from tests.faults.test_readers import tight_reader
from tests.harness.chat import JSON, PATH, ask, assert_complete, body_of, streaming
from tests.harness.http import Connection
from tests.harness.waiting import SOON, eventually
from tests.schedule import Schedule, reply_text

pytestmark = pytest.mark.timeout(300)
STALL_TIMEOUT = 5.0
"""Of the gateway in ``backend.yml``, in seconds."""


async def test_replies_are_exact_and_each_chunk_is_one_line(stack: Stack) -> None:
    """The harness's client takes every HTTP chunk for one line of JSON, as the seed's does."""
    large = [Schedule(tokens=20_000), Schedule(tokens=500, size=4_000), Schedule(tokens=0), Schedule(tokens=1)]
    for schedule in large:
        assert_complete(await ask(stack.address, schedule), schedule)
    async with crowd(stack.address, schedules("exact", 100, tokens=200, delay=0.005)) as clients:
        pass
    clients.assert_complete()


async def test_tokens_arrive_one_by_one(stack: Stack, figures: Say) -> None:
    pace = 0.1
    async with crowd(stack.address, schedules("paced", 1, tokens=30, delay=pace)) as clients:
        pass
    (client,) = clients
    client.assert_complete()
    gaps = sorted(after - before for before, after in zip(client.heard_at, client.heard_at[1:], strict=False))
    middle = gaps[len(gaps) // 2]
    figures(
        f"tokens {pace * 1000:.0f} ms apart arrive {middle * 1000:.0f} ms apart (median), {gaps[-1] * 1000:.0f} at most"
    )
    assert len(client.heard_at) >= 15
    assert pace / 2 < middle < pace * 1.5
    assert gaps[-1] < 2.0


async def test_the_seeds_client_and_openais_sdk_read_exactly(stack: Stack) -> None:
    schedule = Schedule(tokens=2_000)
    stack.backend.say(schedule)
    try:
        assert await run(sys.executable, str(SCRIPT), f"{stack.url}/chat/completions") == reply_text(schedule)
    finally:
        stack.backend.say(None)
    assert await asyncio.to_thread(said_by_openai, stack, Schedule(tokens=500, delay=0.001))


def said_by_openai(stack: Stack, schedule: Schedule) -> bool:
    """Whether OpenAI's SDK reads what was said, streamed and whole."""
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["test"]
        asked: ChatCompletionUserMessageParam = {"role": "user", "content": schedule.message()}
        stream = client.chat.completions.create(model="test", messages=[asked], stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        whole = client.chat.completions.create(model="test", messages=[asked])
        return streamed == whole.choices[0].message.content == reply_text(schedule)


@pytest.mark.parametrize("pause", [0.05, 3600.0], ids=["while tokens come", "while nothing comes"])
async def test_a_client_that_leaves_frees_the_model(stack: Stack, figures: Say, pause: float) -> None:
    tag = f"leaves-{pause}"
    schedule = Schedule(tag=tag, tokens=10_000, delay=pause)
    async with streaming(stack.address, schedule) as stream:
        assert await stream.line() is not None
    left = time.monotonic()
    (closed,) = await all_closed(stack, tag, left)
    figures(f"the model's connection closed {closed:.2f} s after the client left")
    assert closed < 2


async def test_a_client_that_leaves_before_the_first_token_frees_the_model(stack: Stack, figures: Say) -> None:
    async with Connection(stack.address) as connection:
        connection.send("POST", PATH, body_of(Schedule(tag="early", hang=True)), JSON)
        await eventually(lambda: stack.backend.requests("early"), SOON, "the model is asked")
    left = time.monotonic()
    (closed,) = await all_closed(stack, "early", left)
    figures(f"the model's connection closed {closed:.2f} s after the client left")
    assert closed < 2


async def test_a_client_that_never_reads_is_cut_off(stack: Stack, figures: Say) -> None:
    """The ingress holds little for it, so that the gateway feels the stall; Docker's own proxy holds some megabytes."""
    ingress = stack.container("ingress")
    before = memory(ingress)
    began = time.monotonic()
    async with tight_reader(stack.address, Schedule(tag="stalled", tokens=300_000, size=100)):
        (closed,) = await all_closed(stack, "stalled", began, within=60)
        grown = memory(ingress) - before
    figures(f"cut off after {closed:.1f} s, the ingress grew by {grown:.1f} MiB")
    assert STALL_TIMEOUT <= closed < STALL_TIMEOUT + 20
    assert grown < 8


async def test_the_log_has_the_clients_address_and_not_what_it_claims(stack: Stack) -> None:
    """Clients on this machine come from the published network's own address."""
    forged = JSON | {"x-forwarded-for": "198.51.100.7", "x-request-id": "address-1"}
    async with Connection(stack.address) as connection:
        await (await connection.request("POST", PATH, body_of(Schedule(tokens=3)), forged)).body()
    lines = await eventually(
        lambda: [line for line in stack.logs("gateway").splitlines() if "client_request=address-1" in line],
        SOON,
        "the request is in the log",
    )
    network = docker("network", "inspect", f"{stack.project}_published", "-f", "{{(index .IPAM.Config 0).Gateway}}")
    assert f"client={network.strip()} " in lines[0]


def memory(container: str) -> float:
    """MiB that the container holds, by the engine's word."""
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container).partition("iB")[0]
    return float(used[:-1]) * {"K": 1 / 1024, "M": 1, "G": 1024}[used[-1]]
