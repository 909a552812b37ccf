"""The benchmark runs against our fleet, and its figures have the shape that the table and the plots are made of."""

import json
from typing import get_args

import pytest

from bench.__main__ import collect
from bench.order import Kind
from bench.processes import REPOSITORY
from bench.report import BEFORE, OURS, Report
from bench.session import Part
from bench.stage import Stage
from bench.targets.direct import Direct
from bench.targets.fleet import Fleet
from bench.workloads import Idle, Paced, Workload

TIMES = {f"{name}_p{percent}" for name in ("first", "delay", "gap") for percent in (50, 95, 99)}
ADDED = {f"added_first_p{percent}" for percent in (50, 95, 99)}
COUNTS = {"requests", "cut", "faulty", "tokens_s"}


KINDS: tuple[Kind, ...] = get_args(Kind)


@pytest.fixture(scope="module")
def report() -> Report:
    """Ours twice, side by side, as if one were a checkout of an earlier commit; and no gateway at all."""
    paced = [Paced(f"paced16-{kind}", 16, 5, ramp=0.1, window=1.5, kind=kind) for kind in KINDS]
    workloads: list[Workload] = [Idle(requests=5), *paced]
    with Stage() as stage:
        before = Part(BEFORE, Fleet(stage.port, checkout=REPOSITORY), workloads[1:2])
        group = [Part(Direct.name, Direct(stage.port), workloads), Part(OURS, Fleet(stage.port), workloads), before]
        return collect(stage, [group], runs=1)


def test_a_short_benchmark_finds_every_reply_exact(report: Report) -> None:
    assert {name: target.problems for name, target in report.targets.items()} == {Direct.name: [], OURS: [], BEFORE: []}


def test_its_figures_are_those_that_the_table_shows(report: Report) -> None:
    ours = json.loads(report.as_json())["targets"][OURS]["workloads"]
    processes = {f"cpu.{name}" for name in ("host", "worker", "gateway")}
    assert set(ours["idle"]) == TIMES | ADDED | COUNTS | {f"request_{name}" for name in processes} | {"request_cpu"}
    assert all(len(values) == 1 for figures in ours.values() for values in figures.values())
    for kind in KINDS:
        figures = ours[f"paced16-{kind}"]
        assert set(figures) == TIMES | ADDED | COUNTS | processes | {"cpu", "backend_cpu", "load_cpu", "elsewhere"}
        assert figures["requests"] == [16]
        assert figures["cpu"] == pytest.approx([sum(figures[name][0] for name in processes)])
        assert all(figures[name][0] > 0 for name in processes)


def test_two_commits_are_compared_by_their_ratio(report: Report) -> None:
    ratio = report.ratio("paced16-text", "cpu", OURS, BEFORE)
    assert ratio is not None
    assert 0.2 < ratio.median < 5
