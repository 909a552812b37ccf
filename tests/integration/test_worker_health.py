"""What a worker says of itself to whoever would restart it."""

import signal

import pytest

from tests.harness.chat import streaming
from tests.harness.fleet import Fleet, fetch
from tests.harness.ports import free_port
from tests.harness.waiting import eventually, wait_until
from tests.schedule import Schedule

WITHIN = 20.0


@pytest.mark.timeout(120)
async def test_a_worker_says_whether_it_serves() -> None:
    """It lives all the time; it is ready when it is linked to the host and does not drain."""
    with Fleet(workers=0, start=False) as fleet:
        fleet.start()
        port = free_port()
        worker = fleet.new_worker(WORKER_HEALTH_BIND=f"127.0.0.1:{port}")

        def answer(path: str) -> tuple[int, str | None]:
            status, body = fetch(f"http://127.0.0.1:{port}{path}")
            return status, body and body.get("reason")

        worker.start()
        await eventually(lambda: answer("/readyz") == (200, None), WITHIN, "it is ready")
        assert answer("/healthz") == (200, None)
        fleet.host.kill()
        await eventually(lambda: answer("/readyz") == (503, "no link to the host"), WITHIN, "it misses the host")
        assert answer("/healthz") == (200, None)
        fleet.host.start()
        await eventually(lambda: answer("/readyz") == (200, None), WITHIN, "it is ready again")
        await eventually(lambda: len(fleet.ready_workers()) == 1, WITHIN, "the gateway knows it")
        async with streaming(fleet.address, Schedule(tokens=20, delay=0.1)) as stream:
            assert await stream.line()
            worker.signal(signal.SIGTERM)
            await eventually(lambda: answer("/readyz") == (503, "draining"), WITHIN, "it drains")
            assert (await stream.rest())[-1]["done"]
        assert worker.popen.wait(WITHIN) == 0


def test_a_port_that_is_taken_is_named() -> None:
    with Fleet(workers=0, start=False) as fleet:
        fleet.start()
        wait_until(lambda: fleet.readiness()[0], WITHIN, "the gateway listens")
        address = "{}:{}".format(*fleet.address)
        worker = fleet.new_worker(WORKER_HEALTH_BIND=address)
        worker.start()
        assert worker.popen.wait(WITHIN) == 1
        (line,) = [line for line in worker.log().splitlines() if "WORKER_HEALTH_BIND" in line]
        reason = f"port {fleet.address[1]} is taken; set WORKER_HEALTH_BIND to another address"
        assert line == f"WORKER_HEALTH_BIND: cannot listen on {address}: {reason}"
        assert "Traceback" not in worker.log()
