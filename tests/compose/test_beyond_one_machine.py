"""The files of `deploy/` that open the fleet: to workers on other machines, and to other users."""

import asyncio
import re
from pathlib import Path

import pytest
import yaml

from tests.compose.engine import docker
from tests.compose.stack import PATIENCE, Stack, settle
from tests.compose.test_scaling import go_on, in_thread, load
from tests.faults.crowd import Say, constant_load
from tests.harness.chat import JSON, PATH, body_of
from tests.harness.fleet import identity_settings, model_entries
from tests.harness.http import Connection
from tests.harness.ports import free_port
from tests.harness.process import Process, end_all
from tests.harness.waiting import SOON, eventually
from tests.schedule import Schedule

pytestmark = pytest.mark.timeout(400)
NAME = "fleet.example.test"


async def test_a_worker_on_another_machine_joins_with_a_copied_identity(
    stack: Stack, tmp_path: Path, figures: Say
) -> None:
    """The fleet runs on while its host is published; the worker runs outside of Docker."""
    port, relay = free_port(), free_port()
    stack.files.append("deploy/compose.remote-workers.yml")
    stack.set(CHATFLEET_HOST_PORT=f"127.0.0.1:{port}", FLEET_HOST_NAMES=NAME)
    stack.set(CHATFLEET_RELAY_PORT=str(relay), CHATFLEET_RELAY_ADDRESS="127.0.0.1")
    remote = Process("remote", "worker", tmp_path, {})
    try:
        async with constant_load(stack.address, load(), 20) as tally:
            await go_on(tally)
            took = await in_thread(stack.up)
            figures(f"the host is published after {took:.1f} s")
            await go_on(tally, 60)
            await asyncio.to_thread(stack.compose, "cp", "worker:/identity", str(tmp_path / "identity"))
            models = tmp_path / "models.yaml"
            models.write_text(yaml.safe_dump(model_entries(stack.backend.url, "remote"), sort_keys=False))
            settings = {"FLEET_HOST": f"127.0.0.1:{port}", "WORKER_MODELS": str(models)}
            remote = Process("remote", "worker", tmp_path, settings | identity_settings(tmp_path / "identity"))
            remote.start()
            await eventually(lambda: stack.has_workers(3), PATIENCE, "the remote worker is ready")
            stack.backend.forget()
            await go_on(tally, 60)
            keys = [record["authorization"] for record in stack.backend.requests()]
            assert "no relay" not in remote.log()
            assert await asyncio.to_thread(remote.stop, 30) == 0
            await eventually(lambda: stack.has_workers(2), PATIENCE, "it has left")
        share = keys.count("Bearer remote") / len(keys)
        figures(
            f"the remote worker had {share:.0%} of {len(keys)}; {tally.completed} in all, {len(tally.failures)} failed"
        )
        assert 0.15 < share < 0.6
        assert not tally.failures, tally.failures[:3]
        names = (
            "import sys; from cryptography import x509; print(x509.load_pem_x509_certificate(sys.stdin.buffer.read())"
            ".extensions.get_extension_for_class(x509.SubjectAlternativeName).value)"
        )
        show = f"python -c '{names}' < /identity/cert.pem"
        assert NAME in stack.exec(stack.container("host"), "sh", "-c", show)
    finally:
        end_all([remote] if remote.is_alive else [])
        stack.files.pop()
        stack.set(CHATFLEET_HOST_PORT="", CHATFLEET_RELAY_PORT="", CHATFLEET_RELAY_ADDRESS="", FLEET_HOST_NAMES="")
        await asyncio.to_thread(stack.up)
        docker("network", "rm", f"{stack.project}_remote")  # which `down` does not know without that file


async def test_a_published_fleet_asks_for_keys(stack: Stack) -> None:
    """`deploy/compose.public.yml`: published on every address, and nobody without a key."""
    made = stack.run("run", "--rm", "-T", "--no-deps", "gateway", "python", "-m", "gateway", "keys", "new", "alice")
    (key,) = re.findall(r"^  (cf-\S+)$", made.stderr, re.MULTILINE)
    (stack.clone / "keys").mkdir()
    (stack.clone / "keys" / "keys.yaml").write_text(f"keys:\n{made.stdout}")
    stack.files.append("deploy/compose.public.yml")
    try:
        await asyncio.to_thread(stack.up)
        settle(lambda: stack.readiness() == 200, "ready", PATIENCE)
        found = docker("port", stack.container("ingress")).split()
        assert f"0.0.0.0:{stack.port}" in found, found
        for headers, status in ((JSON, 401), (JSON | {"authorization": f"Bearer {key}"}, 200)):
            async with Connection(stack.address) as connection:
                response = await connection.request("POST", PATH, body_of(Schedule(tokens=3)), headers)
                assert response.status == status
                await response.body()
        assert key not in stack.logs()
    finally:
        stack.files.pop()
        await asyncio.to_thread(stack.up)
    await eventually(lambda: stack.has_workers(2), SOON, "all are there again")
