"""What gateways tell, read as findings."""

import time
from email.utils import formatdate
from typing import Any

import pytest

from doctor import members
from doctor.findings import Level
from fleet.process.version import VERSION

Answer = tuple[int, Any, dict[str, str]]


def worker(name: str, **fields: Any) -> dict[str, Any]:
    usual = {
        "state": "READY",
        "active": 1,
        "capacity": 4,
        "heard_seconds_ago": 0.5,
        "models": ["m"],
        "version": VERSION,
    }
    return {"id": name} | usual | fields


def fleet(*workers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"gateway": {"id": "g", "version": VERSION, "linked": True}, "workers": list(workers), **fields}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Answer]:
    """What is answered at which URL."""
    found: dict[str, Answer] = {}
    monkeypatch.setattr(members, "fetch", lambda url, key="": found[url])
    return found


def problems(*urls: str) -> list[str]:
    return [found.text for found in members.check(urls, "", []) if found.level in (Level.PROBLEM, Level.WARNING)]


def well(url: str, answers: dict[str, Answer], *workers: dict[str, Any], **fields: Any) -> None:
    answers[f"{url}/readyz"] = 200, {"status": "ready"}, {"date": formatdate(usegmt=True)}
    answers[f"{url}/fleet"] = 200, fleet(*workers, **fields), {}


def test_a_fleet_that_is_well_has_no_problem(answers: dict[str, Answer]) -> None:
    well(
        "a", answers, worker("w"), models={"m": {"state": "healthy"}}, other_gateways=[{"id": "h", "version": VERSION}]
    )
    assert problems("a") == []


def test_models_that_fail_are_named_with_their_code(answers: dict[str, Answer]) -> None:
    failing = {"state": "failing", "code": "model_unreachable", "failing_seconds": 61.2}
    well("a", answers, worker("w"), models={"m": failing, "n": {"state": "degraded"}})
    assert problems("a") == ["model m: failing, model_unreachable for 61 s", "model n: degraded"]


def test_of_a_model_that_no_worker_has_it_points_to_the_workers(answers: dict[str, Answer]) -> None:
    well("a", answers, worker("w"), models={"m": {"state": "absent", "workers": 0}})
    (told,) = [found for found in members.check(["a"], "", []) if found.level is Level.WARNING]
    assert told.text == "model m: absent"
    assert "the workers above" in told.advice


def test_gateways_that_hear_different_workers_are_told_apart(answers: dict[str, Answer]) -> None:
    well("a", answers, worker("w"), worker("x"))
    well("b", answers, worker("w"), worker("x", state="SILENT"))
    assert problems("a", "b") == ["the gateway at b does not hear x, which another gateway hears"]


def test_other_versions_are_told(answers: dict[str, Answer]) -> None:
    well("a", answers, worker("w", version="0.0.9"))
    assert problems("a") == [f"members are of the versions 0.0.9, {VERSION}, this tree is {VERSION}"]


def test_a_clock_that_is_wrong_is_told(answers: dict[str, Answer]) -> None:
    well("a", answers, worker("w"))
    answers["a/readyz"] = 200, {}, {"Date": formatdate(time.time() - 90, usegmt=True)}
    (told,) = problems("a")
    assert told.startswith("the clock of a and the one here differ by ")


def test_requests_that_wait_long_are_told(answers: dict[str, Answer]) -> None:
    well("a", answers, worker("w"), queue={"waiting": 7, "oldest_seconds": 12.3})
    assert problems("a") == ["7 requests wait, the oldest for 12 s"]


def test_what_is_no_gateway_is_told(answers: dict[str, Answer]) -> None:
    answers["a/readyz"] = answers["a/fleet"] = 200, {"hello": "world"}, {}
    assert problems("a") == ["a/fleet answers 200"]
