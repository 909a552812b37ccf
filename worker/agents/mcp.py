"""MCP servers as workbenches: one session a worker, shared by all runs, and started again when the server dies."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from datetime import timedelta
from typing import Any

import anyio
import httpx
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from autogen_core import CancellationToken, Image
from autogen_core.tools import (
    ImageResultContent,
    ParametersSchema,
    TextResultContent,
    ToolResult,
    ToolSchema,
    Workbench,
)
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel

from fleet import logs
from fleet.tracing import context as tracing
from worker.agents.mcp_config import McpConfig

log = logs.logger(__name__)

BACKOFF_FIRST = 0.25
BACKOFF_LAST = 2.0
"""Seconds until a server that died is started again; doubled from first to last."""

PROBE_EVERY = 1.0
"""Seconds between two checks that the HTTP server of a call still listens."""

STEADY = 30.0
"""Seconds that a server must live before its next death counts as the first."""


class _Gone(Exception):
    """The server is not there now."""


class McpServer(Workbench):
    """A server's tools. It is started with the first use, and again after it died, until :meth:`stop`.

    While it is away a call is an error result, and the list of tools is the last one. A server that was never there
    makes ``list_tools`` raise.
    """

    component_config_schema = BaseModel

    def __init__(self, name: str, config: McpConfig) -> None:
        self.config = config
        self._name = name
        self._owner: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self._gone = asyncio.Event()
        self._there = asyncio.Event()
        self._tools: list[ToolSchema] | None = None
        self._changed = False
        self._reason = "it was not started"

    async def list_tools(self) -> list[ToolSchema]:
        if self._tools is None or self._changed:
            try:
                session = await self._started()
                self._changed = False
                self._tools = [_schema(tool) for tool in await self._all_tools(session)]
            except Exception as error:
                self._changed = True
                if self._tools is None:
                    raise RuntimeError(f"the MCP server {self._name} has no tools: {_told(error)}") from error
        return self._tools

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        try:
            answer = await self._call(name, dict(arguments or {}))
        except Exception as error:
            text = f"the MCP server {self._name} failed: {_told(error)}"
            return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=True)
        return ToolResult(name=name, result=[_content(part) for part in answer.content], is_error=answer.isError)

    async def _call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        session, gone = await self._started(), asyncio.ensure_future(self._left())
        limit = timedelta(seconds=self.config.call_timeout)
        meta: dict[str, Any] | None = tracing.headers() or None
        calling = asyncio.ensure_future(session.call_tool(name, arguments, read_timeout_seconds=limit, meta=meta))
        try:
            # A request that is sent as the server dies is never answered.
            await asyncio.wait([calling, gone], return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise _Gone(self._reason)
            return calling.result()
        finally:
            gone.cancel()
            calling.cancel()
            await asyncio.wait([calling])

    async def _left(self) -> None:
        """Wait until the server is gone. The SDK never ends a call whose HTTP server has died."""
        gone, url = self._gone, httpx.URL(self.config.url or "")
        while not gone.is_set() and url.host:
            await asyncio.sleep(PROBE_EVERY)
            try:
                _, writer = await asyncio.open_connection(url.host, url.port or (443 if url.scheme == "https" else 80))
                writer.close()
            except ConnectionRefusedError:
                gone.set()
            except OSError:
                pass  # it may be reached through a proxy only
        await gone.wait()

    async def _all_tools(self, session: ClientSession) -> list[types.Tool]:
        found: list[types.Tool] = []
        cursor: str | None = None
        async with asyncio.timeout(self.config.start_timeout):
            while True:
                page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
                found += page.tools
                cursor = page.nextCursor
                if not cursor:
                    return found

    # ------------------------------------------------------------ its life

    async def _started(self) -> ClientSession:
        """The session. Waits for a server that starts; raises when it is away after a death."""
        if self._owner is None or self._owner.done():
            # It outlives the run that starts it: neither its log nor what it sends belongs to that run's trace.
            self._owner = asyncio.create_task(self._keep(), context=Context())
        if self._session is None and self._tools is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.start_timeout):
                    await self._there.wait()
        if self._session is None:
            raise _Gone(self._reason)
        return self._session

    async def _keep(self) -> None:
        """Run the server, and run it again when it ends."""
        loop, pause = asyncio.get_running_loop(), BACKOFF_FIRST
        while True:
            began = loop.time()
            try:
                async with self._connected() as session:
                    self._session, self._reason = session, ""
                    self._there.set()
                    log.info("mcp server started", server=self._name)
                    await self._gone.wait()
                    self._reason = "it has died"
            except Exception as error:
                self._reason = _told(error)
            finally:
                self._session = None
                self._there.clear()
                self._gone.set()
            if loop.time() - began > STEADY:
                pause = BACKOFF_FIRST
            log.warning("mcp server gone", server=self._name, reason=self._reason, again_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACKOFF_LAST)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientSession]:
        self._gone = gone = asyncio.Event()
        async with self._streams() as (incoming, outgoing), anyio.create_task_group() as group:
            passing, passed = anyio.create_memory_object_stream[Any](0)

            async def forward() -> None:
                # The session does not tell when the server's output ends, and answers nothing after that.
                async with passing:
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        async for message in incoming:
                            await passing.send(message)
                gone.set()

            group.start_soon(forward)
            async with ClientSession(passed, outgoing, message_handler=self._noticed) as session:
                async with asyncio.timeout(self.config.start_timeout):
                    await session.initialize()
                yield session
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def _streams(
        self,
    ) -> AsyncIterator[tuple[MemoryObjectReceiveStream[Any], MemoryObjectSendStream[Any]]]:
        config = self.config
        if config.command is not None:
            started = StdioServerParameters(command=config.command, args=config.args, env=config.env, cwd=config.cwd)
            async with stdio_client(started) as (incoming, outgoing):
                yield incoming, outgoing
        else:
            assert config.url is not None
            timeout = httpx.Timeout(config.start_timeout, read=config.call_timeout)
            async with (
                httpx.AsyncClient(headers=config.headers, timeout=timeout, follow_redirects=True) as http,
                streamable_http_client(config.url, http_client=http) as (incoming, outgoing, _),
            ):
                yield incoming, outgoing

    async def _noticed(self, message: object) -> None:
        if isinstance(message, types.ServerNotification) and isinstance(
            message.root, types.ToolListChangedNotification
        ):
            self._changed = True

    async def start(self) -> None:
        """Nothing: the first use starts it."""

    async def stop(self) -> None:
        """End the server; it stays ended."""
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])

    async def reset(self) -> None:
        """Nothing: other runs use it."""

    async def save_state(self) -> Mapping[str, Any]:
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        pass


def _schema(tool: types.Tool) -> ToolSchema:
    schema = ToolSchema(name=tool.name, description=tool.description or "")
    schema["parameters"] = ParametersSchema(**({"type": "object", "properties": {}} | tool.inputSchema))  # type: ignore[typeddict-item]
    return schema


def _content(part: types.ContentBlock) -> TextResultContent | ImageResultContent:
    match part:
        case types.TextContent():
            return TextResultContent(content=part.text)
        case types.ImageContent():
            base64.b64decode(part.data, validate=True)
            return ImageResultContent(content=Image.from_base64(part.data))
        case _:
            return TextResultContent(content=part.model_dump_json(exclude_none=True))


def _told(error: BaseException) -> str:
    """An error in one line; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it took too long"
    return (str(error) or type(error).__name__).splitlines()[0]
