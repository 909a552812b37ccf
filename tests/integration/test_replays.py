"""What providers send, and what clients get of it: the bytes of each, by the entry that ``models.yaml`` has for it."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.harness.process import REPOSITORY
from tests.replays.all import REPLAYS
from tests.replays.entries import KEYS, asked_from, examples
from tests.replays.replay import Answer, Replay, Want

Json = dict[str, Any]

ALL = [replay for replays in REPLAYS.values() for replay in replays]


class Provider(ThreadingHTTPServer):
    """Sends :attr:`answer`, and keeps what it was asked last."""

    answer: Answer
    path: str
    headers: dict[str, str]
    body: Json


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        provider = self.server
        provider.path = self.path
        provider.headers = {name.lower(): value for name, value in self.headers.items()}
        provider.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = provider.answer
        self.send_response(answer.status)
        headers = {"content-type": answer.kind, "transfer-encoding": "chunked", **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def fleet(provider: Provider) -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    models = made.folder / "replays.yaml"
    entries = asked_from(f"http://127.0.0.1:{provider.server_port}")
    models.write_text(yaml.safe_dump(entries, sort_keys=False))
    made.new_worker(WORKER_MODELS=str(models), **KEYS)
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


class Seen:
    """What a client got."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.finish: str | None = None
        self.calls: dict[int, Json] = {}
        self.content = self.reasoning = ""
        self.usage: Json = {}
        self.error: Json | None = None
        self.parts: list[Json] = []
        """Everything that has fields: messages or deltas, choices, chunks."""
        self.call_parts: list[Json] = []
        if body.startswith(b"data: "):
            events = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
            self.done = events[-1] == "[DONE]"
            for event in events[: -1 if self.done else None]:
                self._read(json.loads(event))
        else:
            self.done = True
            self._read(json.loads(body))

    def _read(self, chunk: Json) -> None:
        self.parts.append(chunk)
        self.error = chunk.get("error") or self.error
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices", []):
            said = choice.get("delta") or choice.get("message") or {}
            self.parts += [choice, said]
            self.finish = choice["finish_reason"] or self.finish
            self.content += said.get("content") or ""
            self.reasoning += said.get("reasoning_content") or ""
            for number, part in enumerate(said.get("tool_calls", [])):
                self._call(part.get("index", number), part)

    def _call(self, index: int, part: Json) -> None:
        self.call_parts.append(part)
        call = self.calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = part.get("function", {})
        call["id"] += part.get("id") or ""
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""


async def ask(fleet: Fleet, replay: Replay, *, stream: bool) -> Seen:
    body = {
        "model": replay.entry,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
        **replay.asked,
    }
    async with Connection(fleet.address) as connection:
        headers = {"content-type": "application/json"}
        response = await connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
        return Seen(response.status, await response.body())


def assert_got(seen: Seen, want: Want, *, stream: bool) -> None:
    if want.status != 200:
        assert_failed(seen, want, first=not (stream and want.content))
        return
    assert (seen.status, seen.error) == (200, None)
    assert seen.done
    assert (seen.content, seen.reasoning, seen.finish) == (want.content, want.reasoning, want.finish)
    assert [(call["name"], json.loads(call["arguments"])) for call in seen.calls.values()] == list(want.calls)
    ids = [call["id"] for call in seen.calls.values()]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert want.usage.items() <= seen.usage.items()
    assert_has(seen.parts, want.fields, values=stream)
    assert_has(seen.call_parts, want.call_fields, values=True)


def assert_failed(seen: Seen, want: Want, *, first: bool) -> None:
    assert seen.error is not None
    assert seen.status == (want.status if first else 200), seen.error
    if not first:
        assert seen.content == want.content
        assert not seen.done
    assert seen.finish is None
    message = want.error.get("message", "")
    assert message in seen.error["message"]
    expected = {name: value for name, value in want.error.items() if name != "message"}
    assert {name: seen.error.get(name) for name in expected} == expected


def assert_has(parts: list[Json], fields: Json, *, values: bool) -> None:
    """One of ``parts`` has each of ``fields``. Lists of a whole answer may be joined of several."""
    for name, value in fields.items():
        found = [part[name] for part in parts if part.get(name)]
        assert value in found if values or not isinstance(value, list) else found, (name, found)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("replay", ALL, ids=lambda replay: replay.name)
async def test_a_client_gets_what_the_provider_says(
    fleet: Fleet, provider: Provider, replay: Replay, stream: bool
) -> None:
    provider.answer = replay.answer
    seen = await ask(fleet, replay, stream=stream)
    assert_got(seen, replay.want, stream=stream)
    assert provider.path == replay.path
    assert replay.headers.items() <= provider.headers.items()
    assert {name: provider.body.get(name) for name in replay.sent} == replay.sent


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=lambda size: f"{size}-bytes")
@pytest.mark.parametrize("name", REPLAYS)
async def test_a_reply_is_the_same_however_it_is_cut(fleet: Fleet, provider: Provider, name: str, size: int) -> None:
    replay = REPLAYS[name][0]
    body = b"".join(replay.answer.pieces)
    pieces = tuple(body[start : start + size] for start in range(0, len(body), size))
    provider.answer = Answer(pieces, kind=replay.answer.kind)
    assert_got(await ask(fleet, replay, stream=True), replay.want, stream=True)


def test_every_example_of_models_yaml_is_replayed() -> None:
    assert {replay.entry for replay in ALL} == set(examples())


def test_every_provider_of_the_readme_is_replayed() -> None:
    (named,) = re.findall(r"It has examples for (.*?), and\b", " ".join((REPOSITORY / "README.md").read_text().split()))
    assert set(re.split(r", | and ", named)) == set(REPLAYS)
