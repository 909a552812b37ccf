"""The README's agent, copied as it stands."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from openai import OpenAI

from tests.clients.tools import clean_environment
from tests.harness.fleet import Fleet, model_entries
from tests.harness.process import ENDS, REPOSITORY

(SECTION,) = re.findall(
    r"^## Serve your own agent\n(.*?)^## ", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE
)
CODE, ENTRY, COMMAND = re.findall(r"```(?:python|yaml|sh)\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose ``smollm2`` is the test backend."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "agents").mkdir()
    (folder / "agents" / "mine.py").write_text(CODE)
    (folder / "agents.yaml").write_text(ENTRY)
    with Fleet(workers=0, start=False) as fleet:
        fleet.backend.start()
        entry = model_entries(fleet.backend.url, "key")["models"]["test"]
        (folder / "models.yaml").write_text(yaml.safe_dump({"models": {"smollm2": entry}}))
        fleet.new_worker(WORKER_MODELS=str(folder / "models.yaml"), WORKER_AGENTS=str(folder / "agents.yaml"))
        for process in (fleet.host, fleet.gateway, *fleet.workers):
            process.start()
        fleet.wait_until_ready(workers=1)
        yield fleet


def test_it_is_as_short_as_it_says() -> None:
    assert len(CODE.splitlines()) <= 15
    assert len(ENTRY.splitlines()) == 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_the_command_streams_both_agents(fleet: Fleet) -> None:
    command = COMMAND.replace("http://localhost:8501", fleet.url).replace("curl -N", "curl -sS -N")
    done = subprocess.run(
        ["sh", "-c", command], env=clean_environment(), capture_output=True, text=True, timeout=ENDS, check=True
    )
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert (last["done"], last["finish_reason"]) == (True, "stop")
    said = "".join(line["content"] for line in lines)
    assert said.count("You said: What is the sea?") == 2, "the critic repeats what the writer said"
    assert len(lines) > 2


def test_openais_sdk_lists_it_and_streams_from_it(fleet: Fleet) -> None:
    with OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0) as client:
        assert {"smollm2", "mine"} <= {model.id for model in client.models.list()}
        stream = client.chat.completions.create(
            model="mine", messages=[{"role": "user", "content": "What is the sea?"}], stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.count("You said: What is the sea?") == 2
