"""What a worker and the host say of themselves to whoever would restart them."""

import signal
import subprocess
import sys

from tests.harness.chat import streaming
from tests.harness.fleet import START, Fleet, fetch
from tests.harness.ports import free_port
from tests.harness.process import REPOSITORY, Process
from tests.harness.waiting import SOON, eventually, wait_until
from tests.schedule import Schedule


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
        await eventually(lambda: answer("/readyz") == (200, None), START, "it is ready")
        assert answer("/healthz") == (200, None)
        fleet.host.kill()
        await eventually(lambda: answer("/readyz") == (503, "no link to the host"), SOON, "it misses the host")
        assert answer("/healthz") == (200, None)
        fleet.host.start()
        await eventually(lambda: answer("/readyz") == (200, None), START, "it is ready again")
        await eventually(lambda: len(fleet.ready_workers()) == 1, SOON, "the gateway knows it")
        async with streaming(fleet.address, Schedule(tokens=100, delay=0.1)) as stream:
            assert await stream.line()
            worker.signal(signal.SIGTERM)
            await eventually(lambda: answer("/readyz") == (503, "draining"), SOON, "it drains")
            assert (await stream.rest())[-1]["done"]
        assert worker.popen.wait(SOON) == 0


def test_a_host_says_that_it_serves_and_answers_a_containers_probe() -> None:
    port = free_port()
    with Fleet(workers=0, start=False, settings={"HOST_HEALTH_BIND": f"127.0.0.1:{port}"}) as fleet:
        fleet.host.start()
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: fetch(f"{url}/readyz") == (200, {"status": "ready"}), START, "it is ready")
        assert fetch(f"{url}/healthz")[0] == 200
        probe = [sys.executable, "-I", "-S", "fleet/process/probe.py", f"{url}/readyz"]
        assert subprocess.run(probe, cwd=REPOSITORY, check=False).returncode == 0
        assert fleet.host.stop(SOON) == 0
        assert subprocess.run(probe, cwd=REPOSITORY, check=False, stderr=subprocess.PIPE).returncode == 1


def test_a_port_that_is_taken_is_named() -> None:
    with Fleet(workers=0, start=False) as fleet:
        fleet.start()
        wait_until(lambda: fleet.readiness()[0], START, "the gateway listens")
        address = "{}:{}".format(*fleet.address)
        worker = fleet.new_worker(WORKER_HEALTH_BIND=address)
        bind = {"HOST_BIND": f"127.0.0.1:{free_port()}", "HOST_HEALTH_BIND": address}
        host = Process("second-host", "host", fleet.folder, bind)
        for process, setting in ((worker, "WORKER_HEALTH_BIND"), (host, "HOST_HEALTH_BIND")):
            process.start()
            assert process.popen.wait(START) == 1
            (line,) = [line for line in process.log().splitlines() if setting in line]
            reason = f"port {fleet.address[1]} is taken; set {setting} to another address"
            assert line == f"{setting}: cannot listen on {address}: {reason}"
            assert "Traceback" not in process.log()
