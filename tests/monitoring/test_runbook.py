"""The runbook: a section for each alert and no other, and queries that Prometheus and the catalogue know."""

import re
from pathlib import Path

import pytest

from monitoring.alerts import ALERTS
from monitoring.files import ROOT
from tests.monitoring.test_files import unknown

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def queries() -> list[str]:
    """Those in blocks, a line each, and those within sentences."""
    blocks = re.findall(r"^ *```promql\n(.*?)^ *```", RUNBOOK, re.DOTALL | re.MULTILINE)
    lines = [line.partition("  # ")[0].strip() for block in blocks for line in block.strip().splitlines()]
    prose = re.sub(r"^ *```.*?^ *```", "", RUNBOOK, flags=re.DOTALL | re.MULTILINE)
    return lines + [code for code in re.findall(r"`([^`\n]+)`", prose) if re.search(r"\bchatfleet_", code)]


def test_every_alert_has_a_section_and_no_other_has() -> None:
    section = RUNBOOK[RUNBOOK.index("## Alerts") :]
    assert re.findall("^### (.+)$", section, re.MULTILINE) == [alert.name for alert in ALERTS]


def test_every_query_asks_for_what_there_is(tools: Path) -> None:
    assert len(queries()) > 20
    assert unknown(tools, queries()) == []


@pytest.mark.parametrize("query", ["chatfleet_load", "sum by (modle) (chatfleet_model_workers)"])
def test_a_wrong_query_is_noticed(tools: Path, query: str) -> None:
    assert unknown(tools, [query])
