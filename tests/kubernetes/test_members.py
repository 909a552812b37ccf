"""The manifests fit the processes that they start: settings, probes, drains, files, names."""

import importlib.util
import math
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from pydantic_settings import BaseSettings

from fleet.settings import FleetSettings, HostPort
from gateway.settings import GatewaySettings
from host.settings import HostSettings
from model.settings import ModelSettings
from tests.harness.fleet import Fleet, fetch
from tests.harness.ports import free_port
from tests.harness.process import ENDS
from tests.harness.waiting import eventually
from tests.kubernetes.manifests import FOLDER, ROOT, Manifests, Object, selects
from worker.__main__ import FLUSH_TIMEOUT
from worker.settings import WorkerSettings

SETTINGS: dict[str, type[BaseSettings]] = {
    "host": HostSettings,
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "model": ModelSettings,
}
IDENTITY = {"ca.pem", "cert.pem", "key.pem", "token"}
"""The files that ``python -m fleet.security`` makes for each role."""
DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text()


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the document's command makes."""
    (names,) = re.findall(r"python -m fleet.security identities (.*)", DOCUMENT)
    folder = tmp_path_factory.mktemp("kubernetes") / "identities"
    command = [sys.executable, "-m", "fleet.security", str(folder), *shlex.split(names)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=ENDS)
    return folder


