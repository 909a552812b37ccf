"""What a process runs on. In a process of its own, whose limits it changes."""

import subprocess
import sys

from tests.harness.process import ENDS, REPOSITORY

SCRIPT = """
import asyncio, gc, resource
import uvloop
from fleet.process import loop

async def life():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(isinstance(asyncio.get_running_loop(), uvloop.Loop), gc.get_freeze_count() > 0, soft)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2048))
loop.run(life())
"""


def test_a_process_runs_on_uvloop_with_all_the_files_that_the_system_permits() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=ENDS
    )
    assert ran.stdout.split() == ["True", "True", "2048"]


GRPC = """
import asyncio, time
import grpc
from fleet.process import loop

STREAMS, MESSAGES = 40, 50

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(self.echo)

    async def echo(self, messages, context):
        async for message in messages:
            yield message

def ask(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [channel.stream_stream("/test/Echo")(iter([b"x"] * MESSAGES)) for _ in range(STREAMS)]
        return sum(1 for call in calls for _ in call)

async def life():
    passes, running = 0, asyncio.get_running_loop()

    def keep_busy():
        nonlocal passes
        passes += 1
        time.sleep(0.003)
        running.call_soon(keep_busy)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    keep_busy()
    print(await asyncio.to_thread(ask, port), passes)
    await server.stop(0)

loop.run(life())
"""


def test_grpc_goes_on_while_the_loop_has_much_to_do() -> None:
    """Otherwise gRPC, of which we use a private part here, has an event for each pass of the loop: 3,900 passes."""
    ran = subprocess.run(
        [sys.executable, "-c", GRPC], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=ENDS
    )
    answered, passes = map(int, ran.stdout.split())
    assert answered == 40 * 50
    assert passes < 2000
