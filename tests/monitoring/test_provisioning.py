"""The compose profile: Prometheus finds every member, Grafana finds Prometheus and the dashboards."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from monitoring.files import DASHBOARDS, MONITORING, ROOT, files
from tests.harness.process import ENDS

PROFILE = ("prometheus", "grafana")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
(SOURCE,) = yaml.safe_load((MONITORING / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"]
(PROVIDER,) = yaml.safe_load((MONITORING / "grafana" / "dashboards" / "chatfleet.yml").read_text())["providers"]


def test_prometheus_takes_its_configuration(promtool: str) -> None:
    command = [promtool, "check", "config", "--lint-fatal", str(MONITORING / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("service", "variable"), [("host", "HOST_HEALTH_BIND"), ("worker", "WORKER_HEALTH_BIND")])
def test_members_are_scraped_where_they_listen(service: str, variable: str) -> None:
    assert SERVICES[service]["environment"][variable] == f"${{CHATFLEET_METRICS:-127.0.0.1}}:{scraped(service)}"


def test_gateways_are_scraped_where_they_listen() -> None:
    assert SERVICES["gateway"]["environment"]["GATEWAY_BIND"] == f"0.0.0.0:{scraped('gateway')}"


def test_prometheus_shares_a_network_with_every_member_and_grafana_only_with_prometheus() -> None:
    networks = {name: {*service.get("networks", ())} for name, service in SERVICES.items()}
    for member in ("host", "gateway", "worker"):
        assert networks["prometheus"] & networks[member]
    for name in SERVICES.keys() - {*PROFILE}:
        assert not networks["grafana"] & networks[name]
    assert networks["grafana"] <= networks["prometheus"]


@pytest.mark.parametrize("service", PROFILE)
def test_the_profile_is_contained_pinned_and_on_loopback(service: str) -> None:
    found = SERVICES[service]
    assert found["profiles"] == ["monitoring"]
    assert re.fullmatch(r"(prom|grafana)/\w+:v?\d+\.\d+\.\d+", found["image"])
    assert all(port.startswith("127.0.0.1:") for port in found["ports"])
    assert found["read_only"]
    assert found["cap_drop"] == ["ALL"]
    assert found["mem_limit"]
    assert found["cpus"]
    for volume in found["volumes"]:
        source, _, rest = volume.partition(":")
        assert source in COMPOSE["volumes"] or rest.endswith(":ro")


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/monitoring/grafana"] == "/etc/grafana/provisioning"
    assert mounts["./deploy/monitoring/dashboards"] == PROVIDER["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{PROVIDER['options']['path']}/{DASHBOARDS[0].uid}.json"
    assert SOURCE["url"] == "http://prometheus:9090"
    assert SOURCE["isDefault"], "the dashboards' variable has no other default"
    assert SOURCE["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_prometheus_finds_its_files() -> None:
    (mount,) = (volume for volume in SERVICES["prometheus"]["volumes"] if volume.startswith("./"))
    source, target, _ = mount.split(":")
    assert ROOT / source == MONITORING
    assert f"--config.file={target}/prometheus.yml" in SERVICES["prometheus"]["command"]
    for name in PROMETHEUS["rule_files"]:
        assert MONITORING / name in files()


def test_grafana_has_no_known_password_and_lets_nobody_in_without_one() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    shell, option, script = SERVICES["grafana"]["entrypoint"]
    script = script.replace("$$", "$").replace("exec /run.sh", "exec echo started")
    for password, (code, said) in {"": (2, "Set GRAFANA_PASSWORD in .env\n"), "x": (0, "started\n")}.items():
        done = subprocess.run(
            [shell, option, script],
            env={"GF_SECURITY_ADMIN_PASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (code, said)


@pytest.mark.skipif(shutil.which("docker") is None, reason="Docker's client is not there")
def test_compose_takes_the_profile() -> None:
    asked = {"COMPOSE_PROFILES": "monitoring", "CHATFLEET_METRICS": "0.0.0.0", "GRAFANA_PASSWORD": "x"}
    command = ["docker", "compose", "--env-file", "/dev/null", "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | asked, capture_output=True, text=True, timeout=ENDS, check=False
    )
    if "compose" in done.stderr and "is not a docker command" in done.stderr:
        pytest.skip("Docker's client has no compose plugin")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services["worker"]["environment"]["WORKER_HEALTH_BIND"] == "0.0.0.0:8503"
    assert {*PROFILE} <= services.keys()


def scraped(service: str) -> int:
    """The port at which Prometheus asks every replica of a service."""
    (job,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == f"chatfleet-{service}")
    (found,) = job["dns_sd_configs"]
    assert found["names"] == [service]
    port: int = found["port"]
    return port