def settings_of(manifests: Manifests, role: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings that a container's process would read, those of its own kind."""
    for name, value in manifests.environment(role).items():
        monkeypatch.setenv(name, "a-secret-of-the-operator" if value is None else value)
    return SETTINGS[role]()


def mounted(manifests: Manifests, role: str, path: str) -> Object:
    """The volume that a file of a container lies on; nothing else mounted holds it."""
    container = manifests.containers()[role]
    (pod,) = (pod for pod in manifests.pods().values() if pod["spec"]["containers"] == [container])
    (mount,) = (mount for mount in container["volumeMounts"] if path.startswith(mount["mountPath"] + "/"))
    assert mount["readOnly"]
    (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == mount["name"])
    found: Object = volume
    return found


def test_every_variable_is_a_setting_with_a_good_value(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in manifests.containers():
        kinds: list[type[BaseSettings]] = [FleetSettings, SETTINGS[role]]
        known = {kind.model_config["env_prefix"] + name.upper() for kind in kinds for name in kind.model_fields}
        asked_for = set(re.findall(r"\$\{(\w+)", (FOLDER / "base" / "models.yaml").read_text()))
        given = manifests.environment(role).keys()
        assert given - known <= (asked_for if role == "worker" else set()), role
        settings_of(manifests, role, monkeypatch)


def test_every_process_is_there_to_be_started(manifests: Manifests) -> None:
    for role, container in manifests.containers().items():
        assert container["command"] == ["python", "-m", role]
        probes = [probe for name, probe in container.items() if name.endswith("Probe")]
        commands = [probe["exec"]["command"] for probe in probes if "exec" in probe]
        for command in commands:
            assert command[:2] == ["python", "-m"]
            assert importlib.util.find_spec(command[2]) is not None


def test_the_images_are_those_of_compose(embedded: Manifests) -> None:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text())  # as nobody's .env says else
    services = yaml.safe_load(text)["services"]
    assert {role: container["image"] for role, container in embedded.containers().items()} == {
        role: services[role]["image"] for role in embedded.containers()
    }
    for role in ("host", "gateway", "worker"):
        command = services[role]["command"]
        assert embedded.containers()[role]["command"] == (shlex.split(command) if isinstance(command, str) else command)


def test_members_find_their_identity_models_and_keys(manifests: Manifests) -> None:
    for role in ("host", "gateway", "worker"):
        environment = manifests.environment(role)
        paths = {environment[f"FLEET_{name}"] for name in ("TLS_CA", "TLS_CERT", "TLS_KEY", "TOKEN_FILE")}
        assert paths == {f"/identity/{file}" for file in IDENTITY}
        for path in paths:
            assert path is not None
            secret = mounted(manifests, role, path)["secret"]
            assert secret["secretName"] == f"chatfleet-{role}"
            assert not secret["defaultMode"] & 0o007, "a key is not for everybody"
    models = manifests.environment("worker")["WORKER_MODELS"]
    assert models is not None
    config = mounted(manifests, "worker", models)["configMap"]["name"]
    assert models.rpartition("/")[2] in manifests.of("ConfigMap")[config]["data"]
    keys = manifests.environment("gateway")["GATEWAY_KEYS"]
    assert keys == "/keys/keys.yaml"
    assert mounted(manifests, "gateway", keys)["secret"]["secretName"] == "chatfleet-keys"
    assert "GATEWAY_ALLOW_ANONYMOUS" not in manifests.environment("gateway")
    assert "HOST_ALLOW_INSECURE" not in manifests.environment("host")


def test_members_can_use_what_the_document_makes(
    manifests: Manifests, identities: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("host", "gateway", "worker"):
        made = {path.name: path for path in (identities / role).iterdir()}
        assert made.keys() == IDENTITY, "--from-file takes the whole folder"
        for name, value in manifests.environment(role).items():
            path = made.get(value.removeprefix("/identity/")) if value else None
            monkeypatch.setenv(name, str(path or value))
        fleet = FleetSettings()
        assert fleet.identity() is not None
        assert fleet.tokens()
        assert fleet.host.host in names_of(identities / "host" / "cert.pem")


def names_of(path: Path) -> list[str]:
    """The names that a certificate is good for."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_the_models_are_the_repositorys_own(embedded: Manifests) -> None:
    assert (FOLDER / "base" / "models.yaml").read_text() == (ROOT / "models.yaml").read_text()


def test_every_secret_is_one_that_the_document_makes(manifests: Manifests) -> None:
    commands = {
        line.split()[4]: line for line in DOCUMENT.replace("\\\n", " ").splitlines() if "kubectl create secret" in line
    }
    loop = re.search(r"for role in ([a-z ]+);", DOCUMENT)
    assert loop is not None
    commands |= {f"chatfleet-{role}": commands["chatfleet-$role"] for role in loop.group(1).split()}
    for name, key in manifests.secrets():
        assert name in commands, name
        if key is not None:
            assert re.search(rf"--from-(literal|file)={re.escape(key)}=", commands[name]), (name, key)


def test_nothing_else_is_referred_to_that_is_not_there(manifests: Manifests) -> None:
    for name, pod in manifests.pods().items():
        assert pod["spec"]["serviceAccountName"] in manifests.of("ServiceAccount"), name
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in manifests.of("ConfigMap")
        for container in pod["spec"]["containers"]:
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}
    namespaces = {each["metadata"].get("namespace") for each in manifests.objects if each["kind"] != "Namespace"}
    assert namespaces == set(manifests.of("Namespace"))


def test_services_lead_to_the_ports_that_processes_listen_on(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, service in manifests.of("Service").items():
        selector = {"matchLabels": service["spec"]["selector"]}
        (pod,) = (pod for pod in manifests.pods().values() if selects(selector, pod["metadata"]["labels"]))
        (container,) = pod["spec"]["containers"]
        settings = settings_of(manifests, container["name"], monkeypatch)
        binds = [settings.bind]
        if container["name"] == "host":
            binds += [settings.relay, settings.health_bind]
        for port, bind in zip(service["spec"]["ports"], binds, strict=True):
            (target,) = (each for each in container["ports"] if each["name"] == port["targetPort"])
            assert bind == HostPort("0.0.0.0", target["containerPort"]), name
            assert port["port"] == target["containerPort"], "policies and addresses name the same number"


def test_members_and_models_are_looked_for_at_services(embedded: Manifests) -> None:
    services = {f"{name}:{service['spec']['ports'][0]['port']}" for name, service in embedded.of("Service").items()}
    for role in ("host", "gateway", "worker"):
        assert embedded.environment(role)["FLEET_HOST"] in services
    url = embedded.environment("worker")["MODEL_URL"]
    assert url is not None
    assert url.removeprefix("http://").removesuffix("/v1") in services
    worker, model = embedded.containers()["worker"], embedded.containers()["model"]
    keys = [next(e for e in container["env"] if e["name"] == "MODEL_API_KEY") for container in (worker, model)]
    assert keys[0]["valueFrom"] == keys[1]["valueFrom"]


def test_probes_ask_ports_that_are_listened_on(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    for role, container in manifests.containers().items():
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), role
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        settings = settings_of(manifests, role, monkeypatch)
        listens = {settings.health_bind.port} if role == "worker" else {settings.bind.port}
        if role == "host":
            listens |= {settings.relay.port, settings.health_bind.port}
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "httpGet" in container[name]:
                assert ports[container[name]["httpGet"]["port"]] in listens
        assert set(ports.values()) == listens


async def test_probes_ask_what_the_processes_answer(embedded: Manifests, spare_fleet: Fleet) -> None:
    port = free_port()
    worker = spare_fleet.new_worker(WORKER_HEALTH_BIND=f"127.0.0.1:{port}")
    worker.start()
    try:
        for role, address in (("gateway", spare_fleet.url), ("worker", f"http://127.0.0.1:{port}")):
            container = embedded.containers()[role]
            paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
            assert paths["startupProbe"] == paths["livenessProbe"] == "/healthz"
            # A gateway whose models fail must still get requests: it tells clients why.
            assert paths["readinessProbe"] == ("/readyz?for=balancer" if role == "gateway" else "/readyz")
            for path in paths.values():
                await eventually(partial(answers, address + path), 30, f"{role} {path}")
    finally:
        worker.stop()


def answers(url: str) -> bool:
    return fetch(url)[0] == 200


def test_a_pod_has_the_time_that_its_drain_may_take(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    last = {"worker": FLUSH_TIMEOUT, "gateway": 1.0}
    for role, container in manifests.containers().items():
        settings = settings_of(manifests, role, monkeypatch)
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        assert hook[0] == "sleep"
        takes = float(hook[1]) + getattr(settings, "drain_delay", 0.0) + getattr(settings, "drain_timeout", 0.0)
        (pod,) = (pod for pod in manifests.pods().values() if pod["spec"]["containers"] == [container])
        assert pod["spec"]["terminationGracePeriodSeconds"] >= takes + last.get(role, 0.0) + 5, role
    assert settings_of(manifests, "gateway", monkeypatch).drain_delay >= 10, "endpoints lag behind by seconds"


def test_a_host_that_is_replaced_takes_no_gateway_out(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = manifests.containers()["gateway"]["readinessProbe"]
    patience = probe["periodSeconds"] * (probe["failureThreshold"] - 1)
    host = manifests.of("Deployment")["chatfleet-host"]["spec"]
    assert host["replicas"] == 1
    assert host["strategy"] == {"type": "Recreate"}
    assert patience > host["template"]["spec"]["terminationGracePeriodSeconds"] + 10, "stop, schedule, start"
    queue: float = settings_of(manifests, "gateway", monkeypatch).queue_timeout
    assert patience + probe["periodSeconds"] <= queue, "after that requests fail, and had better go elsewhere"


def test_what_is_replaced_while_it_serves_has_a_second_one(manifests: Manifests) -> None:
    budgets = manifests.of("PodDisruptionBudget")
    for name in ("chatfleet-gateway", "chatfleet-worker"):
        spec = manifests.of("Deployment")[name]["spec"]
        scalers = [each["spec"] for each in manifests.of("ScaledObject").values()]
        scaler = next((each for each in scalers if each["scaleTargetRef"]["name"] == name), None)
        assert ("replicas" in spec) == (scaler is None), "else every apply would undo the autoscaler's work"
        assert (scaler["minReplicaCount"] if scaler else spec["replicas"]) >= 2
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        labels = spec["template"]["metadata"]["labels"]
        (budget,) = (each for each in budgets.values() if selects(each["spec"]["selector"], labels))
        assert budget["spec"]["maxUnavailable"] == 1
        for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
            assert selects(spread["labelSelector"], labels)
    assert len(budgets) == 2, "one for a single pod would keep its node from being emptied"
    for name, deployment in manifests.of("Deployment").items():
        selected = [
            each
            for each, pod in manifests.pods().items()
            if selects(deployment["spec"]["selector"], pod["metadata"]["labels"])
        ]
        assert selected == [name]


def test_every_pod_is_restricted(manifests: Manifests) -> None:
    (namespace,) = manifests.of("Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for account in manifests.of("ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False
    for pod in manifests.pods().values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text()
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= {"secret", "configMap", "emptyDir"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"])


def test_no_key_material_is_here(manifests: Manifests) -> None:
    assert not manifests.of("Secret")
    for path in FOLDER.rglob("*"):
        if path.is_file():
            assert path.suffix == ".yaml", path
            assert "PRIVATE KEY" not in path.read_text()


def test_the_autoscaler_reads_what_the_gateway_says(providers: Manifests, fleet: Fleet) -> None:
    (trigger,) = providers.of("ScaledObject")["chatfleet-worker"]["spec"]["triggers"]
    value = fleet.status()
    for name in trigger["metadata"]["valueLocation"].split("."):
        value = value[name]
    assert isinstance(value, float)
    assert trigger["metricType"] == "Value"
    assert math.isclose(float(trigger["metadata"]["targetValue"]), 0.7)
    (namespace,) = providers.of("Namespace")
    port = providers.of("Service")["chatfleet-gateway"]["spec"]["ports"][0]["port"]
    assert trigger["metadata"]["url"] == f"http://chatfleet-gateway.{namespace}.svc:{port}/fleet"
    assert trigger["authenticationRef"]["name"] in providers.of("TriggerAuthentication")


def test_workers_are_taken_away_no_faster_than_they_drain(providers: Manifests) -> None:
    spec = providers.of("ScaledObject")["chatfleet-worker"]["spec"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    grace = providers.pods()["chatfleet-worker"]["spec"]["terminationGracePeriodSeconds"]
    assert all(policy["periodSeconds"] > grace for policy in down["policies"])
    assert down["stabilizationWindowSeconds"] > grace
    assert spec["scaleTargetRef"]["name"] in providers.of("Deployment")


def test_the_ingress_holds_nothing_back_and_nothing_up(providers: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    (ingress,) = providers.of("Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    ports = providers.of("Service")[backend["name"]]["spec"]["ports"]
    assert backend["port"]["name"] in {port["name"] for port in ports}
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]
    words = ingress["metadata"]["annotations"]
    settings = settings_of(providers, "gateway", monkeypatch)
    for prefix, off, size in (
        ("nginx.ingress.kubernetes.io", "off", "proxy-body-size"),
        ("nginx.org", "False", "client-max-body-size"),
    ):
        assert words[f"{prefix}/proxy-buffering"] == off
        assert int(words[f"{prefix}/proxy-read-timeout"].removesuffix("s")) > settings.request_timeout
        assert int(words[f"{prefix}/{size}"].removesuffix("m")) * 1024 * 1024 >= settings.max_body
