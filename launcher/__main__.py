"""``python -m fleet``: check the ports, start what the Procfile names, keep it running, stop it all."""

import argparse
import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

from doctor.arguments import add as add_doctors
from fleet.process import arguments, ports
from fleet.settings import load
from launcher.child import Child
from launcher.console import Console
from launcher.notices import Notices
from launcher.parent import make_gone
from launcher.procfile import ProcfileError, Service, instances, parse
from launcher.settings import LauncherSettings
from launcher.stack import SELF, Stack

PROCFILE = Path("Procfile")
MADE_BY = "MAKELEVEL"
"""``make`` sets this variable for what it runs."""
MEMBER_NAME = "FLEET_MEMBER_NAME"
"""Members appear in logs and in ``/fleet`` by the names that their lines have here."""


def main() -> int:
    """The exit code: 0 after a signal, 1 if the stack cannot start, 2 if a setting is wrong."""
    given = _read_arguments()
    if given.command == "doctor":
        from doctor.doctor import run  # here, because it takes a second

        return run(given)
    if given.workers is not None:
        os.environ["WORKERS"] = given.workers  # the settings check both
    settings = load(LauncherSettings)
    try:
        services = parse(PROCFILE.read_text())
    except (OSError, ProcfileError) as error:
        print(error, file=sys.stderr)
        return 1
    if not _ports_are_free(services, settings):
        return 1
    return asyncio.run(launch(services, settings))


def _read_arguments() -> argparse.Namespace:
    parser = arguments.parser("fleet", "Run the Procfile on this machine until Ctrl-C, or one of the commands.")
    parser.add_argument("--workers", metavar="N", help="how many workers to run; WORKERS=2 by default")
    commands = parser.add_subparsers(dest="command", title="commands")
    words = "say what is wrong with the fleet, before, while and after it runs; exit code 1 if anything is"
    add_doctors(commands.add_parser("doctor", help=words, description=f"{words[0].upper()}{words[1:]}."))
    return parser.parse_args()


def _ports_are_free(services: list[Service], settings: LauncherSettings) -> bool:
    """Whether every service can listen. Prints a line with the variable to change for each one that cannot."""
    free = True
    names = {service.name for service in services}
    for name, variable, bind in settings.binds():
        if name in names and (why := ports.obstacle(*bind)):
            print(f"{name} cannot listen on {bind}: {why}; set {variable} to another address", file=sys.stderr)
            free = False
    return free


async def launch(services: list[Service], settings: LauncherSettings) -> int:
    """Run the stack until a signal, or until no one reads its output."""
    named = instances(services, settings.workers)
    async with Notices(name for name, service in named if service.name == "worker") as notices:
        stack = Stack(settings, notices.told)
        console = Console(sys.stdout, [SELF, *(name for name, _ in named)], on_closed=stack.stop)
        environment = settings.environment(os.environ)
        children = [
            Child(
                name,
                service,
                {MEMBER_NAME: name} | environment | settings.own(name) | notices.environment(name),
                partial(console.line, name),
            )
            for name, service in named
        ]
        _listen_to_signals(stack)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_stop_with_make(stack))
            exit_code = await stack.run(children, console)
            watch.cancel()
    return exit_code


def _listen_to_signals(stack: Stack) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stack.interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        loop.add_signal_handler(signal.SIGHUP, stack.stop)


async def _stop_with_make(stack: Stack) -> None:
    if MADE_BY in os.environ:
        await make_gone()
        stack.stop()


if __name__ == "__main__":
    sys.exit(main())
