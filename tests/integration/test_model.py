"""The real embedded model in a process of its own. Nothing here looks at what it says, only that it says something."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.ports import free_port


def _lacks_libgomp() -> bool:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return sys.platform == "linux"
    return False


pytestmark = pytest.mark.skipif(
    _lacks_libgomp(),
    reason="the system lacks libgomp1, which the embedded model needs: apt-get install libgomp1",
)

SECRET = "xylophone-in-a-prompt"
LIMIT = 30.0
"""Seconds that loading or a short reply may take on a slow machine."""


class Model:
    """``python -m model`` on a free port."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MODEL_")}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "model"],
                env=environ | {"MODEL_BIND": f"127.0.0.1:{self.port}"} | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        pytest.fail(f"the model did not get ready:\n{self.log.read_text()}")

    def stop(self, by: signal.Signals) -> tuple[int, float]:
        """The exit code and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(by)
        return self.process.wait(LIMIT), time.monotonic() - began


@contextmanager
def running_model(log: Path, **settings: str) -> Iterator[Model]:
    model = Model(log, **settings)
    try:
        model.wait_ready()
        yield model
    finally:
        model.process.kill()
        model.process.wait()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with running_model(tmp_path_factory.mktemp("model") / "log", MODEL_SLOTS="2") as running:
        yield running


def client_of(model: Model, **more: Any) -> httpx.Client:
    """Every request has its own connection: llama.cpp now and then closes one just when the next request arrives."""
    return httpx.Client(base_url=model.url, timeout=LIMIT, limits=httpx.Limits(max_keepalive_connections=0), **more)


@pytest.fixture
def client(model: Model) -> Iterator[httpx.Client]:
    with client_of(model) as client:
        yield client


def chat(words: str = "Say hello.", max_tokens: int = 12) -> dict[str, object]:
    return {
        "model": "smollm2",
        "messages": [{"role": "user", "content": words}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,  # llama.cpp's own: otherwise a reply may be over at once
    }


def read(client: httpx.Client, body: dict[str, object]) -> tuple[list[str], dict[str, int]]:
    """The texts of a stream, one a chunk, and its usage."""
    texts: list[str] = []
    usage: dict[str, int] = {}
    last = ""
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            last = line or last
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                texts += [text for choice in event["choices"] if (text := choice["delta"].get("content"))]
                usage = event.get("usage") or usage
    assert last == "data: [DONE]"
    return texts, usage


def test_it_is_listed_by_its_public_name(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [entry["id"] for entry in listed] == ["smollm2"]


def test_a_reply_streams_and_ends_with_its_usage(client: httpx.Client) -> None:
    texts, usage = read(client, chat())
    assert len(texts) > 1
    assert "".join(texts).strip()
    assert 0 < usage["completion_tokens"] <= 12
    assert usage["prompt_tokens"] > 0


def test_more_requests_than_slots_wait_their_turn_and_all_are_served(model: Model) -> None:
    replies = []

    def ask() -> None:
        with client_of(model) as client:
            replies.append(read(client, chat(max_tokens=4)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    # It says that it is alive while every slot is busy and more are waiting.
    assert httpx.get(f"{model.url}/health", timeout=LIMIT).status_code == 200
    for thread in threads:
        thread.join(LIMIT)
    assert len(replies) == 8
    assert all(texts for texts, _ in replies)


def test_a_client_that_leaves_frees_its_slot(model: Model) -> None:
    # Both slots are taken by replies that would last for a minute; their readers leave after the first chunk.
    with client_of(model) as client:
        for _ in range(2):
            with client.stream("POST", "/v1/chat/completions", json=chat("Count.", 1900)) as answer:
                next(answer.iter_lines())
        began = time.monotonic()
        read(client, chat(max_tokens=1))
        assert time.monotonic() - began < 15


def test_a_prompt_beyond_the_context_is_refused_and_the_next_one_works(client: httpx.Client) -> None:
    refused = client.post("/v1/chat/completions", json=chat("long " * 3000))
    assert refused.status_code == 400
    assert "context" in refused.json()["error"]["message"]
    assert read(client, chat())[0]


def test_other_pages_than_the_api_are_closed(client: httpx.Client) -> None:
    assert client.get("/slots").status_code == 501
    assert client.get("/").status_code == 404
    origin = client.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
    assert not origin.headers.get("access-control-allow-origin")


def test_the_log_is_one_line_and_no_prompt(model: Model, client: httpx.Client) -> None:
    read(client, chat(SECRET))
    client.post("/v1/chat/completions", content=SECRET)
    (line,) = model.log.read_text().splitlines()
    assert 'event="model ready"' in line
    assert SECRET not in line


def test_a_second_model_on_the_same_port_says_so(model: Model) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "model"],
        env=os.environ | {"MODEL_BIND": f"127.0.0.1:{model.port}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert second.returncode == 1
    (line,) = second.stderr.splitlines()
    assert str(model.port) in line
    assert "MODEL_BIND" in line


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_at_once_though_a_reply_is_running(by: signal.Signals, tmp_path: Path) -> None:
    with (
        running_model(tmp_path / "log", MODEL_SLOTS="1") as model,
        client_of(model) as client,
        client.stream("POST", "/v1/chat/completions", json=chat("Count.", 1900)) as answer,
    ):
        next(answer.iter_lines())
        code, seconds = model.stop(by)
        assert code == 0
        assert seconds < 10  # the reply would last for longer


def test_a_key_is_asked_for_once_one_is_set(tmp_path: Path) -> None:
    with running_model(tmp_path / "log", MODEL_SLOTS="1", MODEL_API_KEY=SECRET) as model:
        with client_of(model) as stranger:
            assert stranger.post("/v1/chat/completions", json=chat()).status_code == 401
        with client_of(model, headers={"Authorization": f"Bearer {SECRET}"}) as friend:
            assert read(friend, chat(max_tokens=4))[0]
        assert SECRET not in model.log.read_text()
