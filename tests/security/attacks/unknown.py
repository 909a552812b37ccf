"""Peers at the host's port that have shown no secret: through gRPC's client, and with bytes of their own."""

import asyncio
import functools
import os
from typing import Any

import grpc
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fleet.bus.relay import HEAD
from tests.security import peer
from tests.security.attacks import Subject, Target
from tests.security.attacks.clients import LASTS, raw, side_by_side

ATTACKS = Subject("unknown")

MIB = 1024 * 1024
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


def channel(target: Target) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel("{}:{}".format(*target.host), options=OPTIONS)


async def _watch(target: Target, calls: int, size: int) -> None:
    async with channel(target) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        watched = []
        for number in range(calls):
            watched.append(stub.Watch(health_pb2.HealthCheckRequest(service=f"{'x' * size}{number}")))
            await asyncio.sleep(0)
        await asyncio.gather(*(call.read() for call in watched), return_exceptions=True)
        await asyncio.sleep(LASTS)


@ATTACKS
async def long_watches(target: Target) -> None:
    """``Health.Watch`` with a service's name of 30 MiB."""
    await _watch(target, 40, 30 * MIB)


@ATTACKS
async def many_watches(target: Target) -> None:
    await _watch(target, 2000, 10)


@ATTACKS
async def long_checks(target: Target) -> None:
    """``Health.Check`` with a service's name of 30 MiB, again and again."""

    async def check() -> None:
        async with channel(target) as opened:
            request = health_pb2.HealthCheckRequest(service="x" * 30 * MIB)
            await health_pb2_grpc.HealthStub(opened).Check(request, timeout=10)

    await side_by_side(4, check)


@ATTACKS
async def long_registrations(target: Target) -> None:
    """A member's call of 30 MiB without the token."""

    async def register() -> None:
        async with channel(target) as opened:
            request = agent_worker_pb2.RegisterAgentTypeRequest(type="x" * 30 * MIB)
            stub: Any = agent_worker_pb2_grpc.AgentRpcStub(opened)
            await stub.RegisterAgent(request, metadata=[("client-id", "unknown")], timeout=10)

    await side_by_side(4, register)


RAW = [
    "resets",
    "pings",
    "settings",
    "endless headers",
    "silent",
    "prefaces",
    "silent relays",
    "pongs to the relay",
]
"""Some of each group of :mod:`tests.security.test_host_unauthenticated`, which has them all."""


async def _raw(kind: str, target: Target) -> None:
    # Its thread outlasts a cancelled strike, and ends with the attacker's process.
    await asyncio.to_thread(peer.attack, (target.host[1], target.relay[1]), kind, LASTS, None)


for _kind in RAW:
    ATTACKS.add(_kind.replace(" ", "_"), functools.partial(_raw, _kind))


@ATTACKS
async def guessed_tickets(target: Target) -> None:
    async def guess() -> None:
        async with raw(target.relay) as connection:
            await connection.send(HEAD.pack(32) + os.urandom(16).hex().encode())
            await connection.closed()

    await side_by_side(50, guess)
