"""The stacks that the tests share. They take minutes and an engine: CI runs them, and whoever asks for them."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.compose.engine import missing
from tests.compose.stack import Stack, settle

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
ASKED = IN_CI or os.environ.get("CHATFLEET_COMPOSE") == "1"
EXCUSED = os.environ.get("CHATFLEET_NO_ENGINE", "")
"""Why CI could get no engine, if it could not."""
ENV_KEY = "sk-in-dot-env-9d41f0"
"""A provider's key that no log may show."""


@pytest.fixture(scope="package", autouse=True)
def engine() -> None:
    """Skip where no engine can be had or nobody asked; fail where CI should have had one."""
    if not ASKED:
        pytest.skip("containers; `CHATFLEET_COMPOSE=1 make test` runs them, with Docker Engine and Compose")
    if reason := missing():
        if IN_CI and not EXCUSED:
            pytest.fail(f"{reason}: start one, or say in CHATFLEET_NO_ENGINE why there is none", pytrace=False)
        pytest.skip(f"{EXCUSED or reason}: start Docker Engine with its compose plugin to run these tests")


@pytest.fixture(scope="package")
def standing_stack(engine: None) -> Iterator[Stack]:
    with Stack("exact", ["tests/compose/backend.yml"], env=f"OPENAI_API_KEY={ENV_KEY}\n") as stack:
        stack.up("--build")
        yield stack


@pytest.fixture
def stack(standing_stack: Stack) -> Iterator[Stack]:
    """Two workers and a gateway with the test backend as their model, whole; what they complain about is a failure."""
    stack = standing_stack
    if len(stack.containers("worker")) != 2 or len(stack.containers("gateway")) != 1:
        stack.scale(worker=2, gateway=1)
    if stack.readiness() == 0:
        stack.up(worker=2, gateway=1)  # after a test that failed while all was stopped
    settle(lambda: stack.readiness() == 200 and stack.has_workers(2) and stack.is_idle(), "two workers, idle")
    stack.backend.forget()
    began = time.time()
    yield stack
    stack.assert_no_trouble(began)
