"""Dashboards in Grafana's form (schema 41, that of Grafana 12): panels that flow into rows of 24 columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 41
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${source}"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """A query, and the name of each of its series, in which ``{{label}}`` stands for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. ``steps`` are made by :func:`rising` or :func:`falling`."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    steps: Sequence[Json] = ()

    def json(self, number: int, x: int, y: int) -> Json:
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(query, letter) for query, letter in zip(self.queries, "ABCDEFGH", strict=False)],
            "fieldConfig": {"defaults": self._field(), "overrides": []},
            "options": _options(self.kind),
        }

    def _target(self, query: Query, letter: str) -> Json:
        target = {
            "refId": letter,
            "datasource": SOURCE,
            "expr": " ".join(query.expr.split()),
            "legendFormat": query.legend,
            "editorMode": "code",
            "range": self.kind == "timeseries",
            "instant": self.kind != "timeseries",
        }
        return target | ({"format": "table"} if self.kind == "table" else {})

    def _field(self) -> Json:
        field: Json = {"unit": self.unit, "min": 0} if self.kind == "timeseries" else {"unit": self.unit}
        field["thresholds"] = {"mode": "absolute", "steps": self.steps or [{"color": "green", "value": None}]}
        field["color"] = {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"}
        if self.kind == "timeseries":
            field["custom"] = {
                "drawStyle": "line",
                "lineInterpolation": "linear",
                "lineWidth": 1,
                "fillOpacity": 30 if self.stacked else 0,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "line" if self.steps else "off"},
            }
        return field


def rising(yellow: float, red: float) -> list[Json]:
    """The values from which it is yellow and red."""
    return [{"color": "green", "value": None}, {"color": "yellow", "value": yellow}, {"color": "red", "value": red}]


def falling(yellow: float, red: float) -> list[Json]:
    """The values below which it is yellow and red."""
    return [{"color": "red", "value": None}, {"color": "yellow", "value": red}, {"color": "green", "value": yellow}]


def graph(title: str, description: str, *queries: Query, unit: str = "short", **more: Any) -> Panel:
    """Series over time."""
    return Panel(title=title, description=description, queries=queries, unit=unit, **more)


def stat(title: str, description: str, query: Query, *, unit: str = "short", **more: Any) -> Panel:
    """The present value, large."""
    return Panel(
        kind="stat",
        title=title,
        description=description,
        queries=(query,),
        unit=unit,
        **{"width": 3, "height": 4} | more,
    )


def table(title: str, description: str, query: Query, **more: Any) -> Panel:
    """A row for each series, a column for each label."""
    return Panel(kind="table", title=title, description=description, queries=(query,), **more)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """How much a counter grows a second."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{{{where}}}[$__rate_interval]))"


def a_minute(metric: str, by: str = "", where: str = "") -> str:
    """How much a counter grows a minute: for what is rare."""
    return f"60 * {rate(metric, by, where)}"


def quantiles(metric: str, where: str = "", by: str = "") -> tuple[Query, ...]:
    """The median, and what one in twenty and one in a hundred exceed; ``metric`` is a histogram's name."""
    labels = f"le, {by}" if by else "le"
    name = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(
            f"histogram_quantile({part}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))",
            f"p{round(part * 100)}{name}",
        )
        for part in (0.5, 0.95, 0.99)
    )


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """What a user chooses at the top: one or several values of a label."""

    name: str
    label: str
    query: str
    several: bool = True

    def json(self) -> Json:
        every: Json = {"includeAll": True, "multi": True, "allValue": ".*"} if self.several else {"includeAll": False}
        chosen: Json = {"text": ["All"], "value": ["$__all"]} if self.several else {}
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": self.query, "refId": self.name},
            "refresh": 2,
            "sort": 1,
            "current": chosen,
            **every,
        }


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    def json(self) -> Json:
        source = {
            "name": "source",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "current": {},
        }
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["chatfleet"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [source, *(variable.json() for variable in self.variables)]},
            "annotations": {"list": [_alerts()]},
            "links": [_link()],
            "panels": list(self._panels()),
        }

    def queries(self) -> list[str]:
        return [query.expr for row in self.rows for panel in row.panels for query in panel.queries]

    def _panels(self) -> Sequence[Json]:
        placed: list[Json] = []
        y = 0
        for row in self.rows:
            head = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
            placed.append(head | {"id": len(placed) + 1, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
            x, y, tallest = 0, y + 1, 0
            for panel in row.panels:
                if x + panel.width > WIDTH:
                    x, y, tallest = 0, y + tallest, 0
                placed.append(panel.json(len(placed) + 1, x, y))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return placed


def _options(kind: str) -> Json:
    if kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "value",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    if kind == "table":
        return {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"]}}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _alerts() -> Json:
    """Marks on every graph for the times at which an alert fired."""
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": SOURCE,
        "expr": 'ALERTS{alertstate="firing", alertname=~"Chatfleet.*"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{job}} {{instance}} {{model}}",
    }


def _link() -> Json:
    return {
        "title": "chatfleet",
        "type": "dashboards",
        "tags": ["chatfleet"],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }
