"""The link to the host: joins it as a member does, under the name `doctor`, and leaves again."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator

from doctor.findings import Finding, note, ok, problem, warning
from doctor.processes import Process
from fleet.bus import relay, topics
from fleet.bus.link import Link, reason_of
from fleet.bus.relay import Relay
from fleet.security.diagnosis import refusal
from fleet.settings import FleetSettings

TIMEOUT = 5.0
REASONS = {
    "unauthenticated": "give it the token that the host has (FLEET_TOKEN or FLEET_TOKEN_FILE)",
    "permission_denied": "certificate and token must be of the role of the process: copy the folder of its role again",
}
TLS = (
    "compare FLEET_TLS_CA, FLEET_TLS_CERT and FLEET_TLS_KEY of both sides; docs/operations.md, Security between members"
)


async def check(fleet: FleetSettings, process: Process, runs: bool) -> list[Finding]:
    """Whether a member with these settings can join. ``runs`` is whether anything of the fleet runs here."""
    return [finding async for finding in _check(fleet, process, runs)]


async def _check(fleet: FleetSettings, process: Process, runs: bool) -> AsyncIterator[Finding]:
    who, is_here = str(process), fleet.host.is_loopback
    kind = {"worker": topics.WORKER, "gateway": topics.GATEWAY}.get(process.kind, "")
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(*fleet.host)
            writer.close()
    except (OSError, TimeoutError) as error:
        reason = _words(error)
        text = f"{who}: the host at {fleet.host} cannot be reached: {reason}"
        if is_here and not runs:
            yield note(text, "it does not run: make run, or python -m host")
        elif is_here:
            yield problem(text, "start it: python -m host; its log says why it ended")
        else:
            yield problem(text, "is FLEET_HOST right, does the host run, and does a firewall let its port pass?")
        return
    link: Link | None = None
    try:
        async with asyncio.timeout(TIMEOUT):
            link = await Link.dial(fleet, secrets.token_hex(16))
            if kind:
                await link.register(topics.agent_type(kind, topics.new_member_id(kind, "doctor")))
            offered = await link.relay()
    except Exception as error:
        why = await refusal(fleet.host, fleet.identity())
        reason = reason_of(error)
        advice = (
            TLS if why else REASONS.get(reason.partition(":")[0], "is it a host of chatfleet? Its log has the reason")
        )
        yield problem(f"{who}: the host at {fleet.host} does not take it: {why or reason}", advice)
    else:
        yield ok(f"{who}: joins the host at {fleet.host}{' with TLS' if fleet.identity() else ''}")
        yield await _relay(fleet, offered, who)
    finally:
        if link is not None:
            await link.close()


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError) or not error.errno:
        return "no answer"
    return (os.strerror(error.errno) if error.errno > 0 else error.strerror or "no such name").lower()


async def _relay(fleet: FleetSettings, offered: tuple[int, str] | None, who: str) -> Finding:
    if offered is None:
        return warning(f"{who}: the host offers no relay", "is it of this version?")
    port, ticket = offered
    identity = fleet.identity()
    try:
        async with asyncio.timeout(TIMEOUT):
            opened = await relay.dial(
                (fleet.host.host, port),
                identity.context() if identity is not None else None,
                ticket,
                lambda: Relay(lambda _: None, 1 << 20, TIMEOUT, TIMEOUT),
            )
    except Exception as error:
        advice = f"let port {port} pass at {fleet.host.host}: without it every batch costs five times the CPU"
        return problem(f"{who}: the host's relay at port {port} cannot be opened: {reason_of(error)}", advice)
    opened.close()
    return ok(f"{who}: opens the host's relay at port {port}")
