"""The files that are made, and what is in them."""

import json
import re
from pathlib import Path
from typing import Any

from fleet.metrics import catalogue
from monitoring.alerts import ALERTS
from monitoring.dashboards.fleet import FLEET
from monitoring.dashboards.models import MODELS
from monitoring.dashboards.worker import ONE_WORKER
from monitoring.rules import dumped, groups

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "deploy" / "monitoring"
COMPONENT = ROOT / "deploy" / "kubernetes" / "components" / "monitoring"

MADE = "# Made by `make monitoring` from monitoring/: change that.\n"
DASHBOARDS = (FLEET, MODELS, ONE_WORKER)
OURS = re.compile(r"\bchatfleet_\w+|\bpython_\w+|\bprocess_\w+")


def files() -> dict[Path, str]:
    """By path. Raises ``KeyError`` for an expression with a metric that the catalogue has not."""
    for expr in expressions():
        for name in OURS.findall(expr):
            catalogue.named(re.sub("_(bucket|sum|count)$", "", name))
    shown = {f"{dashboard.uid}.json": dashboard.json() for dashboard in DASHBOARDS}
    return {
        MONITORING / "alerts.yml": MADE + dumped(groups(ALERTS)),
        **{MONITORING / "dashboards" / name: json.dumps(board, indent=1) + "\n" for name, board in shown.items()},
        COMPONENT / "alerts.yaml": MADE + dumped(_rule()),
        COMPONENT / "dashboards.yaml": MADE + dumped(*(_map(name, board) for name, board in shown.items())),
    }


def expressions() -> list[str]:
    """Every expression of PromQL, those of dashboards with Grafana's variables in them."""
    shown = [expr for dashboard in DASHBOARDS for expr in dashboard.queries()]
    return [alert.expr for alert in ALERTS] + shown


def _rule() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "chatfleet"},
        "spec": groups(ALERTS),
    }


def _map(name: str, board: dict[str, Any]) -> dict[str, Any]:
    """A dashboard as Grafana's sidecar finds it. One each, and no spaces: `kubectl apply` takes up to 256 KiB."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"dashboard-{name.removesuffix('.json')}", "labels": {"grafana_dashboard": "1"}},
        "data": {name: json.dumps(board, separators=(",", ":"))},
    }
