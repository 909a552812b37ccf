"""An address is tried without a request, by the clients whose connections are ours."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from autogen_core.models import ChatCompletionClient

from tests.harness.ports import free_port
from tests.harness.waiting import until
from worker.claude.client import ClaudeClient
from worker.ollama.client import OllamaClient
from worker.openai.client import StreamingOpenAIClient
from worker.wire import reach as module
from worker.wire.reach import reach

INFO = {"vision": False, "function_calling": False, "json_output": False, "structured_output": False, "family": "x"}


class Server:
    def __init__(self) -> None:
        self.received = b""
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.received += await reader.read()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as serving:
        yield made, f"127.0.0.1:{serving.sockets[0].getsockname()[1]}"


def openai_client(url: str) -> StreamingOpenAIClient:
    return StreamingOpenAIClient(model="m", base_url=url, api_key="k", model_info=INFO)


@pytest.mark.parametrize("kind", ["openai", "claude", "ollama"])
async def test_every_client_of_ours_tries_its_address_and_sends_nothing(server: tuple[Server, str], kind: str) -> None:
    made, address = server
    url = f"http://{address}"
    makers: dict[str, Callable[[], ChatCompletionClient]] = {
        "openai": lambda: openai_client(f"{url}/v1"),
        "claude": lambda: ClaudeClient(model="claude-x", base_url=url, api_key="k", model_info=INFO),
        "ollama": lambda: OllamaClient(model="m", host=url),
    }
    client = makers[kind]()
    attempt = reach(client)
    assert attempt is not None
    assert await attempt()
    await until(lambda: made.connections)
    await client.close()
    assert made.received == b""


async def test_what_does_not_answer_cannot_be_reached() -> None:
    for url in (f"http://127.0.0.1:{free_port()}", "http://nowhere.invalid", f"http://{'x' * 70}.invalid"):
        attempt = reach(openai_client(url))
        assert attempt is not None
        assert not await attempt()


async def test_a_server_without_tls_cannot_be_reached_with_it(
    server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    _, address = server
    attempt = reach(openai_client(f"https://{address}"))
    assert attempt is not None
    assert not await attempt()


def test_a_proxy_hides_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert reach(openai_client("https://model.example")) is None


def test_other_clients_are_not_tried() -> None:
    assert reach(object()) is None
    assert reach(socket) is None
