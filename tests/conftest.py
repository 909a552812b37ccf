"""Fixtures of the tests that use real processes."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from identities.authority import Authority
from tests.harness.fleet import TROUBLE, Fleet

# Machines may be slow: no example has a deadline. All else is Hypothesis's own profile, in CI that for CI.
settings.register_profile("chatfleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chatfleet")

IMPATIENT = {
    "GATEWAY_ACCEPT_TIMEOUT": "1.5",
    "GATEWAY_FIRST_TOKEN_TIMEOUT": "1.5",
    "GATEWAY_TOKEN_TIMEOUT": "1.5",
    "GATEWAY_REQUEST_TIMEOUT": "6",
    "GATEWAY_MAX_ATTEMPTS": "2",
}


def pytest_configure() -> None:
    """Under nohup, in a shell's background and in some CI runners signals are ignored, and what we start would inherit
    that. A handler it does not inherit, and the tests themselves go on as they were asked to."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def shared_fleet() -> Iterator[Fleet]:
    """Host, two workers and a gateway for all tests that leave them whole. Use :func:`fleet`."""
    with Fleet() as fleet:
        yield fleet


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """The shared fleet. A test fails if a process logs trouble meanwhile."""
    before = shared_fleet.log_sizes()
    yield shared_fleet
    for process in shared_fleet.processes:
        log = process.log(before[process.name])
        assert not TROUBLE.search(log), f"{process.name}:\n{log}"


@pytest.fixture(scope="session")
def spare_fleet() -> Iterator[Fleet]:
    """A fleet with short timeouts, for tests that break something and mend it: members, models, the host."""
    with Fleet(settings=IMPATIENT) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and tokens of one fleet, by role. Tests that change them make their own."""
    folder = tmp_path_factory.mktemp("identities")
    Authority(folder).update()
    return folder


LONG = any(os.environ.get(name, "").lower() in ("1", "true") for name in ("CI", "CHATFLEET_LONG"))
"""Whether the slow tests run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the slow tests unless they are asked for."""
    for item in items:
        if item.get_closest_marker("slow") and not LONG:
            item.add_marker(pytest.mark.skip(reason="slow; `CHATFLEET_LONG=1 make test` runs them"))


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what is marked so on uvloop too, as the processes do: what hands descriptors to the loop."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("both_loops"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs of the fleets that a failed test used."""
    report = yield
    if report.failed:
        used: dict[str, Any] = getattr(item, "funcargs", {})
        for name, fleet in used.items():
            if isinstance(fleet, Fleet):
                report.sections.append((f"logs of {name}", fleet.logs()))
    return report


@pytest.fixture
def figures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Record a measured figure, in a file that the summary names."""
    file = request.config.stash[FIGURES] = tmp_path_factory.getbasetemp() / "figures.txt"

    def record(figure: str) -> None:
        with file.open("a") as out:
            out.write(f"{request.node.nodeid}: {figure}\n")

    return record


FIGURES = pytest.StashKey[Path]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not run and how to run it, and where the figures are. CI, whose files are lost, shows them."""
    file = config.stash.get(FIGURES, None)
    if file is not None and file.exists():
        if os.environ.get("CI"):
            terminalreporter.write_line(file.read_text())
        terminalreporter.write_line(f"Measured figures: {file}")
    skipped = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in skipped.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")


def reason_of(skipped: pytest.TestReport) -> str:
    """Why a test was skipped."""
    reason = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else str(skipped.longrepr)
    return reason.removeprefix("Skipped: ")
