"""``python -m fleet``: look at the ports, start what the Procfile names, keep it running, end it all."""

import argparse
import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

from fleet.settings import load
from launcher.child import Child
from launcher.console import Console
from launcher.ports import obstacle
from launcher.procfile import ProcfileError, Service, instances, parse
from launcher.settings import LauncherSettings
from launcher.stack import SELF, Stack
from launcher.terminal import end_with_parent, foreground, parent_interrupted

PROCFILE = Path("Procfile")
MADE_BY = "MAKELEVEL"
"""The variable by which we know that ``make`` runs us."""


def main() -> int:
    """The exit code: 0 when told to end, 1 if it cannot start, 2 if a setting is wrong."""
    _read_arguments()
    settings = load(LauncherSettings)
    try:
        services = parse(PROCFILE.read_text())
    except (OSError, ProcfileError) as error:
        print(error, file=sys.stderr)
        return 1
    if not ports_are_free(services, settings):
        return 1
    if MADE_BY in os.environ:
        end_with_parent()
    with foreground():
        return asyncio.run(launch(services, settings))


def _read_arguments() -> None:
    parser = argparse.ArgumentParser(prog="python -m fleet", description="Run the Procfile on this machine.")
    parser.add_argument("--workers", metavar="N", help="how many workers to run; WORKERS=2 by default")
    workers = parser.parse_args().workers
    if workers is not None:
        os.environ["WORKERS"] = workers  # so that one check, and one message, serves both ways to say it


def ports_are_free(services: list[Service], settings: LauncherSettings) -> bool:
    """Whether all can listen; if not, one line for each that cannot says which variable changes it."""
    free = True
    names = {service.name for service in services}
    for name, (variable, bind) in settings.binds().items():
        if name in names and (why := obstacle(bind)):
            print(f"{name} cannot listen on {bind}: {why}; set {variable} to another address", file=sys.stderr)
            free = False
    return free


async def launch(services: list[Service], settings: LauncherSettings) -> int:
    """Run the stack until a signal, or until nobody reads what it prints."""
    stack = Stack(settings)
    named = instances(services, settings.workers)
    console = Console(sys.stdout, [SELF, *(name for name, _ in named)], on_closed=stack.stop)
    environment = settings.environment(os.environ)
    children = [Child(name, service, environment, partial(console.line, name)) for name, service in named]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stack.interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
        loop.add_signal_handler(signal.SIGHUP, stack.stop)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_heed_make(stack))
        exit_code = await stack.run(children, console)
        watching.cancel()
    return exit_code


async def _heed_make(stack: Stack) -> None:
    if MADE_BY in os.environ:
        await parent_interrupted()
        stack.stop()


if __name__ == "__main__":
    sys.exit(main())
