"""What Prometheus' operator and Grafana's sidecar find: every member's metrics, the alerts, the dashboards."""

import json
import os
from pathlib import Path

import pytest
import yaml

from monitoring.files import MONITORING
from tests.kubernetes.manifests import FOLDER, ROOT, Manifests, Object, render, selects
from tests.kubernetes.test_network import ELSEWHERE, PORTS, Network, Pod, members
from tests.kubernetes.test_schemas import VERSIONS, complaints, official, operators, operators_complaints

ANNOTATION = 256 * 1024
"""Bytes that `kubectl apply` can keep of an object."""


@pytest.fixture(scope="module")
def watched(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """The embedded fleet with the component, in a namespace of its own."""
    folder = tmp_path_factory.mktemp("monitoring")
    relative = os.path.relpath(FOLDER, folder.resolve())
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "chats",
        "resources": [f"{relative}/base"],
        "components": [f"{relative}/components/model", f"{relative}/components/monitoring"],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return render(tools / "kubectl", folder)


def test_every_object_fits_its_schema(tools: Path, watched: Manifests) -> None:
    for version in VERSIONS:
        assert complaints(tools, official(watched), version) == []
    assert {each["kind"] for each in operators(watched)} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert operators_complaints(tools, operators(watched)) == []


def test_a_misspelt_field_of_a_monitor_is_found(tools: Path, watched: Manifests) -> None:
    spoilt = json.loads(json.dumps(watched.of("PodMonitor")["chatfleet-worker"]))
    spoilt["spec"]["podMetricsEndpoint"] = spoilt["spec"].pop("podMetricsEndpoints")
    assert len(operators_complaints(tools, [spoilt])) == 1


def test_every_member_is_scraped_once_under_the_name_that_the_alerts_ask_for(watched: Manifests) -> None:
    scraped = {}
    for name, monitor in watched.of("PodMonitor").items():
        for pod in watched.pods().values():
            if selects(monitor["spec"]["selector"], pod["metadata"]["labels"]):
                scraped[role(pod)] = port(monitor["spec"]["podMetricsEndpoints"], pod), name
    for name, monitor in watched.of("ServiceMonitor").items():
        for service in watched.of("Service").values():
            if selects(monitor["spec"]["selector"], service["metadata"]["labels"]):
                (pod,) = (pod for pod in watched.pods().values() if selected(service, pod))
                (endpoint,) = monitor["spec"]["endpoints"]
                (named,) = (each for each in service["spec"]["ports"] if each["name"] == endpoint["port"])
                scraped[role(pod)] = port([{"port": named["targetPort"]}], pod), name
    assert scraped == {
        "gateway": (8501, "chatfleet-gateway"),
        "host": (8503, "chatfleet-host"),
        "worker": (8503, "chatfleet-worker"),
    }
    compose = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert {name for _, name in scraped.values()} <= {job["job_name"] for job in compose}
    for kind, endpoints in (("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")):
        for name, monitor in watched.of(kind).items():
            (endpoint,) = monitor["spec"][endpoints]
            jobs = [rule["replacement"] for rule in endpoint["relabelings"] if rule["targetLabel"] == "job"]
            assert jobs == [name]


def test_prometheus_reaches_what_it_scrapes_and_nobody_else_does(watched: Manifests) -> None:
    prometheus = {"app.kubernetes.io/name": "prometheus"}
    network, pods = Network(watched), members(watched)
    for target, number in (("gateway", 8501), ("host", 8503), ("worker", 8503)):
        assert network.connects(Pod(prometheus, "monitoring"), pods[target], number)
        if target != "gateway":
            for stranger in (Pod(prometheus, ELSEWHERE), Pod({}, "monitoring"), pods["gateway"], pods["worker"]):
                assert not network.connects(stranger, pods[target], number) or stranger == pods[target]
    for number in PORTS["host"][:2]:
        assert not network.connects(Pod(prometheus, "monitoring"), pods["host"], number)
    alone = Network(watched, without="chatfleet-gateway")
    assert alone.connects(Pod(prometheus, "monitoring"), pods["gateway"], 8501)


def test_rules_and_dashboards_are_those_of_compose(watched: Manifests) -> None:
    (rule,) = watched.of("PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load((MONITORING / "alerts.yml").read_text())
    shown: dict[str, Object] = {}
    for each in watched.objects:
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            assert len(json.dumps(each)) < ANNOTATION
            shown |= {name: json.loads(text) for name, text in each["data"].items()}
    assert shown == {path.name: json.loads(path.read_text()) for path in (MONITORING / "dashboards").iterdir()}


def test_the_secret_that_it_needs_is_in_the_document(watched: Manifests) -> None:
    (endpoint,) = watched.of("ServiceMonitor")["chatfleet-gateway"]["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    document = (ROOT / "docs" / "kubernetes.md").read_text()
    assert f"create secret generic {credentials['name']} -n chatfleet --from-file={credentials['key']}=" in document


def role(pod: Object) -> str:
    name: str = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def port(endpoints: list[Object], pod: Object) -> int:
    """The number of the port that a monitor's one endpoint names."""
    (endpoint,) = endpoints
    (container,) = pod["spec"]["containers"]
    (found,) = (each["containerPort"] for each in container["ports"] if each["name"] == endpoint["port"])
    number: int = found
    return number


def selected(service: Object, pod: Object) -> bool:
    return bool(service["spec"]["selector"].items() <= pod["metadata"]["labels"].items())
