"""What ``kubectl apply -k`` would send to a cluster, and what of it belongs together."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.harness.process import ENDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/embedded", "overlays/providers")

Object = dict[str, Any]


class Manifests:
    """The objects of one overlay."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: list[Object] = list(yaml.safe_load_all(text))

    def of(self, kind: str) -> dict[str, Object]:
        """The objects of a kind, by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    def pods(self) -> dict[str, Object]:
        """The pod templates, by the name of their Deployment."""
        return {name: each["spec"]["template"] for name, each in self.of("Deployment").items()}

    def containers(self) -> dict[str, Object]:
        """The containers, by their name; each pod has one, and it is named for its process."""
        return {container["name"]: container for pod in self.pods().values() for container in pod["spec"]["containers"]}

    def environment(self, role: str) -> dict[str, str | None]:
        """What a container's environment has by the manifests; None where a Secret of the operator has the value."""
        container = self.containers()[role]
        found: dict[str, str | None] = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                found.update(self.of("ConfigMap")[source["configMapRef"]["name"]]["data"])
        found.update({entry["name"]: entry.get("value") for entry in container.get("env", [])})
        return found

    def secrets(self) -> Iterator[tuple[str, str | None]]:
        """Every Secret that something needs, with the key in it where one is named."""
        for reference in _within("secret", self.objects):
            yield reference["secretName"], None
        for reference in _within("secretRef", self.objects):
            yield reference["name"], None
        for reference in _within("secretKeyRef", self.objects):
            yield reference["name"], reference["key"]
        for references in _within("secretTargetRef", self.objects):
            yield from ((reference["name"], reference["key"]) for reference in references)
        for references in _within("tls", self.objects):
            yield from ((reference["secretName"], None) for reference in references)


def _within(name: str, value: Any) -> Iterator[Any]:
    """What stands under a name, however deep."""
    if isinstance(value, list):
        for item in value:
            yield from _within(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield item
            else:
                yield from _within(name, item)


def render(kubectl: Path, folder: Path) -> Manifests:
    """Render an overlay as ``kubectl apply -k`` does."""
    done = subprocess.run(
        [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, timeout=ENDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns of what it will refuse one day"
    return Manifests(done.stdout)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes an object with these labels; an empty one takes all."""
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
