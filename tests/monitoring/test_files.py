"""What is made of the catalogue is what is committed, and asks only for what the fleet has."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest

from fleet.metrics.catalogue import named
from fleet.metrics.values import CAUSES, CODES, REFUSALS, STATES
from monitoring.alerts import ALERTS
from monitoring.files import DASHBOARDS, MONITORING, ROOT, expressions, files
from monitoring.outcomes import CLIENTS_AFFAIR, OF_MODELS, REFUSED
from tests.harness.process import ENDS

HERE = Path(__file__).parent
OF_PROMETHEUS = {"up": (), "ALERTS": ("alertname", "alertstate", "severity")}
OF_A_TARGET = {"job", "instance"}


def test_the_files_are_what_is_made() -> None:
    for path, text in files().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: run `make monitoring`"
    shown = set((MONITORING / "dashboards").iterdir())
    assert shown == {path for path in files() if path.suffix == ".json"}


def test_every_metric_and_label_is_in_the_catalogue(tools: Path) -> None:
    assert unknown(tools, [as_prometheus_gets_it(expr) for expr in expressions()]) == []


WRONG = [
    "chatfleet_readi",
    "rate(chatfleet_requests[5m])",
    "chatfleet_time_to_first_token_seconds",
    'chatfleet_workers{stat="ready"}',
    "sum by (modle) (chatfleet_model_workers)",
    "sum by (model) (chatfleet_model_workers) / on (model) max by (worker) (chatfleet_load_ratio)",
]


@pytest.mark.parametrize("expr", WRONG)
def test_a_wrong_name_is_noticed(tools: Path, expr: str) -> None:
    assert unknown(tools, [expr])


def test_every_value_that_an_expression_asks_for_exists() -> None:
    values = {"code": CODES, "state": set(STATES), "cause": set(CAUSES), "reason": {*REFUSALS, "no_room"}}
    for expr in expressions():
        for label, pattern in re.findall(r'\b(code|state|cause|reason)[!=]~?"([^"$]*)"', expr):
            for part in pattern.split("|"):
                assert any(re.fullmatch(part, value) for value in values[label]), (part, expr)


def test_a_code_is_a_failure_or_not() -> None:
    def matching(pattern: str) -> set[str]:
        return {code for code in CODES if re.fullmatch(pattern, code)}

    failures = CODES - matching(CLIENTS_AFFAIR)
    assert {"worker_lost", "no_worker", "internal_error", "first_token_timeout", "model_failed"} <= failures
    assert not failures & {"ok", "client_gone", "invalid_json", "unknown_model", "rate_limit_exceeded"}
    assert matching(REFUSED) <= failures
    assert matching(OF_MODELS) - {"model_not_allowed", "model_rejected_request"} <= failures


def test_grafana_knows_everything_that_dashboards_say(tools: Path) -> None:
    paths = [str(path) for path in files() if path.suffix == ".json"]
    assert run(tools, "grafana.py", paths) == []


def test_a_misspelt_field_of_a_dashboard_is_noticed(tools: Path, tmp_path: Path) -> None:
    spoilt = DASHBOARDS[0].json()
    panel = next(panel for panel in spoilt["panels"] if panel["type"] == "timeseries")
    panel["fieldConfig"]["defaults"]["custom"]["lineWidht"] = 2
    (tmp_path / "spoilt.json").write_text(json.dumps(spoilt))
    (found,) = run(tools, "grafana.py", [str(tmp_path / "spoilt.json")])
    assert found.endswith("lineWidht: unknown")


def test_panels_are_whole_and_do_not_overlap() -> None:
    for dashboard in DASHBOARDS:
        panels = dashboard.json()["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for first, second in itertools.combinations(panels, 2):
            assert not overlap(first["gridPos"], second["gridPos"]), (first["title"], second["title"])
        for panel in panels:
            if panel["type"] == "row":
                continue
            assert panel["description"].endswith("."), panel["title"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${source}"
            several = len(panel["targets"]) > 1
            assert all(target["legendFormat"] for target in panel["targets"]) or not several, panel["title"]


def test_every_alert_says_what_to_do() -> None:
    for alert in ALERTS:
        assert alert.name.startswith("Chatfleet")
        assert alert.description.endswith(".")
        assert alert.threshold.endswith(".")
        assert "{{" not in alert.description
    runbook = ROOT / "docs" / "runbook.md"
    headings = re.findall(r"^#+ (\w+)$", runbook.read_text(), re.MULTILINE)
    assert {alert.name for alert in ALERTS} <= set(headings)


def overlap(first: dict[str, int], second: dict[str, int]) -> bool:
    return all(first[at] < second[at] + second[of] and second[at] < first[at] + first[of] for at, of in ("xw", "yh"))


def unknown(tools: Path, exprs: list[str]) -> list[str]:
    """The metrics that the catalogue has not, and the labels that their metrics have not."""
    wrong = []
    for line in run(tools, "promql.py", [], "".join(json.dumps(expr) + "\n" for expr in exprs)):
        found = json.loads(line)
        asked = [([selector["metric"]], selector["labels"]) for selector in found["selectors"]]
        for metrics, labels in asked + [(metrics, kept) for kept, metrics in found["groupings"]]:
            for metric in metrics:
                try:
                    known = labels_of(metric)
                except KeyError:
                    wrong.append(metric)
                else:
                    wrong += [f"{label} of {metric}" for label in labels if label not in known]
    return wrong


def labels_of(metric: str) -> set[str]:
    """Those that its series have. Raises ``KeyError`` if there is none of that name."""
    if metric in OF_PROMETHEUS:
        return OF_A_TARGET | set(OF_PROMETHEUS[metric])
    known = named(re.sub("_(bucket|sum|count)$", "", metric))
    if (known.kind == "histogram") == (metric == known.name):
        raise KeyError(metric)
    return OF_A_TARGET | set(known.labels) | ({"le"} if metric.endswith("_bucket") else set())


def as_prometheus_gets_it(expr: str) -> str:
    """Grafana puts values in place of its variables."""
    return re.sub(r"\$\w+", "x", expr.replace("$__rate_interval", "1m"))


def run(tools: Path, script: str, arguments: list[str], given: str = "") -> list[str]:
    command = [str(tools / "python"), str(HERE / script), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=ENDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
