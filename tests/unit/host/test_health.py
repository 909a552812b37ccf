"""Every health call gets the host's state, and nothing of it is read."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from host.health import HealthService

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def health() -> HealthService:
    return HealthService()


@pytest.fixture
async def stub(health: HealthService) -> AsyncIterator[Any]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 1000)])
    server.add_generic_rpc_handlers((health.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)
    await server.stop(None)


async def test_a_check_tells_the_state_of_the_whole_host(health: HealthService, stub: Any) -> None:
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest(service="x" * 5000))).status == SERVING, "nothing was read"
    health.serves = False
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING


async def test_a_watch_tells_the_state_and_ends(stub: Any) -> None:
    call = stub.Watch(health_pb2.HealthCheckRequest(service="x" * 5000))
    assert [answer.status async for answer in call] == [SERVING]
    assert await call.code() == grpc.StatusCode.OK
