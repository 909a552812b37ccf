"""The tools: Prometheus with promtool, and what knows PromQL and Grafana's dashboards."""

import shutil
from pathlib import Path

import pytest

from tests.clients.tools import environment, unavailable

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tools(pytestconfig: pytest.Config) -> Path:
    """The folder of a ``python`` that parses PromQL and knows Grafana's dashboards."""
    return environment(pytestconfig, "monitoring-tools", HERE / "requirements.txt")


@pytest.fixture(scope="session")
def promtool() -> str:
    return command("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return command("prometheus")


def command(name: str) -> str:
    """Its path; without it the test is skipped, and fails in CI."""
    path = shutil.which(name)
    if path is None:
        unavailable(f"{name} is not there: install Prometheus (Debian: apt-get install prometheus) to run these tests")
    return path
