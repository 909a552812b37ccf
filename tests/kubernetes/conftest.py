"""The tools, and what they make of the manifests."""

from pathlib import Path

import pytest

from tests.clients.tools import environment
from tests.kubernetes.manifests import FOLDER, OVERLAYS, Manifests, render

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tools(pytestconfig: pytest.Config) -> Path:
    """The folder of ``kubectl``, ``kubernetes-validate`` and a ``python`` that knows KEDA's objects."""
    return environment(pytestconfig, "kubernetes-tools", HERE / "requirements.txt")


@pytest.fixture(scope="session")
def rendered(tools: Path) -> dict[str, Manifests]:
    """Every overlay, by its folder."""
    return {overlay: render(tools / "kubectl", FOLDER / overlay) for overlay in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, rendered: dict[str, Manifests]) -> Manifests:
    """One overlay after the other."""
    return rendered[request.param]


@pytest.fixture
def embedded(rendered: dict[str, Manifests]) -> Manifests:
    """The fleet with the embedded model."""
    return rendered["overlays/embedded"]


@pytest.fixture
def providers(rendered: dict[str, Manifests]) -> Manifests:
    """The fleet with an ingress and an autoscaler."""
    return rendered["overlays/providers"]
