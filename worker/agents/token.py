"""A cancellation token that cancels everything, whatever one callback does."""

import asyncio
from collections.abc import Callable
from typing import Any

from autogen_core import CancellationToken

from fleet import logs

log = logs.logger(__name__)


class RunToken(CancellationToken):
    """For one event loop. AutoGen's own stops at the first callback that raises, and keeps every future it was given.

    Cancelling an MCP call raises in 0.7.5.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_cancelled = False
        self._futures: set[asyncio.Future[Any]] = set()
        self._others: list[Callable[[], None]] = []

    def cancel(self) -> None:
        if self._is_cancelled:
            return
        self._is_cancelled = True
        futures, self._futures = self._futures, set()
        others, self._others = self._others, []
        for future in futures:
            future.cancel()
        for callback in others:
            self._call(callback)

    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def add_callback(self, callback: Callable[[], None]) -> None:
        if self._is_cancelled:
            self._call(callback)
        else:
            self._others.append(callback)

    def link_future(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        linked: Any = future
        if not isinstance(linked, asyncio.Future):  # AutoGen's MCP client links a coroutine
            self.add_callback(lambda: linked.cancel())
        elif self._is_cancelled:
            future.cancel()
        elif not future.done():
            self._futures.add(future)
            future.add_done_callback(self._futures.discard)
        return future

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            log.debug("a callback of a cancelled run failed", reason=f"{type(error).__name__}: {error}")
