"""A host whose server has failed does not live on: it says why, and ends so that it is started again."""

import subprocess
import sys

import pytest

from tests.harness.ports import free_port
from tests.harness.process import REPOSITORY

HOST = """
import asyncio, grpc, socket
from host import __main__, door

{fault}

__main__.main()
"""

FAULTS = {
    "its listener breaks": """
accept = door.Door._accept
async def broken(self, listener):
    asyncio.get_running_loop().call_later(0.2, listener.shutdown, socket.SHUT_RDWR)
    await accept(self, listener)
door.Door._accept = broken
""",
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
        env={"HOST_BIND": f"127.0.0.1:{free_port()}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 1, output
    assert output.count("the server has failed, so this process ends") == 1
    assert "Traceback" not in output
