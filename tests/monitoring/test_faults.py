"""Each alert fires by a real fault and ends when it is mended, in a real Prometheus over a fleet of real processes.

The rules are those of ``deploy/monitoring``, with a second in place of each minute. Faults that do not touch each other
run side by side.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from monitoring.alerts import ALERTS
from tests.faults.crowd import Say
from tests.harness.waiting import eventually
from tests.monitoring import faults
from tests.monitoring.watched import Watched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRES_WITHIN = 150.0
ENDS_WITHIN = 150.0


@dataclass(frozen=True)
class Expected:
    """A fault, the alerts that it makes fire, and those that may fire with them."""

    fault: faults.Fault
    alerts: tuple[str, ...]
    beside: tuple[str, ...] = ()


MODELS = ("ChatfleetModelFailing", "ChatfleetErrorsHigh", "ChatfleetRetriesMany")
FULL = ("ChatfleetQueueLong", "ChatfleetRequestsRefused", "ChatfleetCapacityNearlyUsed")
LEFT = (
    *("ChatfleetWorkerDown", "ChatfleetGatewayDown", "ChatfleetNoWorkerReady", "ChatfleetLinkLost"),
    *("ChatfleetWorkerSilent", "ChatfleetRestarts"),
)
"""What fires as processes end and come back."""
BUSY = {
    *("ChatfleetEventLoopBlocked", "ChatfleetWorkerDown", "ChatfleetGatewayDown", "ChatfleetHostDown"),
    *("ChatfleetNoGateway", "ChatfleetWorkerSilent"),
}
"""What a machine that others use too may bring at any time: an answer to Prometheus takes more than half a second."""

REQUESTS = (
    Expected(faults.dead_model, MODELS),
    Expected(faults.slow_model, ("ChatfleetFirstTokenSlow",)),
    Expected(faults.full_model, FULL),
    Expected(faults.clients_that_read_nothing, ("ChatfleetClientsStalled",)),
    Expected(faults.lossy_link, ("ChatfleetLanesResending",)),
    Expected(faults.garbage, ("ChatfleetDefect",)),
    Expected(faults.stranger, ("ChatfleetMembersRefused",)),
    Expected(faults.flooded_worker, ("ChatfleetEventsLost", "ChatfleetWorkerSilent"), LEFT),
)
LIMITS = (
    Expected(faults.broken_keys, ("ChatfleetFileNotReloaded",)),
    Expected(faults.old_certificates, ("ChatfleetCertificateNotRenewed", "ChatfleetCertificateEnds")),
    Expected(faults.few_files, ("ChatfleetFilesNearLimit",)),
    Expected(faults.little_memory, ("ChatfleetMemoryNearLimit",)),
    Expected(faults.blocked_loop, ("ChatfleetEventLoopBlocked",)),
    Expected(faults.closed_relay, ("ChatfleetRelayNotUsed",)),
)
CRASHES = (
    Expected(faults.crash_loop, ("ChatfleetRestarts",), LEFT),
    Expected(faults.killed(lambda watched: watched.fleet.workers[:1]), ("ChatfleetWorkerDown",)),
)
NO_WORKER = (
    Expected(faults.killed(lambda watched: watched.fleet.workers[:]), ("ChatfleetNoWorkerReady",), LEFT),
    Expected(faults.killed(lambda watched: watched.fleet.gateways[1:]), ("ChatfleetGatewayDown",)),
)
GONE = ("ChatfleetHostDown", "ChatfleetNoGateway", "ChatfleetLinkLost")
NO_HOST = (Expected(faults.killed(lambda watched: [watched.fleet.host, *watched.fleet.gateways]), GONE, LEFT),)
GROUPS = {
    "requests and links": REQUESTS,
    "files and limits": LIMITS,
    "crashes": CRASHES,
    "no worker": NO_WORKER,
    "no host": NO_HOST,
}


@pytest.fixture(scope="module")
def watched(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(prometheus, tmp_path_factory.mktemp("identities"))
    with watched.running():
        yield watched


def test_every_alert_has_a_fault() -> None:
    covered = [alert for group in GROUPS.values() for expected in group for alert in expected.alerts]
    assert sorted(covered) == sorted(alert.name for alert in ALERTS)


async def test_a_fleet_that_is_whole_is_quiet(watched: Watched) -> None:
    async with faults.asking(watched.address, "hello", model="test"):
        await asyncio.sleep(5)  # every rule has held for five of its minutes, if it is wrong
    assert watched.prometheus.firing().keys() <= BUSY


@pytest.mark.parametrize("group", GROUPS)
async def test_alerts_fire_by_faults_and_end_when_they_are_mended(watched: Watched, group: str, figures: Say) -> None:
    seen: set[str] = set()
    await asyncio.gather(*(happens(watched, expected, seen, figures) for expected in GROUPS[group]))
    possible = itertools.chain.from_iterable(expected.alerts + expected.beside for expected in GROUPS[group])
    assert seen <= {*possible} | BUSY
    await eventually(lambda: watched.prometheus.firing().keys() <= BUSY, ENDS_WITHIN, "none fires any more")


async def happens(watched: Watched, expected: Expected, seen: set[str], figures: Say) -> None:
    """The fault makes its alerts fire, and they end when it is mended."""

    def firing() -> set[str]:
        alerts = watched.prometheus.firing().keys()
        seen.update(alerts)
        return {*alerts} & {*expected.alerts}

    if expected.fault is faults.little_memory and faults.control_groups() is None:
        figures("no control group with a limit of memory can be made here: ChatfleetMemoryNearLimit was not tried")
        return
    began = time.monotonic()
    async with expected.fault(watched) as mend:
        await eventually(lambda: firing() == {*expected.alerts}, FIRES_WITHIN, f"these fire: {expected.alerts}")
        fired = time.monotonic()
        await mend()
        await eventually(lambda: not firing(), ENDS_WITHIN, f"these have ended: {expected.alerts}")
    figures(
        f"{', '.join(expected.alerts)}: fired after {fired - began:.1f} s, ended {time.monotonic() - fired:.1f} s later"
    )
