"""The files that are made, and what is in them."""

from pathlib import Path

from monitoring.alerts import ALERTS
from monitoring.rules import dumped, groups

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "deploy" / "monitoring"

MADE = "# Made by `make monitoring` from monitoring/: change that.\n"


def files() -> dict[Path, str]:
    return {MONITORING / "alerts.yml": MADE + dumped(groups(ALERTS))}
