"""A server in a thread of its own, for fixtures that outlive a test's event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack

from tests.harness.scripted import Handler, listening


@contextlib.contextmanager
def threaded(handler: Handler) -> Iterator[str]:
    """Serve connections with ``handler``; gives the server's address as a URL."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(stack.enter_async_context(listening(handler)), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
