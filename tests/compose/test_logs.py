"""What the containers write: no secret, nothing of what users ask or read, no traceback."""

import asyncio
import re
import secrets

import pytest

from tests.compose.conftest import ENV_KEY
from tests.compose.engine import inspect
from tests.compose.stack import SERVICES, Stack, variables
from tests.faults.crowd import crowd
from tests.harness.chat import JSON, PATH, ask, send
from tests.harness.http import Connection
from tests.harness.waiting import eventually
from tests.schedule import Schedule

pytestmark = pytest.mark.timeout(300)


async def test_logs_hold_no_secret_and_nothing_of_what_users_say(stack: Stack) -> None:
    """Over answers that go well and in every other way, and over everything that the tests before this one did."""
    asked, answered, shown = (f"marker-{secrets.token_hex(8)}" for _ in range(3))
    told = Schedule(text=f"The reply says {answered}.", tag=asked)
    await ask(stack.address, told)
    for fault in ({"error_after": 2}, {"reset_after": 2}, {"status": 400}, {"status": 500}, {"end_after": 2}):
        await ask(stack.address, Schedule(text=f"broken {answered} in the middle", tag=asked, **fault))  # type: ignore[arg-type]
    await ask(stack.address, told, model="unknown")
    await send(stack.address, f'{{"messages": "{asked}"'.encode())
    await send(stack.address, b'{"messages": [{"source": "user"}], "content": "' + asked.encode() + b'"}')
    async with Connection(stack.address) as connection:
        authorized = JSON | {"authorization": f"Bearer {shown}"}
        await (await connection.request("POST", PATH, b"{}", authorized)).body()
    async with crowd(stack.address, [Schedule(tag=f"{asked}-left", text=answered * 100, delay=0.1)]) as clients:
        await clients.all_have_text()
        await clients.leave()
    await eventually(stack.is_idle, what="nothing runs")

    host, worker, gateway = (stack.containers(name)[0] for name in ("host", "worker", "gateway"))
    forbidden = {"a prompt": asked, "a reply": answered, "a client's key": shown, "a key of .env": ENV_KEY}
    for container in (host, worker, gateway):
        for number, token in enumerate(secrets_in(stack.exec(container, "cat", "/identity/token"))):
            forbidden[f"token {number} of {container[:12]}"] = token
        key = stack.exec(container, "cat", "/identity/key.pem").splitlines()
        forbidden[f"the private key of {container[:12]}"] = key[1]
    for service in SERVICES:
        log = await asyncio.to_thread(stack.logs, service)
        assert log.strip() or service == "model", f"{service} has written nothing"
        found = [name for name, text in forbidden.items() if text in log]
        assert not found, f"the log of {service} holds {found}"
        assert "PRIVATE KEY" not in log
        assert not re.search(r"Traceback|Exception in", log), log[-4000:]


def secrets_in(tokens: str) -> list[str]:
    """The tokens of a file, without their roles."""
    return [line.split()[-1] for line in tokens.splitlines() if line.strip()]


def test_only_workers_get_the_providers_keys(stack: Stack) -> None:
    for service in ("host", "gateway", "model", "ingress"):
        assert ENV_KEY not in variables(inspect(stack.container(service))).values()
    for worker in stack.containers("worker"):
        assert variables(inspect(worker))["OPENAI_API_KEY"] == ENV_KEY


def test_a_look_at_the_containers_shows_no_token(stack: Stack) -> None:
    """Whoever may ask the engine could read the files too; but environments are copied into reports."""
    tokens = secrets_in(stack.exec(stack.container("host"), "cat", "/identity/token"))
    for container in stack.all_containers():
        assert not set(tokens) & set(variables(container).values())
