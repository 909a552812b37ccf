"""What every process tells of itself."""

import datetime
import logging
import re
from pathlib import Path

import pytest

from fleet import logs
from fleet.bus.runtime import FleetRuntime
from fleet.metrics.events import CHANGES
from fleet.metrics.exposition import Exposition
from fleet.metrics.process import Certificates, LinkMetrics, ProcessMetrics
from fleet.process import memory
from fleet.security.identity import Identity
from fleet.settings import FleetSettings
from identities.authority import Authority
from tests.harness.process import REPOSITORY


def metrics(logged: logs.Counts, *, ready: bool = True) -> Exposition:
    shown = Exposition()
    ProcessMetrics(shown, "gateway", "g-1", lambda: ready, logged, None)
    return shown


async def test_an_event_of_the_log_is_counted_from_nothing_on() -> None:
    """Else its first line would be no rise."""
    logged = logs.Counts()
    shown = metrics(logged).registry
    lost = {"level": "warning", "event": "lost the host"}
    assert shown.get_sample_value("chatfleet_log_events_total", lost) == 0
    logged["warning", "lost the host"] += 2
    assert shown.get_sample_value("chatfleet_log_events_total", lost) == 2


async def test_events_without_end_are_other_events() -> None:
    logged = logs.Counts({("info", f"event {number}"): 1 for number in range(1000)})
    (family,) = [family for family in metrics(logged).registry.collect() if family.name == "chatfleet_log_events"]
    assert len(family.samples) < 300
    others = next(sample for sample in family.samples if sample.labels["event"] == "other")
    assert sum(sample.value for sample in family.samples) == 1000 > others.value > 700


async def test_it_says_whether_it_is_ready_and_what_it_is() -> None:
    shown = metrics(logs.Counts(), ready=False).registry
    assert shown.get_sample_value("chatfleet_ready") == 0
    told = {"process": "gateway", "member": "g-1"}
    (info,) = [family for family in shown.collect() if family.name == "chatfleet_build_info"]
    assert told.items() <= info.samples[0].labels.items()


@pytest.mark.usefixtures("restored_logs")
def test_lines_are_counted_by_level_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    logged = logs.configure("gateway", "info")
    log = logs.logger("gateway.test")
    log.info("worker found", worker="w")
    log.warning("worker gone", worker="w")
    log.debug("nothing")
    logging.getLogger("aiohttp").warning("the prompt was %s", "secret")
    assert logged == {("info", "worker found"): 1, ("warning", "worker gone"): 1, ("warning", "other"): 1}
    capsys.readouterr()


def test_the_ends_of_the_certificates_are_known_and_follow_the_files(tmp_path: Path) -> None:
    Authority(tmp_path).update()
    folder = tmp_path / "worker"
    certificates = Certificates(Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem"))
    ends = certificates.ends()
    days = (ends["own"] - datetime.datetime.now(datetime.UTC).timestamp()) / 86400
    assert 360 < days <= 366
    assert ends["authority"] > ends["own"]
    (folder / "cert.pem").write_text("not a certificate, for a moment")
    assert certificates.ends() == ends


async def test_a_member_says_how_it_is_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, runtime = Exposition(), FleetRuntime(FleetSettings(), lambda _: None)
    LinkMetrics(shown, runtime, lambda: True)
    values = {
        name: shown.registry.get_sample_value(f"chatfleet_{name}") for name in ("linked", "relay_open", "draining")
    }
    assert values == {"linked": 0, "relay_open": 0, "draining": 1}
    monkeypatch.setattr(FleetRuntime, "relayed", True)
    runtime.losses = 3
    assert shown.registry.get_sample_value("chatfleet_relay_open") == 1
    assert shown.registry.get_sample_value("chatfleet_link_losses_total") == 3


KEYS = {"file": "keys"}


@pytest.mark.usefixtures("restored_logs")
def test_a_changed_file_cannot_be_used_until_one_can(capsys: pytest.CaptureFixture[str]) -> None:
    shown = metrics(logs.configure("gateway", "info")).registry
    log = logs.logger("gateway.test")
    seen = [shown.get_sample_value("chatfleet_file_unusable", KEYS)]
    for event in ("keys reloaded", "keys not reloaded", "keys not reloaded", "keys reloaded", "keys not reloaded"):
        log.info(event)
        seen.append(shown.get_sample_value("chatfleet_file_unusable", KEYS))
    assert seen == [0, 0, 1, 1, 0, 1]
    assert shown.get_sample_value("chatfleet_file_unusable", {"file": "token"}) == 0
    capsys.readouterr()


def test_every_change_that_is_watched_is_logged_somewhere() -> None:
    files = [file for package in ("fleet", "gateway", "worker") for file in (REPOSITORY / package).rglob("*.py")]
    logged = {event for file in files for event in re.findall(r'log\.\w+\(\s*"([^"]+)"', file.read_text())}
    for changes in CHANGES.values():
        for events in changes.values():
            assert {*events} <= logged


@pytest.mark.parametrize("limit", [None, 2**30])
def test_a_limit_of_memory_is_told_where_there_is_one(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    monkeypatch.setattr(memory, "limit", lambda: limit)
    assert metrics(logs.Counts()).registry.get_sample_value("chatfleet_memory_limit_bytes") == limit
