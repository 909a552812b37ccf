"""Requests that ask for another protocol are served as any other: behind a real nginx, and from Java's own client."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.tools import clean_environment
from tests.harness.chat import JSON, PATH, body_of
from tests.harness.fleet import Fleet
from tests.harness.http import Address, Connection
from tests.harness.nginx import nginx
from tests.harness.process import ENDS
from tests.schedule import Schedule, reply_text

JAVA = shutil.which("java")
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-request-id: smuggled\r\n\r\n"
BODIES = {
    "a request": SMUGGLED,
    # Wherever the reads part this body: what follows begins with empty lines, and then with a request.
    "a request after 60 KB": b"\r\n" * 30_000 + SMUGGLED,
}


@pytest.fixture(params=["on", "off"], ids=["buffered", "unbuffered"])
def proxy(fleet: Fleet, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Address]:
    """nginx in front of the gateway, with one connection to it that all requests share."""
    with nginx(fleet.address, tmp_path, f"proxy_request_buffering {request.param};") as address:
        yield address


async def ask_id(connection: Connection, number: int) -> str:
    """A victim's request: the id in its answer, which must be its own."""
    response = await connection.request("GET", "/healthz", headers={"x-request-id": f"victim-{number}"})
    assert await response.json() == {"status": "ok"}
    return response.headers["x-request-id"]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize(("method", "path", "status"), [("POST", PATH, 400), ("GET", "/healthz", 200)])
async def test_nobody_gets_anothers_answer_behind_nginx(
    proxy: Address, fleet: Fleet, method: str, path: str, status: int, body: bytes
) -> None:
    """The attacker's body is a request; the victim's request follows on the same connection to the gateway."""
    written = fleet.gateway.log_size()
    async with asyncio.timeout(60), Connection(proxy) as victim:
        for number, protocol in enumerate(["h2c", "websocket", "foo"] * 3):
            fields = {"connection": "upgrade", "upgrade": protocol, "x-request-id": f"attacker-{number}"}
            async with Connection(proxy) as attacker:
                response = await attacker.request(method, path, body, fields)
                assert (response.status, response.headers["x-request-id"]) == (status, f"attacker-{number}")
                await response.body()
            for _ in range(3):
                assert await ask_id(victim, number) == f"victim-{number}"
    log = fleet.gateway.log(written)
    assert "smuggled" not in log
    assert "warning" not in log


async def test_a_chat_that_asks_for_another_protocol_streams_behind_nginx(proxy: Address) -> None:
    schedule = Schedule(tokens=20)
    async with asyncio.timeout(60), Connection(proxy) as client:
        fields = JSON | {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
        response = await client.request("POST", PATH, body_of(schedule), fields)
        assert response.status == 200
        lines = [json.loads(line) for line in (await response.body()).splitlines()]
    assert "".join(line["content"] for line in lines) == reply_text(schedule)


@pytest.mark.parametrize("pause", [0.0, 0.1])
@pytest.mark.parametrize("protocol", ["h2c", "websocket", "foo"])
async def test_a_body_is_no_request_without_a_proxy_either(fleet: Fleet, protocol: str, pause: float) -> None:
    async with asyncio.timeout(30), Connection(fleet.address) as client:
        for method, path, status in (("POST", PATH, 400), ("GET", "/healthz", 200)):
            head = f"{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n"
            client._writer.write(f"{head}content-length: {len(SMUGGLED)}\r\n\r\n".encode())
            await asyncio.sleep(pause)
            client._writer.write(SMUGGLED)
            response = await client.answer()
            assert response.status == status
            await response.body()
        assert await ask_id(client, 1) == "victim-1"


def compiles() -> bool:
    """Whether Java can run a source file, which takes more than its runtime."""
    if JAVA is None:
        return False
    done = subprocess.run([JAVA, "--list-modules"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return b"jdk.compiler" in done.stdout


def test_javas_own_client_chats(fleet: Fleet) -> None:
    """It sends ``Upgrade: h2c`` with its first request, and falls back to HTTP/1.1."""
    if JAVA is None or not compiles():
        pytest.skip("there is no JDK: `apt-get install default-jdk-headless` enables this test")
    schedule = Schedule(tokens=20)
    done = subprocess.run(
        [
            JAVA,
            "-Dstdout.encoding=UTF-8",
            "-Dfile.encoding=UTF-8",
            Path(__file__).with_name("Chat.java"),
            fleet.url + PATH,
            body_of(schedule).decode(),
        ],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=ENDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split("200 HTTP_1_1\n")
    assert answers[0] == ""
    assert len(answers) == 3
    for answer in answers[1:]:
        assert "".join(json.loads(line)["content"] for line in answer.rstrip().split("\n")) == reply_text(schedule)
