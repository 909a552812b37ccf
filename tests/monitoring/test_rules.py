"""Each alert fires when it must, says what it should, and is quiet otherwise: by promtool, without a fleet."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.alerts import ALERTS
from monitoring.files import MONITORING
from monitoring.rules import groups
from tests.harness.process import ENDS
from tests.monitoring.cases import CASES, Case, Series

BY_NAME = {alert.name: alert for alert in ALERTS}


def test_every_alert_has_a_case() -> None:
    assert CASES.keys() == BY_NAME.keys()
    assert len(BY_NAME) == len(ALERTS), "names are unique"


def test_the_rules_are_valid(promtool: str) -> None:
    checked = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", str(MONITORING / "alerts.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_must_and_is_quiet_otherwise(promtool: str, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    tests = [
        scenario(name, case.fires, [case.at], [said(name, case)]),
        scenario(name, case.quiet, [f"{minute}m" for minute in range(1, 13)], []),
    ]
    assert not complaints(promtool, tmp_path, tests)


def test_a_case_that_is_wrong_is_noticed(promtool: str, tmp_path: Path) -> None:
    name, case = next(iter(CASES.items()))
    assert "FAILED" in complaints(promtool, tmp_path, [scenario(name, case.fires, [case.at], [])])
    assert "FAILED" in complaints(promtool, tmp_path, [scenario(name, case.quiet, [case.at], [said(name, case)])])


def scenario(name: str, series: Series, at: list[str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    """One of promtool's tests."""
    return {
        "interval": "15s",
        "input_series": [{"series": labels, "values": values} for labels, values in series.items()],
        "alert_rule_test": [{"eval_time": time, "alertname": name, "exp_alerts": expected} for time in at],
    }


def said(name: str, case: Case) -> dict[str, Any]:
    rule = BY_NAME[name].rule()
    return {
        "exp_labels": case.labels | rule["labels"],
        "exp_annotations": rule["annotations"] | {"summary": case.summary},
    }


def complaints(promtool: str, folder: Path, tests: list[dict[str, Any]]) -> str:
    """What promtool says of tests that fail; empty if none does."""
    (folder / "alerts.yml").write_text(yaml.safe_dump(groups(ALERTS)))
    document = {"rule_files": ["alerts.yml"], "evaluation_interval": "15s", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, timeout=ENDS, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
