"""What a worker and the host answer to those who ask for their health."""

import socket

import httpx
import pytest

from fleet.process.health import health_service
from tests.harness.ports import free_port


async def metrics(accept: str) -> tuple[bytes, str]:
    return f"for {accept}".encode(), "text/plain; version=0.0.4"


@pytest.mark.parametrize(
    ("reason", "status", "body"),
    [
        ("", 200, {"status": "ready"}),
        ("draining", 503, {"status": "unready", "reason": "draining"}),
    ],
)
async def test_it_lives_and_says_whether_it_serves(reason: str, status: int, body: dict[str, str]) -> None:
    address = ("127.0.0.1", free_port())
    url = f"http://127.0.0.1:{address[1]}"
    async with httpx.AsyncClient() as client:
        async with health_service(address, lambda: reason, metrics):
            assert (await client.get(f"{url}/healthz")).json() == {"status": "ok"}
            answer = await client.get(f"{url}/readyz")
            assert (answer.status_code, answer.json()) == (status, body)
            shown = await client.get(f"{url}/metrics", headers={"accept": "text/something"})
            assert (shown.text, shown.headers["content-type"]) == ("for text/something", "text/plain; version=0.0.4")
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/healthz")


async def test_an_address_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(OSError, match="in use"):
        async with health_service(("127.0.0.1", sock.getsockname()[1]), str, metrics):
            pass
