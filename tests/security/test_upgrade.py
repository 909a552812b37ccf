"""Requests that ask for another protocol are served as any other: behind a real nginx, and from Java's own client."""

import asyncio
import contextlib
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
from tests.harness.ports import free_port
from tests.harness.waiting import wait_until
from tests.schedule import Schedule, reply_text

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
JAVA = shutil.which("java")
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 8m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # As nginx documents it for websockets, and as ingress-nginx has it.
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' '';
    }}
    upstream gateway {{
        server {gateway};
        keepalive 1;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-request-id: smuggled\r\n\r\n"
BODIES = {
    "a request": SMUGGLED,
    # Wherever the reads part this body: what follows begins with empty lines, and then with a request.
    "a request after 60 KB": b"\r\n" * 30_000 + SMUGGLED,
}


@pytest.fixture(params=["on", "off"], ids=["buffered", "unbuffered"])
def nginx(fleet: Fleet, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Address]:
    """In front of the gateway, with one connection to it that all requests share."""
    if NGINX is None:
        pytest.skip("nginx is not there: `apt-get install nginx` enables these tests")
    port = free_port()
    file = tmp_path / "nginx.conf"
    gateway = "{}:{}".format(*fleet.address)
    file.write_text(CONFIGURATION.format(folder=tmp_path, gateway=gateway, port=port, buffering=request.param))
    log = tmp_path / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen([NGINX, "-e", "stderr", "-c", file], stdout=output, stderr=output)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, 20, "nginx listens")
        assert process.poll() is None, log.read_text()
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        try:
            _, writer = loop.run_until_complete(asyncio.open_connection("127.0.0.1", port))
        except OSError:
            return False
        writer.transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        return True


async def ask_id(connection: Connection, number: int) -> str:
    """A victim's request: the id in its answer, which must be its own."""
    response = await connection.request("GET", "/healthz", headers={"x-request-id": f"victim-{number}"})
    assert await response.json() == {"status": "ok"}
    return response.headers["x-request-id"]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize(("method", "path", "status"), [("POST", PATH, 400), ("GET", "/healthz", 200)])
async def test_nobody_gets_anothers_answer_behind_nginx(
    nginx: Address, fleet: Fleet, method: str, path: str, status: int, body: bytes
) -> None:
    """The attacker's body is a request; the victim's request follows on the same connection to the gateway."""
    written = fleet.gateway.log_size()
    async with asyncio.timeout(60), Connection(nginx) as victim:
        for number, protocol in enumerate(["h2c", "websocket", "foo"] * 3):
            fields = {"connection": "upgrade", "upgrade": protocol, "x-request-id": f"attacker-{number}"}
            async with Connection(nginx) as attacker:
                response = await attacker.request(method, path, body, fields)
                assert (response.status, response.headers["x-request-id"]) == (status, f"attacker-{number}")
                await response.body()
            for _ in range(3):
                assert await ask_id(victim, number) == f"victim-{number}"
    log = fleet.gateway.log(written)
    assert "smuggled" not in log
    assert "warning" not in log


async def test_a_chat_that_asks_for_another_protocol_streams_behind_nginx(nginx: Address) -> None:
    schedule = Schedule(tokens=20)
    async with asyncio.timeout(60), Connection(nginx) as client:
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
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split("200 HTTP_1_1\n")
    assert answers[0] == ""
    assert len(answers) == 3
    for answer in answers[1:]:
        assert "".join(json.loads(line)["content"] for line in answer.rstrip().split("\n")) == reply_text(schedule)
