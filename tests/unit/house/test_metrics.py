"""The catalogue of metrics keeps Prometheus' rules, and the operators' tables are what it says."""

import ast
import re

import pytest

from fleet.metrics.catalogue import ALL, LIBRARY, METRICS, Metric
from fleet.metrics.events import EVENTS
from fleet.metrics.values import LABELS
from tests.harness.process import REPOSITORY
from tests.unit.house.imports import parsed

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()


def row(metric: Metric) -> str:
    """Its line in the operators' table."""
    at = "all" if metric.members == ALL else ", ".join(metric.members)
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {at} | {labels} | {metric.help} |"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_keeps_the_rules(metric: Metric) -> None:
    assert re.fullmatch("chatfleet(_[a-z0-9]+)+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert (metric.kind == "histogram") == bool(metric.buckets) == (metric.kind == "histogram" and metric.unit != "")
    assert list(metric.buckets) == sorted(metric.buckets)
    assert not metric.help.endswith(".")
    assert "|" not in metric.help


def test_names_are_given_once() -> None:
    names = [metric.name for metric in (*METRICS, *LIBRARY)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", [*METRICS, *LIBRARY], ids=lambda metric: metric.name)
def test_the_operators_table_has_every_metric(metric: Metric) -> None:
    assert row(metric) in OPERATIONS.splitlines()


def test_the_operators_table_has_no_other_metric() -> None:
    names = {metric.name for metric in (*METRICS, *LIBRARY)}
    lines = [
        line for line in OPERATIONS.splitlines() if re.match(r"\| `(chatfleet|process|python)_[a-z0-9_]+` \|", line)
    ]
    assert {line.split("`")[1] for line in lines} == names


def test_every_label_is_explained() -> None:
    used = {label for metric in (*METRICS, *LIBRARY) for label in metric.labels}
    assert used == set(LABELS)
    for label, meaning in LABELS.items():
        assert f"| `{label}` | {meaning} |" in OPERATIONS.splitlines()


@pytest.mark.parametrize("package", [*EVENTS, "fleet"])
def test_every_warning_and_error_is_counted_from_the_start(package: str) -> None:
    """Else the first one would be no rise, and no alert would see it."""
    calls = [
        node
        for file in (REPOSITORY / package).rglob("*.py")
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
    ]
    logged = {
        (call.func.attr, call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and call.func.attr in ("warning", "error")
        and isinstance(call.args[0], ast.Constant)
    }
    counted = {
        (level, event)
        for process, levels in EVENTS.items()
        for level, events in levels.items()
        for event in events
        if package in (process, "fleet")
    }
    assert len(logged) > 1
    assert logged <= counted, f"add to fleet/metrics/events.py: {sorted(logged - counted)}"
