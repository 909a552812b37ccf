"""``python -m host``: links gateways and workers until SIGTERM or SIGINT, or until its server fails (exit code 1)."""

import asyncio
import sys
from contextlib import AsyncExitStack

from fleet import logs
from fleet.metrics.exposition import Exposition
from fleet.metrics.process import ProcessMetrics
from fleet.process import arguments, loop, ports
from fleet.process.health import health_service
from fleet.process.signals import stop_signals
from fleet.security.identity import IdentityError
from fleet.settings import BAD_SETTINGS, FleetSettings, HostPort, load
from host.metrics import HostMetrics
from host.server import FleetHost
from host.settings import HostSettings

log = logs.logger("host")

FAILED = 1
"""Exit code of a host that cannot serve. Starting it again may help."""


def check(settings: HostSettings, fleet: FleetSettings) -> None:
    """End the process when anyone on the network could join."""
    if settings.bind.is_loopback and settings.relay.is_loopback:
        return
    if refusal := settings.refusal(bool(fleet.tokens())):
        print(refusal, file=sys.stderr)
        raise SystemExit(BAD_SETTINGS)
    if fleet.identity() is None:
        advice = "set FLEET_TLS_CA, FLEET_TLS_CERT and FLEET_TLS_KEY"
        log.warning("not encrypted", reason="prompts and the token are sent as they are", advice=advice)


def warn(fleet: FleetSettings) -> None:
    """Log what is not protected when neither certificates nor tokens name a role."""
    tokens = fleet.tokens()
    if fleet.identity() is None and not (tokens and tokens.name_roles()):
        anyone = "any holder of the token" if tokens else "any program that reaches this port"
        may = "can join as a worker or gateway and receives the prompts given to it"
        advice = "make identities, or write tokens with roles into FLEET_TOKEN_FILE"
        log.warning("members are not told apart", reason=f"{anyone} {may}", advice=advice)


async def serve(settings: HostSettings, fleet: FleetSettings, logged: logs.Counts) -> None:
    """Serve until the first signal, or until the server fails."""
    stop = stop_signals()
    tokens, identity = fleet.tokens(), fleet.identity()
    try:
        host = FleetHost(settings.bind, settings.relay, tokens, identity, settings.max_message)
    except OSError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from None
    except IdentityError as error:
        print(error, file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None
    host.start()
    addresses = {"address": str(settings.bind), "relay": str(HostPort(settings.relay.host, host.relay_port))}
    log.info("listening", **addresses, token=bool(tokens), tls=identity is not None)
    async with AsyncExitStack() as health:
        if settings.health_bind is not None:
            await _expose(health, settings.health_bind, host, fleet, logged)
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((stopping, host.serving), return_when=asyncio.FIRST_COMPLETED)
        failed = not stop.is_set()
        if failed:
            log.error("the server has failed, so this process ends", reason=_reason(host.serving.exception()))
        elif settings.drain_timeout:
            log.info("draining", members=len(host.servicer.members))
            await host.servicer.part(settings.drain_timeout)
        await host.stop()
    if failed:
        raise SystemExit(FAILED)
    log.info("stopped")


async def _expose(
    health: AsyncExitStack, address: HostPort, host: FleetHost, fleet: FleetSettings, logged: logs.Counts
) -> None:
    """Serve health and metrics until ``health`` ends."""
    exposition = Exposition()
    exposition.add(HostMetrics(host, logged))
    ProcessMetrics(exposition, "host", "", lambda: host.serves, logged, fleet.identity()).watch_loop()

    def unready() -> str:
        return "" if host.serves else "its server has ended"

    try:
        await health.enter_async_context(health_service(address, unready, exposition.render))
    except OSError as error:
        await host.stop()
        print(ports.failure("HOST_HEALTH_BIND", address, error), file=sys.stderr)
        raise SystemExit(FAILED) from None


def _reason(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "it has stopped" if error is None else f"{type(error).__name__}: {error}"


def main() -> None:
    arguments.read("host", "Link gateways and workers until SIGTERM or SIGINT.")
    fleet = load(FleetSettings)
    settings = load(HostSettings)
    logged = logs.configure("host", fleet.log_level, fleet.log_format)
    check(settings, fleet)
    warn(fleet)
    loop.run(serve(settings, fleet, logged))


if __name__ == "__main__":
    main()
