"""A peer that has shown no token gets nothing at the host's port, keeps nothing there and stops nobody.

:mod:`tests.security.peer` has the attacks. While each of them runs, chats go on and members join.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.faults.crowd import Say, crowd
from tests.harness.fleet import Fleet
from tests.harness.process import Process
from tests.harness.waiting import eventually, wait_until
from tests.schedule import Schedule
from tests.security.peer import KINDS

TOKEN = "a-token-of-the-fleet"
MOST = 150
"""MiB that the host may have, as the fleet's issue on security states it."""
GAP = 3.0
"""Seconds between two lines of a paced stream; 0.15 on a machine that does nothing else than this."""
WITHIN = 60.0

TOGETHER = {
    "frames": ["resets", "pings", "settings", "windows", "priorities", "empty data", "nonsense", "slow preface"],
    "calls": ["checks", "large checks", "large watches", "large calls", "endless call", "unknown methods"],
    "headers": ["endless headers", "many headers", "metadata", "inflating messages", "inflating checks"],
    "connections": ["silent", "half a preface", "half a handshake", "prefaces"],
    "churn": ["churn", "slow churn"],
    "relay": [
        "pongs to the relay",
        "pings to the relay",
        "tickets to the relay",
        "a long frame to the relay",
        "silent relays",
        "half a ticket",
        "half a handshake with the relay",
        "churn at the relay",
        "slow churn at the relay",
    ],
}
SECONDS = 3.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[Fleet]:
    with Fleet(workers=1, settings={"FLEET_TOKEN": TOKEN}) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def encrypted(identities: Path) -> Iterator[Fleet]:
    with Fleet(workers=1, identities=identities) as fleet:
        yield fleet


def test_every_kind_of_attack_is_in_a_group() -> None:
    assert sorted(kind for kinds in TOGETHER.values() for kind in kinds) == sorted(KINDS)


def resident(fleet: Fleet) -> float:
    """MiB that the host had at most since :func:`forget_peak`."""
    status = Path(f"/proc/{fleet.host.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def forget_peak(fleet: Fleet) -> None:
    Path(f"/proc/{fleet.host.pid}/clear_refs").write_text("5")


def descriptors(fleet: Fleet) -> int:
    return psutil.Process(fleet.host.pid).num_fds()


def relays(fleet: Fleet) -> int:
    """Members' second connections, the last that a join opens."""
    found = psutil.Process(fleet.host.pid).net_connections("tcp")
    return sum(one.laddr.port == fleet.relay_port and one.status == "ESTABLISHED" for one in found)


async def renew_host(fleet: Fleet) -> None:
    """Start it afresh: its allocators keep a part of what it had under other attacks."""
    fleet.host.restart()
    await eventually(lambda: relays(fleet) == 2, WITHIN, "gateway and worker are back, with their relays")
    await eventually(lambda: fleet.readiness()[0] == 200 and len(fleet.ready_workers()) == 1, WITHIN, "all is whole")


async def withstand(
    fleet: Fleet, kinds: Sequence[str], seconds: float, tmp_path: Path, say: Say, identity: Path | None = None
) -> None:
    """A paced stream passes and a worker joins while the attacks go on, and afterwards all is as before."""
    await renew_host(fleet)
    before, logs = descriptors(fleet), fleet.log_sizes()
    forget_peak(fleet)
    ports, more = [str(fleet.host_port), str(fleet.relay_port)], [str(seconds), *([str(identity)] if identity else [])]
    peers = [Process(kind, "tests.security.peer", tmp_path, {}, [*ports, kind, *more]) for kind in kinds]
    for peer in peers:
        peer.start()
    worker = fleet.new_worker()
    worker.start()
    try:
        async with crowd(fleet.address, [Schedule(tag="paced", tokens=int(seconds * 50), delay=0.02)]) as (client,):
            await eventually(lambda: client.ended, seconds + WITHIN, "the end of the stream")
            client.assert_complete()
            await eventually(lambda: len(fleet.ready_workers()) == 2, WITHIN, "the new worker is ready")
            await eventually(lambda: not any(peer.is_alive for peer in peers), seconds + WITHIN, "the attacks' end")
    finally:
        for peer in peers:
            peer.end()
        await_end(fleet, worker)
    assert all(peer.popen.returncode == 0 for peer in peers), [peer.log() for peer in peers]
    say(f"{', '.join(kinds)}: host {resident(fleet):.0f} MiB, longest pause {client.longest_pause * 1000:.0f} ms")
    assert resident(fleet) < MOST
    assert client.longest_pause < GAP
    await eventually(lambda: descriptors(fleet) <= before, 30, "the host has closed what the attacks left")
    for process in (fleet.gateway, fleet.workers[0]):
        assert "lost the host" not in process.log(logs[process.name])


def await_end(fleet: Fleet, worker: Process) -> None:
    """Take the worker out again, so that the next one may have its name."""
    assert worker.stop() == 0
    fleet.workers.remove(worker)
    worker.log_file.unlink()
    wait_until(lambda: len(fleet.ready_workers()) == 1, WITHIN, "the worker has left")


@pytest.mark.parametrize("group", TOGETHER)
async def test_attacks_without_a_token_leave_the_host_small_and_the_chats_whole(
    guarded: Fleet, group: str, tmp_path: Path, figures: Say
) -> None:
    await withstand(guarded, TOGETHER[group], SECONDS, tmp_path, figures)


async def test_a_certificate_without_a_token_makes_no_difference(
    encrypted: Fleet, identities: Path, tmp_path: Path, figures: Say
) -> None:
    kinds = ["resets", "large checks", "endless call", "many headers", "inflating messages"]
    await withstand(encrypted, kinds, SECONDS, tmp_path, figures, identities / "worker")


async def test_nothing_helps_without_a_certificate(encrypted: Fleet, tmp_path: Path, figures: Say) -> None:
    await withstand(encrypted, [*TOGETHER["connections"], "resets", "churn"], SECONDS, tmp_path, figures)
    await withstand(encrypted, TOGETHER["relay"], SECONDS, tmp_path, figures)
