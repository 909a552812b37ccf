"""Alert rules in Prometheus' form."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = r"(\d+)([smhd])"
RUNBOOK = "docs/runbook.md#"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert. Durations are written ``30s``, ``5m``, ``1h``; in ``expr``, those in brackets are windows."""

    name: str
    expr: str
    lasts: str
    """How long ``expr`` must hold until the alert fires."""
    severity: Literal["critical", "warning"]
    """``critical``: users get errors or soon will, so somebody gets up. ``warning``: to be looked at by day."""
    summary: str
    description: str
    threshold: str
    """Why these numbers."""

    def rule(self, pace: int = 1) -> dict[str, Any]:
        """The rule, with every duration divided by ``pace``."""
        return {
            "alert": self.name,
            "expr": re.sub(rf"\[{DURATION}\]", lambda found: f"[{_divided(found, pace)}]", self.expr.strip()),
            "for": re.sub(DURATION, lambda found: _divided(found, pace), self.lasts),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "threshold": self.threshold,
                "runbook_url": RUNBOOK + self.name.lower(),
            },
        }


def groups(alerts: Sequence[Alert], pace: int = 1) -> dict[str, Any]:
    """The content of a file of rules, which is also the ``spec`` of a PrometheusRule."""
    return {"groups": [{"name": "chatfleet", "rules": [alert.rule(pace) for alert in alerts]}]}


def _divided(duration: re.Match[str], pace: int) -> str:
    number, unit = duration.groups()
    if pace == 1:
        return number + unit
    return f"{int(number) * SECONDS[unit] * 1000 // pace}ms"


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, lists indented, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dumped(*documents: Any) -> str:
    """Documents as YAML."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
