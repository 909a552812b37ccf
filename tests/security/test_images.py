"""Images that users send to models whose clients take them as data: nothing is decoded.

Ollama's client refuses bombs by their headers. Claude's passes them on: Anthropic decodes them, and says what it takes.
"""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import PIL.Image
import pytest
import yaml

from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import Fleet, model_entries
from tests.harness.http import Connection
from tests.schedule import Schedule
from tests.security.model_server import ANTHROPIC, event

MIB = 1024 * 1024
MEMORY = 300 * MIB
ANSWER = {
    "model": "m",
    "created_at": "2026-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": "ok"},
    "done": True,
    "done_reason": "stop",
}


class Api(BaseHTTPRequestHandler):
    """Ollama's API and Claude's as far as their clients need them."""

    images: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/messages":
            blocks = [block for message in body["messages"] for block in message["content"]]
            type(self).images = [block["source"]["data"] for block in blocks if block["type"] == "image"]
            self.answer("text/event-stream", b"".join(map(event, ANTHROPIC)))
        else:
            type(self).images = [image for message in body["messages"] for image in message.get("images") or ()]
            self.answer("application/x-ndjson", json.dumps(ANSWER).encode() + b"\n")

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def fleet(api: str) -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    entries = model_entries(made.backend.url, "key")
    info = entries["models"]["test"]["config"]["model_info"]
    clients = "autogen_ext.models"
    entries["models"] |= {
        "ollama": {
            "provider": f"{clients}.ollama.OllamaChatCompletionClient",
            "config": {"model": "m", "host": api, "model_info": info},
        },
        "claude": {
            "provider": f"{clients}.anthropic.AnthropicChatCompletionClient",
            "config": {"model": "claude-sonnet-4-20250514", "api_key": "k", "base_url": api},
        },
    }
    models = made.folder / "images.yaml"
    models.write_text(yaml.safe_dump(entries, sort_keys=False))
    made.new_worker(WORKER_MODELS=str(models))
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


def png(side: int) -> str:
    buffer = BytesIO()
    PIL.Image.new("1", (side, side)).save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()


async def look(fleet: Fleet, model: str, *urls: str) -> tuple[int, Any]:
    """Status and body of an answer about these images."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    message = {"role": "user", "content": [{"type": "text", "text": "look"}, *images]}
    body = json.dumps({"model": model, "messages": [message]}).encode()
    async with Connection(fleet.address) as connection:
        headers = {"content-type": "application/json"}
        response = await connection.request("POST", "/v1/chat/completions", body, headers)
        return response.status, await response.json()


@pytest.mark.parametrize(("model", "side", "count"), [("ollama", 4000, 1), ("claude", 4000, 1), ("claude", 9000, 25)])
async def test_an_image_arrives_as_it_was_sent(fleet: Fleet, model: str, side: int, count: int) -> None:
    sent = [png(side)] * count
    status, answer = await look(fleet, model, *[f"data:image/png;base64,{image}" for image in sent])
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "ok")
    assert Api.images == sent
    assert fleet.workers[0].memory() < MEMORY


@pytest.mark.parametrize(("side", "count"), [(20_000, 1), (9000, 25), (4000, 3)])
async def test_a_bomb_is_refused_and_says_why(fleet: Fleet, side: int, count: int) -> None:
    status, answer = await look(fleet, "ollama", *[f"data:image/png;base64,{png(side)}"] * count)
    assert status == 400
    assert f"{side:,} x {side:,} pixels is too large" in answer["error"]["message"]
    assert "WORKER_IMAGE_PIXELS" in answer["error"]["message"]
    assert fleet.workers[0].memory() < MEMORY


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("ollama", "http://127.0.0.1:1/a.png"),
        ("ollama", "data:image/png;base64,!!!"),
        ("ollama", "data:image/png;base64,//etc/passwd"),
        ("ollama", "data:image/svg+xml;base64,AAAA"),
        ("claude", "data:image/png;base64,!!!"),
        ("claude", "data:image/png,AAAA"),
        ("claude", "data:image/svg+xml;base64,AAAA"),
        ("claude", "data:image/bmp;base64,AAAA"),
        ("claude", "data:image/tiff;base64,AAAA"),
    ],
)
async def test_what_is_no_image_is_the_users_fault(fleet: Fleet, model: str, url: str) -> None:
    status, answer = await look(fleet, model, url)
    assert (status, answer["error"]["code"]) == (400, "unsupported_request")


async def test_the_worker_serves_on(fleet: Fleet) -> None:
    schedule = Schedule()
    assert_complete(await ask(fleet.address, schedule, model="test"), schedule)
    assert "internal_error" not in fleet.workers[0].log()
