"""The embedded model, asked through a fleet by OpenAI's own SDK. Nothing here looks at what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.harness.fleet import START, Fleet
from tests.harness.process import Process, end_all
from tests.harness.waiting import wait_until
from tests.integration import test_model

pytestmark = test_model.pytestmark

TOKENS = 48
"""So many that they do not come in one piece, even if the worker stands still for a while."""


@pytest.fixture
def with_smollm2(fleet: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    """The shared fleet, joined for a while by a worker that serves what ``models.yaml`` says."""
    with test_model.running_model(tmp_path / "model.log", MODEL_SLOTS="1") as model:
        host = f"127.0.0.1:{fleet.host_port}"
        worker = Process("worker-smollm2", "worker", tmp_path, {"FLEET_HOST": host, "MODEL_URL": f"{model.url}/v1"})
        worker.start()
        try:
            fleet.wait_until_ready(len(fleet.workers) + 1)
            yield fleet
        finally:
            end_all([worker])
            wait_until(lambda: len(fleet.ready_workers()) == len(fleet.workers), START, "the worker has left")
    assert "level=error" not in worker.log()


def test_it_streams(with_smollm2: Fleet) -> None:
    with OpenAI(base_url=f"{with_smollm2.url}/v1", api_key="none", max_retries=0) as client:
        assert "smollm2" in [model.id for model in client.models.list()]
        chunks = list(
            client.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": "Hello, who are you?"}],
                max_tokens=TOKENS,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    *spoken, last = chunks
    texts = [chunk.choices[0].delta.content or "" for chunk in spoken]
    assert sum(bool(text.strip()) for text in texts) > 1
    assert spoken[-1].choices[0].finish_reason in ("stop", "length")
    assert last.usage is not None
    assert 0 < last.usage.completion_tokens <= TOKENS
