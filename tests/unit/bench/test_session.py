"""Which target is measured when, and what happens to one that fails or does not come to rest."""

from typing import cast

import pytest

from bench.report import Measured, Report
from bench.session import Part, measure
from bench.stage import Stage
from bench.targets.direct import Direct
from bench.targets.target import Target
from bench.window import Figures
from bench.workloads import BUSY, CROWD, Idle, Memory, Paced, Workload

IDLE, LIGHT = Idle(), Paced("light16", 16, 50, ramp=0.2)


class Fake(Target):
    """Runs nothing; keeps how often it was started."""

    name = "fake"

    def __init__(self) -> None:
        super().__init__(0)
        self.starts = 0

    def start(self) -> None:
        self.starts += 1

    def is_ready(self) -> bool:
        return True


class FakeStage:
    """Answers with the same figures for every workload; keeps what was measured."""

    def __init__(self) -> None:
        self.measured: list[tuple[Target, str]] = []
        self.faults: list[str] = []
        self.busy: set[Target] = set()
        """Targets that do not come to rest."""
        self.broken: set[Target] = set()
        self.cut = 0

    def warm_up(self, target: Target) -> None:
        pass

    def measure(self, target: Target, workload: Workload) -> Figures:
        if target in self.broken:
            raise RuntimeError("its process ended")
        self.measured.append((target, workload.name))
        return {"first_p50": float(len(self.measured)), "cut": self.cut}

    def settles(self) -> bool:
        return self.measured[-1][0] not in self.busy


class Bench:
    """A group of two targets beside ``direct``."""

    def __init__(self) -> None:
        self.stage = FakeStage()
        self.direct, self.one, self.two = Direct(0), Fake(), Fake()
        self.report = Report({}, 1, [])

    def run(self, *workloads: Workload, is_turned: bool = False) -> list[tuple[str, str]]:
        """What was measured, in order."""
        targets: dict[str, Target] = {"one": self.one, "two": self.two, "direct": self.direct}
        self.report.targets = {name: Measured("1") for name in targets}
        group = [Part(name, target, workloads) for name, target in targets.items()]
        measure(cast("Stage", self.stage), group, self.report, {}, is_turned=is_turned)
        names = {target: name for name, target in targets.items()}
        return [(names[target], workload) for target, workload in self.stage.measured]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_workload_is_measured_on_all_targets_in_turn(bench: Bench) -> None:
    order = [(name, load) for load in ("idle", "light16") for name in ("direct", "one", "two")]
    assert bench.run(IDLE, LIGHT) == order
    assert (bench.one.starts, bench.two.starts) == (1, 1)


def test_the_turned_order_keeps_direct_first(bench: Bench) -> None:
    assert bench.run(IDLE, is_turned=True) == [("direct", "idle"), ("two", "idle"), ("one", "idle")]


def test_first_tokens_are_compared_with_those_of_no_gateway(bench: Bench) -> None:
    bench.run(IDLE)
    added = [bench.report.targets[name].workloads["idle"]["added_first_p50"] for name in ("direct", "one", "two")]
    assert added == [[0.0], [1.0], [2.0]]


def test_memory_is_measured_while_no_other_target_runs(bench: Bench) -> None:
    bench.run(Memory(), IDLE)
    assert (bench.one.starts, bench.two.starts) == (2, 2)


def test_a_target_that_is_still_busy_is_started_again(bench: Bench) -> None:
    bench.stage.busy.add(bench.one)
    bench.run(IDLE, LIGHT)
    assert (bench.one.starts, bench.two.starts) == (2, 1)


def test_a_target_that_fails_is_left_out_and_the_others_are_measured(bench: Bench) -> None:
    bench.stage.broken.add(bench.one)
    found = bench.run(IDLE, LIGHT)
    assert found == [(name, load) for load in ("idle", "light16") for name in ("direct", "two")]
    assert bench.report.targets["one"].problems == ["stopped: its process ended"]


def test_faults_are_recorded_with_their_workload(bench: Bench) -> None:
    bench.stage.faults.append("1 of 16 replies not exact")
    bench.run(IDLE)
    assert bench.report.targets["direct"].problems == ["idle: 1 of 16 replies not exact"]
    assert bench.stage.faults == []


def test_more_streams_are_not_tried_where_all_were_cut(bench: Bench) -> None:
    bench.stage.cut = BUSY.streams
    found = bench.run(BUSY, CROWD, LIGHT)
    assert {workload for _, workload in found} == {"paced200", "light16"}
    assert bench.report.targets["one"].remarks
