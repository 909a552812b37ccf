"""``python -m fleet doctor`` beside real fleets: one that does not run yet, one that is well, and broken ones."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.fleet import Fleet, identity_settings
from tests.harness.ports import free_port
from tests.harness.process import ENDS, REPOSITORY, SETTINGS
from tests.harness.waiting import wait_until
from tests.integration.keyed import KeyedGateway

TOKEN = "a-token-of-the-fleet"
WITHIN = 60.0

pytestmark = pytest.mark.timeout(400)  # each look imports what a worker imports


def doctor(*arguments: str, **settings: str) -> tuple[int, str]:
    """Exit code and output of the doctor, with these settings in its shell."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    done = subprocess.run(
        [sys.executable, "-m", "fleet", "doctor", *arguments],
        cwd=REPOSITORY,
        env=clean | settings,
        capture_output=True,
        text=True,
        timeout=ENDS,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def of(fleet: Fleet, *arguments: str, **settings: str) -> tuple[int, str]:
    return doctor(*arguments, FLEET_HOST=f"127.0.0.1:{fleet.host_port}", **settings)


def failures(said: str) -> list[str]:
    return [line.split("FAIL", 1)[1].strip() for line in said.splitlines() if line.startswith("  FAIL")]


def free() -> dict[str, str]:
    """Settings of a fleet that nobody has started."""
    names = ("FLEET_HOST", "HOST_BIND", "HOST_RELAY_BIND", "GATEWAY_BIND", "MODEL_BIND")
    return {name: f"127.0.0.1:{free_port()}" for name in names}


@pytest.fixture
def broken() -> Iterator[Fleet]:
    """A fleet to be broken, with one worker. It is not forgotten before the doctor has come to ask for it."""
    with Fleet(workers=1, settings={"FLEET_LINK_TIMEOUT": "300"}) as fleet:
        fleet.expects_trouble = True
        yield fleet


