"""The environments of clients that are not Python, or not ours."""

from pathlib import Path

import pytest

from tests.clients.tools import node_clients, python_clients


@pytest.fixture(scope="session")
def python_tools(pytestconfig: pytest.Config) -> Path:
    """The folder of commands of LangChain's and other Python clients."""
    return python_clients(pytestconfig.cache)


@pytest.fixture(scope="session")
def node_scripts(pytestconfig: pytest.Config) -> Path:
    """The folder of the Node.js scripts, with their packages."""
    return node_clients(pytestconfig.cache)
