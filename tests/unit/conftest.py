"""What all unit tests run with: few certificate authorities, and garbage collections that are short."""

import gc
import logging
from collections.abc import Iterator

import pytest
import structlog

from fleet import logs
from identities.authority import Authority


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one authority. An HTTP client otherwise parses the system's bundle when it is made: 20 ms of CPU each."""
    folder = tmp_path_factory.mktemp("authority")
    Authority(folder).update()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "host" / "ca.pem"))
        yield


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """For tests that configure the logs: later ones must not write to the stream of this one."""
    root = logging.getLogger()
    names = (None, *logs.OURS)
    before = root.handlers[:], {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = before[0]
    for name, level in before[1].items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep what the imports made out of every later collection."""
    gc.collect()
    gc.freeze()