def test_before_it_runs_nothing_is_wrong_and_everything_is_free() -> None:
    code, said = doctor(**free())
    assert (code, failures(said)) == (0, [])
    assert said.count("free; nothing runs there") == 4
    assert "model smollm2" in said
    assert "Nothing is wrong" in said


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One of its own: in the shared one a model may fail, by other tests, and the doctor says so."""
    with Fleet() as made:
        yield made


def test_of_a_fleet_that_is_well_it_tells_who_hears_whom(fleet: Fleet) -> None:
    code, said = of(fleet)
    assert (code, failures(said)) == (0, [])
    for process in (fleet.host, fleet.gateway, *fleet.workers):
        assert f"pid {process.pid}" in said or f", {process.pid}" in said
    for worker in fleet.ready_workers():
        assert f"worker {worker['id']}: READY" in said
    assert said.count("joins the host") == said.count("opens the host's relay") == 3
    assert f"the gateway at {fleet.url} is ready" in said
    assert "every member is of version" in said


def test_what_this_shell_gets_wrong_is_named_and_its_secrets_are_not() -> None:
    code, said = doctor(
        **free(),
        FLEET_TOKEN=TOKEN,
        MODEL_API_KEY="sk-secret",
        GATEWAY_TOKEN_TIMOUT="3",
        GATEWAY_QUEUE_LIMIT="many",
        GATEWAY_KEYS="no.yaml",
        WORKER_MODELS="no-models.yaml",
    )
    assert code == 1
    found = " | ".join(failures(said))
    assert "GATEWAY_QUEUE_LIMIT: input should be a valid integer" in found
    assert "WORKER_MODELS: no-models.yaml: cannot be read" in found
    assert "GATEWAY_TOKEN_TIMOUT is not a setting" in found
    assert "did you mean GATEWAY_TOKEN_TIMEOUT?" in said
    assert TOKEN not in said
    assert "sk-secret" not in said


def test_a_port_that_another_program_has_is_named_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, said = doctor(**free() | {"GATEWAY_BIND": address, "HOST_BIND": address, "FLEET_HOST": address})
    assert code == 1
    gateway, host, *_ = sorted(failures(said))
    assert gateway.startswith(f"gateway at {address}: port")
    assert host.startswith(f"host at {address}: port")
    assert f"(pid {os.getpid()})" in gateway


def test_a_host_that_is_gone_is_the_first_problem(broken: Fleet) -> None:
    broken.host.kill()
    wait_until(lambda: broken.readiness()[0] == 503, WITHIN, "the gateway has noticed")
    code, said = of(broken)
    assert code == 1
    first, *rest = failures(said)
    assert f"the host at 127.0.0.1:{broken.host_port} cannot be reached: connection refused" in first
    assert any("is not ready: no link to the host" in line for line in rest)


def test_a_host_with_metrics_tells_who_is_on_it() -> None:
    with Fleet(workers=1, settings={"HOST_HEALTH_BIND": f"127.0.0.1:{free_port()}"}) as fleet:
        code, said = of(fleet)
    assert (code, failures(said)) == (0, [])
    assert "on the host: 1 gateway by relay, 1 worker by relay" in said
    assert "health service at 127.0.0.1:" in said


def test_a_worker_that_hangs_is_silent_and_the_reason_is_found(broken: Fleet) -> None:
    broken.workers[0].freeze()
    wait_until(lambda: broken.status()["workers"][0]["state"] == "SILENT", WITHIN, "it is silent")
    code, said = of(broken)
    broken.workers[0].thaw()
    assert code == 1
    found = " | ".join(failures(said))
    assert f"worker, pid {broken.workers[0].pid} is stopped" in found
    assert ": SILENT, " in found
    assert f"kill -CONT {broken.workers[0].pid}" in said


def test_a_worker_with_another_token_cannot_join_and_is_named() -> None:
    with Fleet(workers=1, settings={"FLEET_TOKEN": TOKEN}) as fleet:
        fleet.expects_trouble = True
        stranger = fleet.new_worker(FLEET_TOKEN="another-token-of-16")
        stranger.start()
        stranger.wait_for_log("cannot join the host", WITHIN)
        code, said = of(fleet, FLEET_TOKEN=TOKEN)
    assert code == 1
    found = failures(said)
    refused = [line for line in found if line.startswith(f"worker, pid {stranger.pid}: ")]
    assert len(refused) == 1
    assert "unauthenticated" in refused[0]
    assert any("2 workers run here, and the gateway" in line for line in found)
    assert TOKEN not in said


def test_a_worker_with_the_gateways_certificate_is_told_so(identities: Path) -> None:
    with Fleet(workers=1, identities=identities) as fleet:
        fleet.expects_trouble = True
        confused = fleet.new_worker(**identity_settings(identities / "gateway"))
        confused.start()
        confused.wait_for_log("cannot join the host", WITHIN)
        code, said = of(fleet, **identity_settings(identities / "worker"))
    assert code == 1
    cert = identities / "gateway" / "cert.pem"
    assert f"worker, pid {confused.pid}: {cert} is the certificate of a gateway" in failures(said)
    assert f"worker, pid {fleet.workers[0].pid}: joins the host at 127.0.0.1:{fleet.host_port} with TLS" in said


def test_a_gateway_without_workers_and_one_that_wants_a_key(fleet: Fleet, tmp_path: Path) -> None:
    with KeyedGateway(fleet, {"someone": {}}) as gateway:
        code, said = of(fleet, "--gateway", "http://127.0.0.1:1")
        assert code == 1
        assert "the gateway at http://127.0.0.1:1 does not answer" in " ".join(failures(said))
        assert f"the gateway at {gateway.url} tells who is in the fleet only to those who have a key" in said
        file = tmp_path / "key"
        file.write_text(gateway.keys["someone"] + "\n")
        code, said = of(fleet, "--key-file", str(file))
        assert (code, failures(said)) == (0, [])
        assert "2 gateways hear the same 2 workers" in said
        assert gateway.keys["someone"] not in said


def test_a_fleet_without_a_worker_says_how_to_start_one() -> None:
    with Fleet(workers=0, start=False) as fleet:
        fleet.start()
        wait_until(lambda: "no worker" in str(fleet.readiness()[1]), WITHIN, "the gateway is linked")
        code, said = of(fleet)
    assert code == 1
    assert [line for line in failures(said) if line.endswith("is not ready: no worker is ready")]
    assert "python -m worker" in said
