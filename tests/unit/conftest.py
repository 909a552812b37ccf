"""On which event loops the tests run."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_BOTH = frozenset({"test_http1", "test_http1_paced", "test_http1_tls", "test_http_edge", "test_pacer"})
"""What hands descriptors to the loop runs on the one that the members use, and on asyncio's own, which checks more."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asyncio's own, and uvloop's where that matters."""
    own = {"asyncio": asyncio.new_event_loop}
    return {**own, "uvloop": uvloop.new_event_loop} if item.path.stem in ON_BOTH else own
