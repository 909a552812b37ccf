"""What the gateway's process decides itself, with a fleet that is not there."""

import asyncio
import time
from pathlib import Path

import pytest

from fleet.logs import Counts
from fleet.settings import FleetSettings, HostPort
from gateway import __main__ as main
from gateway.__main__ import Gateway, open_ring, refuse_open_bind
from gateway.routing.admission import Claim
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb
from tests.harness.waiting import until

ANYWHERE = HostPort("0.0.0.0", 8501)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (GatewaySettings(bind=ANYWHERE), True),
        (GatewaySettings(bind=ANYWHERE, allow_anonymous=True), False),
        (GatewaySettings(bind=ANYWHERE, keys=Path("keys.yaml")), False),
        (GatewaySettings(), False),
    ],
)
def test_nobody_beyond_loopback_asks_without_a_key(
    settings: GatewaySettings, refused: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if not refused:
        refuse_open_bind(settings)
        return
    with pytest.raises(SystemExit):
        refuse_open_bind(settings)
    assert "GATEWAY_ALLOW_ANONYMOUS" in capsys.readouterr().err


def test_a_key_file_that_cannot_be_used_ends_the_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_ring(GatewaySettings()) is None
    with pytest.raises(SystemExit):
        open_ring(GatewaySettings(keys=tmp_path / "missing.yaml"))
    assert "GATEWAY_KEYS: " in capsys.readouterr().err


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway(GatewaySettings(), FleetSettings(), None, Counts())


def enter(gateway: Gateway) -> None:
    status = pb.WorkerStatus(worker_id="w", models=["m"], capacity=1, state=pb.WORKER_STATE_READY)
    gateway._directory.heard(status, time.monotonic() + 3600)  # it stays fresh, however slow the machine is


async def test_it_says_why_it_is_not_ready(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway._unready() == "no link to the host"
    monkeypatch.setattr(type(gateway._runtime), "linked", True)
    assert gateway._unready() == "no worker is ready"
    enter(gateway)
    assert gateway._unready() == ""
    gateway._leaving = True
    assert gateway._unready().startswith("draining")


async def test_when_the_link_is_back_no_worker_is_ready_before_it_is_heard(gateway: Gateway) -> None:
    gateway._on_link(True)
    enter(gateway)
    assert list(gateway._models()) == ["m"]
    links = []
    for up in (False, True):
        gateway._on_link(up)
        links.append(gateway._admission.linked)
    assert links == [False, True]
    assert not gateway._models()
    enter(gateway)
    assert list(gateway._models()) == ["m"]


async def test_when_the_link_is_back_each_is_told_after_those_it_relies_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gateway._directory, "relinked", lambda _: told.append("directory"))
    monkeypatch.setattr(gateway._inbox, "link_up", lambda: told.append("inbox"))
    monkeypatch.setattr(gateway._chats, "relinked", lambda: told.append("chats"))
    gateway._on_link(True)
    assert told == ["directory", "inbox", "chats"]
    gateway._on_link(False)
    assert told == ["directory", "inbox", "chats"]


async def test_streams_end_for_want_of_a_host_only_when_the_loss_has_lasted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime has no link any more before it says so: the time since an earlier loss must not count."""
    ended: list[float] = []
    monkeypatch.setattr(main, "POLL_EVERY", 0.001)
    monkeypatch.setattr(gateway._chats, "link_lost", lambda: ended.append(time.monotonic()))
    gateway._fleet = FleetSettings(link_timeout=0.1)
    gateway._on_link(True)
    watching = asyncio.create_task(gateway._watch())
    with pytest.raises(TimeoutError):
        await until(lambda: ended, 0.3)
    lost_at = time.monotonic()
    gateway._on_link(False)
    await until(lambda: ended, what="the chats are told")
    assert ended[0] - lost_at >= 0.1
    watching.cancel()


async def test_other_gateways_hear_only_of_names_that_are_served(gateway: Gateway) -> None:
    """A client can ask for anything, so that a status would be too large to pass."""
    enter(gateway)
    gateway._admission.linked_at = float("inf")  # just now, for as long as the test takes
    made_up = [f"{number}" * 1000 for number in range(100, 200)]
    asking = [asyncio.create_task(gateway._admission.lease(Claim(name))) for name in ("m", "m", *made_up)]
    await asyncio.sleep(0)
    assert gateway._admission.waiting == len(asking)
    assert dict(gateway._status().waiting) == {"m": 2}
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
