"""The benchmark runs against our fleet, and its figures have the shape that the table and the plots are made of."""

import json

import pytest

from bench.__main__ import Part, collect
from bench.report import OURS
from bench.stage import Stage
from bench.targets.direct import Direct
from bench.targets.fleet import Fleet
from bench.workloads import Idle, Paced, Workload

TIMES = {f"{name}_p{percent}" for name in ("first", "delay", "gap") for percent in (50, 95, 99)}
ADDED = {f"added_first_p{percent}" for percent in (50, 95, 99)}
COUNTS = {"requests", "cut", "faulty", "tokens_s"}


def test_a_short_benchmark_measures_ours_and_no_gateway_at_all() -> None:
    workloads: list[Workload] = [Idle(requests=5), Paced("paced16", 16, 5, ramp=0.1, window=0.3)]
    with Stage() as stage:
        parts = [Part(Direct.name, Direct(stage.port), workloads), Part(OURS, Fleet(stage.port), workloads)]
        report = collect(stage, parts, runs=1)
    assert {name: target.problems for name, target in report.targets.items()} == {"direct": [], OURS: []}
    ours = json.loads(report.as_json())["targets"][OURS]["workloads"]
    processes = {f"cpu.{name}" for name in ("host", "worker", "gateway")}
    assert set(ours["paced16"]) == TIMES | ADDED | COUNTS | processes | {"cpu", "backend_cpu", "load_cpu"}
    assert set(ours["idle"]) == TIMES | ADDED | COUNTS | {f"request_{name}" for name in processes} | {"request_cpu"}
    assert ours["paced16"]["requests"] == [16]
    assert ours["paced16"]["cpu"] == pytest.approx([sum(ours["paced16"][name][0] for name in processes)])
    assert all(ours["paced16"][name][0] > 0 for name in processes)
    assert all(len(values) == 1 for figures in ours.values() for values in figures.values())
