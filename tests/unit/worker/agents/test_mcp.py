"""MCP servers: shared, restarted, and never waited for in vain."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError
from structlog.contextvars import get_contextvars

from fleet.tracing.context import headers
from protos import chat_pb2 as pb
from tests.harness.ports import free_port
from worker.agents.mcp import McpServer
from worker.agents.mcp_config import McpConfig
from worker.serving.tracing import Passing

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The SDK leaves streams of a server that died unclosed."""

SERVER = str(Path(__file__).with_name("mcp_server.py"))
PATIENCE = 30
"""Seconds for a server to start, and for a call that would last for a minute to end."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect those streams within the test that left them: a later one would fail of their warnings."""
    yield
    gc.collect()


@pytest.fixture
async def server() -> AsyncIterator[McpServer]:
    made = McpServer("test", McpConfig(command=sys.executable, args=[SERVER]))
    yield made
    await made.stop()
    assert not [child for child in psutil.Process().children() if is_server(child)]


def is_server(process: psutil.Process) -> bool:
    """Other tests' processes may end while they are looked at."""
    try:
        return SERVER in process.cmdline()
    except psutil.Error:
        return False


async def call(server: McpServer, name: str, **arguments: object) -> tuple[str, bool]:
    result = await server.call_tool(name, arguments)
    return result.to_text(), result.is_error


async def test_tools_are_listed_and_called_side_by_side(server: McpServer) -> None:
    assert [tool["name"] for tool in await server.list_tools()] == ["add", "sleep", "pid", "fail"]
    assert await asyncio.gather(*(call(server, "add", a=n, b=1) for n in range(10))) == [
        (str(n + 1), False) for n in range(10)
    ]
    text, is_error = await call(server, "fail")
    assert is_error
    assert "as it should" in text


async def test_a_server_that_dies_in_a_call_is_an_error_and_is_back_soon(server: McpServer) -> None:
    await server.list_tools()
    pid = int((await call(server, "pid"))[0])
    calling = asyncio.create_task(call(server, "sleep", seconds=60))
    await asyncio.sleep(0.1)  # the call is on its way; whether it has arrived makes no difference
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        text, is_error = await calling
    assert is_error
    assert "died" in text
    assert len(await server.list_tools()) == 4  # as it was

    async def works() -> bool:
        return await call(server, "add", a=1, b=1) == ("2", False)

    async with asyncio.timeout(PATIENCE):
        while not await works():
            await asyncio.sleep(0.05)


async def test_a_server_killed_while_idle_is_back_for_the_next_call(server: McpServer) -> None:
    await server.list_tools()
    os.kill(int((await call(server, "pid"))[0]), signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while (await call(server, "add", a=1, b=1))[1]:
            await asyncio.sleep(0.05)


async def test_a_cancelled_call_is_given_up(server: McpServer) -> None:
    await server.list_tools()
    calling = asyncio.create_task(call(server, "sleep", seconds=60))
    await asyncio.sleep(0.1)
    calling.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([calling])
    assert calling.cancelled()
    assert await call(server, "add", a=1, b=1) == ("2", False)


def serve(port: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, SERVER, port])


async def test_a_server_over_http_is_back_too() -> None:
    port = str(free_port())
    started = serve(port)
    server = McpServer("http", McpConfig(url=f"http://127.0.0.1:{port}/mcp"))

    async def works() -> None:
        async with asyncio.timeout(PATIENCE):
            while await call(server, "add", a=1, b=1) != ("2", False):
                await asyncio.sleep(0.05)

    try:
        await works()
        assert len(await server.list_tools()) == 4
        calling = asyncio.create_task(call(server, "sleep", seconds=60))
        await asyncio.sleep(0.2)
        started.kill()
        started.wait()
        async with asyncio.timeout(PATIENCE):
            assert (await calling)[1]
            assert (await call(server, "add", a=1, b=1))[1]
        started = serve(port)
        await works()
    finally:
        await server.stop()
        started.kill()
        started.wait()


async def test_a_server_that_is_not_there_is_named() -> None:
    server = McpServer("absent", McpConfig(command="/no/such/program", start_timeout=2))
    with pytest.raises(RuntimeError, match=r"absent has no tools: .*No such file"):
        await server.list_tools()
    assert (await call(server, "add"))[1]
    await server.stop()


def test_a_server_has_a_command_or_a_url() -> None:
    for given in ({}, {"command": "a", "url": "http://b"}):
        with pytest.raises(ValidationError, match="either command or url"):
            McpConfig.model_validate(given)


async def test_a_server_does_not_belong_to_the_trace_of_the_run_that_starts_it() -> None:
    found = []

    class Watched(McpServer):
        async def _keep(self) -> None:
            found.append((headers(), get_contextvars()))
            await super()._keep()

    server = Watched("test", McpConfig(command=sys.executable, args=[SERVER]))
    asked = pb.ChatHistory(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    with Passing().run(asked):
        await server.list_tools()
    await server.stop()
    assert found == [({}, {})]
