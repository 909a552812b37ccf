"""The environments of clients that are not Python, or not ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.tools import node_clients, older_python_clients, python_clients
from tests.harness.fleet import Fleet
from tests.integration.keyed import KeyedGateway


@pytest.fixture(scope="session")
def python_tools(pytestconfig: pytest.Config) -> Path:
    """The folder of commands of LangChain's and other Python clients."""
    return python_clients(pytestconfig)


@pytest.fixture(scope="session")
def older_python_tools(pytestconfig: pytest.Config) -> Path:
    """The same of clients that still ask for OpenAI's SDK before version 3."""
    return older_python_clients(pytestconfig)


@pytest.fixture(scope="session")
def keyed_url(shared_fleet: Fleet) -> Iterator[str]:
    """A gateway of the shared fleet that asks for keys."""
    with KeyedGateway(shared_fleet, {"someone": {}}) as gateway:
        yield gateway.url


@pytest.fixture(scope="session")
def node_scripts(pytestconfig: pytest.Config) -> Path:
    """The folder of the Node.js scripts, with their packages."""
    return node_clients(pytestconfig)
