"""A host whose server has failed does not live on: it says why, and ends so that it is started again."""

import re
import socket
import subprocess
import sys

import pytest

from tests.harness.ports import free_port
from tests.harness.process import ENDS, REPOSITORY

HOST = """
import asyncio, grpc, socket
from host import __main__
from host.listener import Listener

{fault}

__main__.main()
"""

BROKEN_PORT = """
accept, ports = Listener._accept, []
async def broken(self, listening):
    ports.append(listening)
    if len(ports) == {number} + 1:
        asyncio.get_running_loop().call_later(0.2, listening.shutdown, socket.SHUT_RDWR)
    await accept(self, listening)
Listener._accept = broken
"""

FAULTS = {
    "its port breaks": BROKEN_PORT.format(number=0),
    "its relays' port breaks": BROKEN_PORT.format(number=1),
    "gRPC does not start": """
async def start(self):
    raise RuntimeError("gRPC cannot start")
grpc.aio._server.Server.start = start
""",
    "gRPC ends": """
wait = grpc.aio._server.Server.wait_for_termination
async def ends(self, timeout=None):
    await self.stop(None)
    return await wait(self, timeout)
grpc.aio._server.Server.wait_for_termination = ends
""",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_process_ends_with_an_error_when(fault: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HOST.format(fault=FAULTS[fault])],
        cwd=REPOSITORY,
        env={"HOST_BIND": f"127.0.0.1:{free_port()}", "HOST_RELAY_BIND": f"127.0.0.1:{free_port()}"},
        capture_output=True,
        text=True,
        timeout=ENDS,
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 1, output
    assert output.count("the server has failed, so this process ends") == 1
    assert "Traceback" not in output


@pytest.mark.parametrize("taken", ["HOST_BIND", "HOST_RELAY_BIND"])
def test_a_port_in_use_is_one_line_that_names_the_setting(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        free = {name: f"127.0.0.1:{free_port()}" for name in ("HOST_BIND", "HOST_RELAY_BIND")}
        ended = subprocess.run(
            [sys.executable, "-m", "host"],
            cwd=REPOSITORY,
            env=free | {taken: address},
            capture_output=True,
            text=True,
            timeout=ENDS,
            check=False,
        )
    assert ended.returncode == 1
    reason = f"port {address.rpartition(':')[2]} is taken; set {taken} to another address"
    assert ended.stderr.splitlines()[-1] == f"{taken}: cannot listen on {address}: {reason}"
    assert "Traceback" not in ended.stderr


def test_on_loopback_the_relay_takes_no_port_that_somebody_else_may_want() -> None:
    """A gateway at the port after the host's is as common as anything."""
    port = free_port()
    host = subprocess.Popen(
        [sys.executable, "-m", "host"],
        cwd=REPOSITORY,
        env={"HOST_BIND": f"127.0.0.1:{port}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert host.stderr is not None
        listening = next(line for line in host.stderr if "event=listening" in line)
        relay = int(re.search(r"relay=127\.0\.0\.1:(\d+)", listening)[1])  # type: ignore[index]
        assert relay not in (0, port, port + 1)
        socket.create_connection(("127.0.0.1", relay)).close()
    finally:
        host.kill()
        host.communicate()
