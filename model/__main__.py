"""``python -m model``: read settings, load the model, serve until a signal."""

import os
import signal
import sys
import time

from fleet import logs
from fleet.process import arguments
from fleet.settings import FleetSettings, load
from model.server import ALIAS, ModelError, start
from model.settings import ModelSettings

STOP = (signal.SIGTERM, signal.SIGINT)

log = logs.logger(__name__)


def main() -> None:
    """Exits with 0 after a signal, otherwise with the code of a :class:`model.server.ModelError`."""
    arguments.read("model", "Serve the embedded model until SIGTERM or SIGINT.")
    fleet, settings = load(FleetSettings), load(ModelSettings)
    logs.configure("model", fleet.log_level, fleet.log_format)
    # llama.cpp's threads inherit the mask, so that no thread but sigwait() below receives these signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    began = time.monotonic()
    try:
        running = start(settings)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    seconds = round(time.monotonic() - began, 2)
    log.info("model ready", model=ALIAS, url=running.url, slots=settings.slots, seconds=seconds)
    received = signal.sigwait(STOP)
    log.info("model stopping", signal=signal.Signals(received).name, url=running.url)
    sys.stderr.flush()
    # Not sys.exit(): the server's destructor waits until every client has closed its connection.
    os._exit(0)


if __name__ == "__main__":
    main()
