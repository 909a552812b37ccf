"""The benchmark's table, goals and plots."""

import xml.etree.ElementTree as ElementTree

import pytest

from bench import comparison, goals
from bench.figures import Spread
from bench.plots import COLOURS, plots
from bench.report import Measured, Report, number


@pytest.fixture
def report() -> Report:
    """Two runs of ours and of the naive target; ours also with 1 and 8 workers."""
    report = Report({"machine": "a machine"}, 2, ["chatfleet", "naive"])
    ours = report.targets["chatfleet"] = Measured("1", workers=2)
    for cost in (80.0, 100.0):
        parts = {"cpu": cost, "cpu.host": cost / 4, "cpu.worker": cost * 3 / 4}
        ours.add("paced16", {**parts, "first_p50": 3.0, "gap_p99": 12.0, "faulty": 0})
        ours.add("paced200", {"cpu": cost / 2, "first_p50": 4.0, "cut": 0})
    naive = report.targets["naive"] = Measured("2", problems=["paced16: 1 of 16 replies not exact"])
    naive.add("paced16", {"cpu": 480.0, "first_p50": 9.0})
    naive.add("flat16", {"tokens_s": 2000.0})
    for workers, cost, each in ((1, 50.0, 90.0), (8, 60.0, 81.0)):
        scaled = report.targets[f"chatfleet, {workers} workers"] = Measured("1", workers=workers)
        scaled.add("paced200", {"cpu": cost})
        scaled.add("each25", {"cpu": each})
    report.targets["chatfleet, 1 workers"].add("flat16", {"tokens_s": 16000.0})
    return report


def row(text: str, title: str) -> list[str]:
    """The cells of the first row of that title."""
    (first, *_) = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in first.split("|")[2:-1]]


def test_the_table_has_a_column_for_each_target_and_none_for_the_scales(report: Report) -> None:
    header = report.as_markdown().splitlines()[0]
    assert header == "| 2 runs, changing frames: median (range) | chatfleet | naive |"


def test_a_figure_is_its_median_and_range(report: Report) -> None:
    assert row(report.as_markdown(), "CPU per token (µs)") == ["90.0 (80.0 … 100)", "480"]


def test_cost_is_shown_by_process(report: Report) -> None:
    assert row(report.as_markdown(), "of it")[0] == "host 22.5 · worker 67.5"


def test_a_workload_that_was_not_run_has_no_rows(report: Report) -> None:
    assert "memory" not in report.as_markdown()


def test_failures_are_listed(report: Report) -> None:
    assert "- naive: paced16: 1 of 16 replies not exact" in report.as_markdown()


def test_growth_with_workers_is_shown_against_the_fewest(report: Report) -> None:
    assert row(report.as_markdown(), "of that with 1") == ["1.00", "0.90", "1.20"]


def test_a_report_survives_its_json(report: Report) -> None:
    assert Report.from_json(report.as_json()) == report


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (Spread(5, 5, 5), "5.00"),
        (Spread(1234.5, 99.96, 1e6), "1,234 (100.0 … 1,000,000)"),
        (Spread(-3.5, -4, 0), "-3.50 (-4.00 … 0.00)"),
    ],
)
def test_numbers_are_short(spread: Spread, text: str) -> None:
    assert number(spread) == text


def test_goals_are_met_or_missed_by_their_bound(report: Report) -> None:
    text = "\n".join(goals.table(report))
    assert row(text, "16 streams at 5 ms: CPU per token (µs)") == ["90.0", "at most 90", "met"]
    shared = row(text, "CPU per token, 8 workers against 1, 200 streams in all")
    assert shared == ["1.20", "at most 1.15", "**missed**"]
    assert row(text, "… with 25 streams for each worker") == ["0.90", "at most 1.15", "met"]
    assert row(text, "Flat out, 16 streams, 1 worker: tokens/s") == ["16,000", "at least 15000", "met"]
    assert row(text, "… as a multiple of the naive target's best") == ["8.00", "at least 5", "met"]


def test_cost_is_compared_run_by_run(report: Report) -> None:
    for name, costs in (("proxy", (50.0, 200.0)), ("before", (160.0, 50.0))):
        target = report.targets[name] = Measured("1")
        for cost in costs:
            target.add("paced16", {"cpu": cost})
    text = "\n".join(comparison.table(report))
    found = row(text, "16 streams at 5 ms: CPU per token (µs)")
    assert found[3:] == ["1.25 (0.50 … 2.00)", "1.05 (0.50 … 1.60)", "1.73 (0.25 … 3.20)"]
    assert row("\n".join(goals.table(report)), "… as a part of the proxy's") == ["1.05", "at most 1.15", "met"]


def test_a_run_that_one_of_them_lacks_is_not_compared(report: Report) -> None:
    report.targets["proxy"] = Measured("1")
    report.targets["proxy"].add("paced16", {"cpu": 50.0})
    assert report.ratio("paced16", "cpu", "chatfleet", "proxy") is None


def test_nothing_is_compared_where_there_is_one(report: Report) -> None:
    assert comparison.table(report) == []


def test_the_naive_target_counts_at_its_best(report: Report) -> None:
    report.targets["naive"].add("paced16", {"tokens_s": 3200.0})
    text = "\n".join(goals.table(report))
    assert row(text, "… as a multiple of the naive target's best") == ["5.00", "at least 5", "met"]


def test_a_goal_that_was_not_measured_is_not_shown(report: Report) -> None:
    assert "LiteLLM" not in "\n".join(goals.table(report))
    assert goals.table(Report({}, 1, [])) == []


def test_plots_are_drawn_of_what_was_measured(report: Report) -> None:
    drawn = plots(report)
    assert set(drawn) == {"cost.svg", "first_token.svg", "workers.svg"}
    for plot in drawn.values():
        ElementTree.fromstring(plot.as_svg())


def test_nothing_is_drawn_of_nothing() -> None:
    assert plots(Report({}, 1, [])) == {}


def test_a_target_has_the_same_colour_in_every_plot(report: Report) -> None:
    report.main.reverse()
    drawn = plots(report)
    assert all(f'stroke="{COLOURS["chatfleet"]}"' in plot.as_svg() for plot in drawn.values())
    assert len(set(COLOURS.values())) == len(COLOURS)
