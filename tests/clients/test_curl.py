"""``curl``, which shows server-sent events as they are."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.clients.flows import tag
from tests.clients.tools import clean_environment
from tests.harness.fleet import Fleet
from tests.harness.process import ENDS
from tests.harness.waiting import SOON, wait_until
from tests.schedule import Schedule, reply_text, reply_tokens

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")


def command(fleet: Fleet, question: Schedule, *options: str, **fields: Any) -> list[str]:
    body = {"model": "test", "messages": [{"role": "user", "content": question.message()}]} | fields
    address = f"{fleet.url}/v1/chat/completions"
    return ["curl", "-sS", "-N", *options, address, "-H", "Content-Type: application/json", "-d", json.dumps(body)]


def curl(*arguments: Any, **fields: Any) -> tuple[int, bytes]:
    """Exit code and output."""
    done = subprocess.run(
        command(*arguments, **fields), env=clean_environment(), stdout=subprocess.PIPE, timeout=ENDS, check=False
    )
    return done.returncode, done.stdout


def test_a_stream_is_events_up_to_done(fleet: Fleet) -> None:
    schedule = Schedule(tokens=50)
    code, output = curl(fleet, schedule, stream=True)
    *events, done, end = output.split(b"\n\n")
    assert (code, done, end) == (0, b"data: [DONE]", b"")
    assert all(event.startswith(b"data: {") and b"\n" not in event for event in events)
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == reply_text(schedule)


@pytest.mark.parametrize("option", ["--http1.0", "--http2"])
def test_other_versions_of_http_read_the_same_stream(fleet: Fleet, option: str) -> None:
    schedule = Schedule(tokens=50)
    code, output = curl(fleet, schedule, option, stream=True)
    assert (code, output.endswith(b"data: [DONE]\n\n")) == (0, True)
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in output.split(b"\n\n")[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == reply_text(schedule)


def test_http2_without_asking_is_refused_in_the_log(fleet: Fleet) -> None:
    written = fleet.gateway.log_size()
    assert curl(fleet, Schedule(), "--http2-prior-knowledge")[0] != 0
    wait_until(lambda: "code=http2_not_spoken" in fleet.gateway.log(written), SOON, "the refusal is logged")


def test_an_error_in_the_middle_is_the_last_event(fleet: Fleet) -> None:
    schedule = Schedule(tokens=10, delay=0.01, error_after=5, usage={"prompt_tokens": 3, "completion_tokens": 5})
    code, output = curl(fleet, schedule, stream=True)
    *events, last, end = output.split(b"\n\n")
    assert (code, end) == (0, b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "".join(list(reply_tokens(schedule))[:5])
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error.keys() == {"message", "type", "param", "code", "retryable", "request_id", "usage", "provider"}
    assert (error["type"], error["code"], error["param"]) == ("server_error", "model_failed", None)
    assert error["usage"]["completion_tokens"] == 5


def test_headers_say_what_proxies_need_to_know(fleet: Fleet) -> None:
    code, output = curl(fleet, Schedule(), "-i", stream=True)
    head = output.partition(b"\r\n\r\n")[0].decode().lower()
    assert code == 0
    assert "http/1.1 200" in head
    assert "content-type: text/event-stream" in head
    assert "cache-control: no-cache" in head
    assert "x-accel-buffering: no" in head
    assert "x-request-id: " in head


def test_a_refusal_has_its_status(fleet: Fleet) -> None:
    assert curl(fleet, Schedule(status=400), "--fail", stream=True)[0] == 22
    code, output = curl(fleet, Schedule(status=400), stream=True)
    assert (code, json.loads(output)["error"]["code"]) == (0, "test"), "the provider's own"


def test_interrupting_it_closes_the_models_connection(fleet: Fleet) -> None:
    schedule = Schedule(tag=tag(), tokens=100_000, delay=0.01)
    with subprocess.Popen(
        command(fleet, schedule, stream=True), env=clean_environment(), stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith(b"data: {")
        running.terminate()
    wait_until(lambda: fleet.backend.request(schedule.tag or "")["closed"], SOON, "the model's connection is closed")
