"""The ``llm`` command, to which we are one more OpenAI-compatible model."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.clients.flows import tag
from tests.clients.tools import clean_environment
from tests.harness.fleet import SYSTEM_MESSAGE, Fleet
from tests.harness.process import ENDS
from tests.schedule import Schedule, reply_text

pytestmark = pytest.mark.slow

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def llm(python_tools: Path, fleet: Fleet, tmp_path: Path) -> Run:
    """Runs ``llm`` with a configuration that names our models."""
    models = [
        {"model_id": name, "model_name": name, "api_base": f"{fleet.url}/v1", "api_key_name": "chatfleet"}
        for name in ("test", "no-such")
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(python_tools / "llm"), "prompt", "--key", "none", *arguments],
            env=clean_environment() | {"LLM_USER_PATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=ENDS,
            check=False,
        )

    return run


@pytest.mark.parametrize("options", [(), ("--no-stream",)], ids=["streamed", "whole"])
def test_it_prints_the_reply(llm: Run, fleet: Fleet, options: tuple[str, ...]) -> None:
    schedule = Schedule(tag=tag(), text="Grüße, 漢字 👩‍🚀. " * 50 + "The end.")
    done = llm("-m", "test", *options, "-s", "Be brief.", "-o", "temperature", "0.5", schedule.message())
    assert (done.stdout, done.returncode) == (reply_text(schedule) + "\n", 0), done.stderr
    body = fleet.backend.request(schedule.tag or "")["body"]
    assert body["temperature"] == 0.5
    assert [turn["content"] for turn in body["messages"]] == [SYSTEM_MESSAGE, "Be brief.", schedule.message()]


def test_it_says_why_it_failed(llm: Run) -> None:
    done = llm("-m", "no-such", "Hello")
    assert done.returncode == 1
    assert "'no-such' is not served here" in done.stderr
