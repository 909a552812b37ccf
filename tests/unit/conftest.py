"""On which event loops the unit tests run, and which certificate authorities their clients know."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from identities.authority import Authority

ON_BOTH = frozenset({"test_http1", "test_http1_paced", "test_http1_tls", "test_http_edge", "test_pacer"})
"""Modules whose code hands descriptors to the loop. They run on uvloop, as the processes do, and on asyncio's own loop,
which checks more."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asyncio's own loop, and uvloop's where that matters."""
    own = {"asyncio": asyncio.new_event_loop}
    return {**own, "uvloop": uvloop.new_event_loop} if item.path.stem in ON_BOTH else own


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one authority. An HTTP client otherwise parses the system's bundle when it is made: 20 ms of CPU each."""
    folder = tmp_path_factory.mktemp("authority")
    Authority(folder).look_after()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "host" / "ca.pem"))
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep what the imports made out of every later collection."""
    gc.collect()
    gc.freeze()
