"""``python -m model``: read settings, load, serve until told to stop, leave."""

import os
import signal
import sys
import time
from typing import NoReturn

from fleet import logs
from fleet.settings import FleetSettings, load
from model.server import ALIAS, ModelError, Running, start
from model.settings import ModelSettings

STOP = (signal.SIGTERM, signal.SIGINT)

log = logs.logger(__name__)


def main() -> NoReturn:
    """Exit code 0 when told to stop, otherwise as :class:`model.server.ModelError` says."""
    fleet, settings = load(FleetSettings), load(ModelSettings)
    logs.configure("model", fleet.log_level, fleet.log_format)
    # Blocked in llama.cpp's threads too, which inherit this, so that a signal waits for serve() whoever gets it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    began = time.monotonic()
    try:
        running = start(settings)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    log.info("model ready", model=ALIAS, url=running.url, slots=settings.slots, seconds=_since(began))
    serve(running)
    leave()


def serve(running: Running) -> None:
    """Answer requests, in threads of the library, until SIGTERM or SIGINT."""
    received = signal.sigwait(STOP)
    log.info("model stopping", signal=signal.Signals(received).name, url=running.url)


def leave() -> NoReturn:
    """End now, with exit code 0. Nothing has to be saved, and replies that still run cannot be waited for.

    The server object's own end would wait for every client to close its connection.
    """
    sys.stderr.flush()
    os._exit(0)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


if __name__ == "__main__":
    main()
