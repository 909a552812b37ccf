"""Own agents on a cluster, by the overlay that the document shows."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.kubernetes.manifests import FOLDER, ROOT, Manifests, render
from tests.kubernetes.test_schemas import VERSIONS, complaints

DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text()


@pytest.fixture(scope="module")
def own(tools: Path) -> Iterator[Manifests]:
    """The base, with what the section shows."""
    (shown,) = re.findall(r"## Your own agents.*?```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    fragment = yaml.safe_load(shown)
    assert fragment["components"] == ["../chatfleet/deploy/kubernetes/components/agents"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "agents").mkdir()
        (folder / "agents" / "mine.py").write_text("def build(context): ...\n")
        (folder / "agents.yaml").write_text("agents: {mine: {factory: 'mine:build'}}\n")
        relative = os.path.relpath(FOLDER, folder)
        fragment["components"] = [f"{relative}/components/agents"]
        head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "chatfleet"}
        whole = head | {"resources": [f"{relative}/base"]} | fragment
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(whole))
        yield render(tools / "kubectl", folder)


def test_every_object_fits_the_official_schemas(tools: Path, own: Manifests) -> None:
    for version in VERSIONS:
        assert complaints(tools, own.objects, version) == []


def test_agents_lie_where_the_image_looks_for_them(own: Manifests) -> None:
    pod = own.pods()["chatfleet-worker"]["spec"]
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    maps = own.of("ConfigMap")
    for path, file in (("/app/agents.yaml", "agents.yaml"), ("/app/agents", "mine.py")):
        assert mounts[path]["readOnly"] is True
        name = volumes[mounts[path]["name"]]["configMap"]["name"]
        assert file in maps[name]["data"]
        assert re.search(r"-[a-z0-9]{10}$", name), "a change of the content replaces the pods"
    assert "/models" in mounts
    assert (FOLDER.parent.parent / "Dockerfile").read_text().count("WORKDIR /app") == 1
