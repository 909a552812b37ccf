"""Line plots as SVG. Three plots do not justify a plotting library in every environment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.figures import Spread
from bench.report import OURS, Report

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
NARROWEST = 0.7
"""The fewest powers of ten that an axis covers, so that a small difference does not look like a large one."""
COLOURS = {
    "chatfleet": "#1f6feb",
    "chatfleet-traced": "#0a3069",
    "before": "#79c0ff",
    "naive": "#d1242f",
    "proxy": "#1a7f37",
    "litellm": "#9a6700",
    "production-stack": "#8250df",
    "smg": "#57606a",
    "direct": "#bf3989",
}
"""A target has the same colour in every plot."""
OTHER = "#24292f"

Point = tuple[float, Spread]


@dataclass(frozen=True)
class Plot:
    """Lines through medians, with a bar for each range; both axes are logarithmic. Values must be above 0."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[Point]]

    def as_svg(self) -> str:
        """The whole file."""
        points = [point for line in self.lines.values() for point in line]
        xs = sorted({x for x, _ in points})
        horizontal = _Axis(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
        vertical = _Axis(
            min(spread.low for _, spread in points), max(spread.high for _, spread in points), HEIGHT - BOTTOM, TOP
        )
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            _text(LEFT, TOP - 16, self.title, "start", 'font-weight="bold"'),
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, self.x_label),
            _text(16, (TOP + HEIGHT - BOTTOM) / 2, self.y_label, "middle", _upright(16, (TOP + HEIGHT - BOTTOM) / 2)),
            *(_grid(vertical.at(value), _tick(value)) for value in vertical.ticks()),
            *(_text(horizontal.at(x), HEIGHT - BOTTOM + 18, _tick(x)) for x in xs),
        ]
        for number, (name, line) in enumerate(self.lines.items()):
            parts += _line(name, line, COLOURS.get(name, OTHER), number, horizontal, vertical)
        return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Places values between two coordinates."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._high = math.log10(low), math.log10(high)
        missing = max(0.0, NARROWEST - (self._high - self._low))
        self._low, self._high = self._low - missing / 2, self._high + missing / 2
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        """1, 2 and 5 times every power of ten, where they lie on the axis."""
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        values = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        return [value for value in values if self._low <= math.log10(value) <= self._high]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def _upright(x: float, y: float) -> str:
    return f'transform="rotate(-90 {x:.1f} {y:.1f})"'


def _grid(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#d0d7de"/>'
    return line + _text(LEFT - 6, y + 4, label, "end")


def _line(
    name: str, points: Sequence[Point], colour: str, number: int, horizontal: _Axis, vertical: _Axis
) -> list[str]:
    places = [(horizontal.at(x), spread) for x, spread in points]
    path = " ".join(f"{x:.1f},{vertical.at(spread.median):.1f}" for x, spread in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for x, spread in places:
        ends = f'y1="{vertical.at(spread.low):.1f}" x2="{x:.1f}" y2="{vertical.at(spread.high):.1f}"'
        parts.append(f'<line x1="{x:.1f}" {ends} stroke="{colour}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{vertical.at(spread.median):.1f}" r="3.5" fill="{colour}"/>')
    y = TOP + 18 * number
    parts.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{y}" width="12" height="12" fill="{colour}"/>')
    parts.append(_text(WIDTH - RIGHT + 34, y + 10, name, "start"))
    return parts


CONCURRENCY = (("paced16", 16), ("paced200", 200), ("paced1000", 1000))


def plots(report: Report) -> dict[str, Plot]:
    """The plots for which there are figures, by file name."""
    streams = "open streams (16 at 5 ms a token, 200 at 20 ms, 1,000 at 50 ms)"
    drawn = {
        "cost.svg": Plot("CPU per token", streams, "µs, all processes", _by_streams(report, "cpu")),
        "first_token.svg": Plot("First token, p50", streams, "ms", _by_streams(report, "first_p50")),
        "workers.svg": Plot(
            "CPU per token by workers, 200 streams at 20 ms", "workers", "µs, all processes", _by_workers(report)
        ),
    }
    return {name: plot for name, plot in drawn.items() if plot.lines}


def _by_streams(report: Report, figure: str) -> dict[str, list[Point]]:
    lines = {}
    for name in report.main:
        found = [(streams, report.targets[name].spread(workload, figure)) for workload, streams in CONCURRENCY]
        line: list[Point] = [(streams, spread) for streams, spread in found if spread and spread.low > 0]
        if len(line) > 1:
            lines[name] = line
    return lines


def _by_workers(report: Report) -> dict[str, list[Point]]:
    line: list[Point] = list(report.by_workers("paced200", "cpu"))
    return {OURS: line} if len(line) > 1 else {}
