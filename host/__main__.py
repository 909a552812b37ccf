"""``python -m host``: links gateways and workers until SIGTERM or SIGINT."""

import asyncio
import sys

from fleet import logs
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from fleet.signals import stop_signals
from host.server import FleetHost
from host.settings import HostSettings

log = logs.logger("host")


def check(settings: HostSettings, fleet: FleetSettings) -> None:
    """End the process when the host would be open to strangers."""
    if not settings.bind.is_loopback and fleet.token is None and not settings.allow_insecure:
        advice = "set FLEET_TOKEN (or HOST_ALLOW_INSECURE=true)"
        print(f"HOST_BIND: {settings.bind} is reachable from other machines; {advice}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS)


async def serve(settings: HostSettings, fleet: FleetSettings) -> None:
    """Listen, serve, and stop at the first signal."""
    stop = stop_signals()
    try:
        host = FleetHost(settings.bind, fleet.token.get_secret_value() if fleet.token else None)
    except OSError as error:
        print(f"HOST_BIND: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    host.start()
    log.info("listening", address=str(settings.bind), token=fleet.token is not None)
    await stop.wait()
    await host.stop()
    log.info("stopped")


def main() -> None:
    """Read settings, then serve."""
    fleet = load(FleetSettings)
    settings = load(HostSettings)
    logs.configure("host", fleet.log_level, fleet.log_format)
    check(settings, fleet)
    asyncio.run(serve(settings, fleet))


if __name__ == "__main__":
    main()
