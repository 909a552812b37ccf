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
    made = {MONITORING / "alerts.yml": MADE + dumped(groups(ALERTS)), COMPONENT / "alerts.yaml": MADE + dumped(_rule())}
    for dashboard in DASHBOARDS:
        text = json.dumps(dashboard.json(), indent=1, ensure_ascii=False) + "\n"
        made[MONITORING / "dashboards" / f"{dashboard.uid}.json"] = text
    return made


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
