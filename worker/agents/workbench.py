"""A workbench whose calls always end in a result: AutoGen's agents wait for ever for one that raises."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from autogen_core import CancellationToken
from autogen_core.tools import StaticStreamWorkbench, TextResultContent, ToolResult, ToolSchema, Workbench

from worker.contract.observer import Observer

UNKNOWN = "unknown"
"""The name, for observers, of a tool that is not there."""


class ToolFailed(Exception):
    """A tool failed, and the agent's entry says that this ends the run."""


class GuardedWorkbench(StaticStreamWorkbench):
    """``inner`` for one run. It has this class because agents read tools' events only from it.

    ``on_error`` is told of each result that is an error.
    """

    def __init__(self, inner: Workbench, on_error: Callable[[str, ToolResult], None], observer: Observer) -> None:
        super().__init__([])
        self._inner = inner
        self._on_error = on_error
        self._observer = observer
        self._listed: list[ToolSchema] | None = None

    async def list_tools(self) -> list[ToolSchema]:
        """The tools. A list that cannot be had again is the one before: a raise would leave a call without a result."""
        try:
            self._listed = await self._inner.list_tools()
        except Exception:
            if self._listed is None:
                raise
        return self._listed

    def _known(self, name: str) -> str:
        """The name, if there is such a tool: a model may give any text, which no metric and no span must have."""
        return name if any(tool["name"] == name for tool in self._listed or ()) else UNKNOWN

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        async with aclosing(self.call_tool_stream(name, arguments, cancellation_token, call_id)) as events:
            return [event async for event in events if isinstance(event, ToolResult)][-1]

    async def call_tool_stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any | ToolResult, None]:
        token = cancellation_token or CancellationToken()
        with self._observer.tool(self._known(name), call_id or "") as operation:
            operation.asked(arguments)
            try:
                if isinstance(self._inner, StaticStreamWorkbench):
                    result: ToolResult | None = None
                    async with aclosing(self._inner.call_tool_stream(name, arguments, token, call_id)) as events:
                        async for event in events:
                            if isinstance(event, ToolResult):
                                result = event
                            else:
                                yield event
                else:
                    # A task of its own: the token ends it also where the workbench does not listen.
                    calling = asyncio.ensure_future(self._inner.call_tool(name, arguments, token, call_id))
                    token.link_future(calling)
                    try:
                        result = await calling
                    finally:
                        calling.cancel()
                if result is None:
                    result = _failed(name, "the tool gave no result")
            except asyncio.CancelledError:
                if not token.is_cancelled():
                    raise
                result = _failed(name, "cancelled")
            except Exception as error:
                result = _failed(name, str(error) or type(error).__name__)
            operation.answered(result)
            if result.is_error:
                operation.code = "cancelled" if token.is_cancelled() else "tool_failed"
        if result.is_error and not token.is_cancelled():
            self._on_error(name, result)
        yield result


def _failed(name: str, reason: str) -> ToolResult:
    return ToolResult(name=name, result=[TextResultContent(content=reason)], is_error=True)
