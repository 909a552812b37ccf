"""Targets that were measured side by side, and their ratios: this commit, an earlier one and the plain proxy."""

from bench.figures import Spread
from bench.report import BEFORE, OURS, TRACED, Report, number

COMPARED = (OURS, TRACED, BEFORE, "proxy")
RATIOS = ((TRACED, OURS), (OURS, BEFORE), (OURS, "proxy"), (BEFORE, "proxy"))
FIGURES = (
    ("16 streams at 5 ms: CPU per token (µs)", "paced16", "cpu"),
    ("… of reasoning", "paced16-reasoning", "cpu"),
    ("… of a tool call's arguments", "paced16-tools", "cpu"),
    ("200 streams at 20 ms: CPU per token (µs)", "paced200", "cpu"),
    ("… of reasoning", "paced200-reasoning", "cpu"),
    ("… of a tool call's arguments", "paced200-tools", "cpu"),
    ("16 clients, chats of 100 tokens: CPU per token (µs)", "chats16", "cpu"),
    ("idle: first token, added p50 (ms)", "idle", "added_first_p50"),
    ("idle: CPU per request (ms)", "idle", "request_cpu"),
)


def table(report: Report) -> list[str]:
    """Lines of Markdown; none if fewer than two of them were measured. Ratios are taken run by run."""
    names = [name for name in COMPARED if name in report.targets]
    ratios = [(above, below) for above, below in RATIOS if above in names and below in names]
    if not ratios:
        return []
    head = ["side by side", *names, *(f"{above} : {below}" for above, below in ratios)]
    rows = []
    for title, workload, figure in FIGURES:
        spreads = [report.targets[name].spread(workload, figure) for name in names]
        if any(spreads):
            spreads += [report.ratio(workload, figure, above, below) for above, below in ratios]
            rows.append([title, *(_cell(spread) for spread in spreads)])
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return ["", lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:]] if rows else []


def _cell(spread: Spread | None) -> str:
    return number(spread) if spread else ""
