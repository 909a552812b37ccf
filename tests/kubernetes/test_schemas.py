"""Every object is what Kubernetes, or an operator, knows: nothing misspelt, nothing of a wrong type."""

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.harness.process import ENDS
from tests.kubernetes.manifests import FOLDER, OVERLAYS, ROOT, Manifests, Object, render

OPERATORS = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")
VERSIONS = ("1.29", "1.37")
"""The oldest that ``docs/kubernetes.md`` names and the newest whose schemas are here."""


def complaints(tools: Path, objects: list[Object], version: str) -> list[str]:
    """What the official schemas of a version refuse, by name; strictly: unknown fields too."""
    done = subprocess.run(
        [str(tools / "kubernetes-validate"), "--strict", "--kubernetes-version", version, "-"],
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
        timeout=ENDS,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(objects), done.stdout + done.stderr
    wrong = [line for line in lines if f"against version {version}" not in line or " passed " not in line]
    assert bool(done.returncode) == any(line.startswith("ERROR") for line in wrong), done.stderr
    return wrong


def operators_complaints(tools: Path, objects: list[Object]) -> list[str]:
    """What the schemas of KEDA and of Prometheus' operator refuse."""
    done = subprocess.run(
        [str(tools / "python"), str(Path(__file__).with_name("operators.py"))],
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
        timeout=ENDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def official(manifests: Manifests) -> list[Object]:
    return [each for each in manifests.objects if each["apiVersion"] not in OPERATORS]


def operators(manifests: Manifests) -> list[Object]:
    return [each for each in manifests.objects if each["apiVersion"] in OPERATORS]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_official_schemas(tools: Path, manifests: Manifests, version: str) -> None:
    assert complaints(tools, official(manifests), version) == []


def test_kedas_objects_fit_its_schemas(tools: Path, providers: Manifests) -> None:
    assert {each["kind"] for each in operators(providers)} == {"ScaledObject", "TriggerAuthentication"}
    assert operators_complaints(tools, operators(providers)) == []


def _misspell_a_probe(manifests: Manifests) -> None:
    container = manifests.containers()["gateway"]
    container["livenessProbes"] = container.pop("livenessProbe")


def _invent_a_privilege(manifests: Manifests) -> None:
    manifests.containers()["host"]["securityContext"]["readOnlyFilesystem"] = True


def _give_a_port_as_text(manifests: Manifests) -> None:
    manifests.of("Service")["chatfleet-host"]["spec"]["ports"][0]["port"] = "50051"


def _leave_the_selector_out(manifests: Manifests) -> None:
    del manifests.of("Deployment")["chatfleet-worker"]["spec"]["selector"]


def _ask_for_an_api_that_is_gone(manifests: Manifests) -> None:
    manifests.of("PodDisruptionBudget")["chatfleet-worker"]["apiVersion"] = "policy/v1beta1"


@pytest.mark.parametrize(
    "spoil",
    [
        _misspell_a_probe,
        _invent_a_privilege,
        _give_a_port_as_text,
        _leave_the_selector_out,
        _ask_for_an_api_that_is_gone,
    ],
)
def test_a_wrong_field_is_found(tools: Path, embedded: Manifests, spoil: Callable[[Manifests], None]) -> None:
    spoilt = copy.deepcopy(embedded)
    spoil(spoilt)
    assert len(complaints(tools, spoilt.objects, VERSIONS[-1])) == 1


@pytest.mark.parametrize("value", ["2", None])
def test_a_wrong_field_of_kedas_is_found(tools: Path, providers: Manifests, value: str | None) -> None:
    spoilt = copy.deepcopy(providers)
    spec = spoilt.of("ScaledObject")["chatfleet-worker"]["spec"]
    spec.update({"minReplicaCount": value} if value else {"minReplicasCount": spec.pop("minReplicaCount")})
    assert len(operators_complaints(tools, operators(spoilt))) == 1


def test_every_kustomization_is_rendered_here(rendered: dict[str, Manifests]) -> None:
    folders = {path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("kustomization.yaml")}
    components = {folder for folder in folders if folder.startswith("components/")}
    assert folders - components == set(OVERLAYS)
    used = [
        FOLDER / overlay / component
        for overlay in OVERLAYS
        for component in yaml.safe_load((FOLDER / overlay / "kustomization.yaml").read_text()).get("components", [])
    ]
    rendered_elsewhere = {"components/agents", "components/monitoring"}  # by test_agents.py and test_monitoring.py
    assert {path.resolve().relative_to(FOLDER).as_posix() for path in used} | rendered_elsewhere == components


def test_the_documents_own_overlay_is_one(tools: Path, tmp_path: Path) -> None:
    document = (ROOT / "docs" / "kubernetes.md").read_text()
    example = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)[0]
    folder = tmp_path / "mine"
    for file in re.findall(r"identities/gateway/[\w.]+|models.yaml", example):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("models: {}")
    (tmp_path / "chatfleet").symlink_to(ROOT)
    (folder / "kustomization.yaml").write_text(example)
    mine = render(tools / "kubectl", folder)
    assert complaints(tools, mine.objects, VERSIONS[-1]) == []
    (secret,) = mine.of("Secret")
    assert secret in dict(mine.secrets())
    assert mine.of("Ingress")["chatfleet"]["spec"]["rules"][0]["host"] == "chat.my.example"
    assert mine.containers()["worker"]["image"] == "registry.example.com/chatfleet:0.1.0"
    (models,) = (data for name, data in mine.of("ConfigMap").items() if name.startswith("chatfleet-models"))
    assert models["data"] == {"models.yaml": "models: {}"}
