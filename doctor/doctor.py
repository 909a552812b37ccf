"""Prints what is found, section by section. The exit code is 1 if something is wrong."""

import argparse
import asyncio
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from doctor import certificates, host, link, machine, members, models, ports, processes, settings
from doctor.findings import Finding, Level, counted, note, problem
from fleet.settings import FleetSettings
from gateway.settings import GatewaySettings

IDENTITIES = Path("identities")


class Doctor:
    def __init__(self, gateways: Sequence[str], key: str) -> None:
        self._gateways = [url.rstrip("/") for url in gateways]
        self._key = key
        self._shell = processes.shell()
        found = processes.find()
        self._here = found.here
        self._others = found.others
        self._views = [process for process in self._here if process.is_readable] or [self._shell]

    def sections(self) -> Iterator[tuple[str, Iterator[Finding]]]:
        yield "this machine", machine.check()
        yield "settings", self._settings()
        yield "certificates and tokens", self._certificates()
        yield "ports", ports.all_of(self._here, self._shell)
        yield "the host", self._links()
        yield "gateways and workers", self._members()
        yield "models and agents", self._models()

    def _settings(self) -> Iterator[Finding]:
        for process in (*self._here, self._shell):
            with process.surroundings():
                yield from list(settings.check(process))
        for process in self._here:
            yield from settings.differences(process)
        if self._others:
            pids = [pid for process in self._others for pid in process.pids]
            hosts = {processes.host_port(process.environment) for process in self._others}
            text = f"{len(pids)} processes of other fleets run here, with hosts at the ports {', '.join(sorted(hosts))}"
            yield note(text, "to look at one of them, set FLEET_HOST as it has it")

    def _certificates(self) -> Iterator[Finding]:
        for process in self._views:
            with process.surroundings():
                if (fleet := settings.read(FleetSettings)) is not None:
                    yield from list(certificates.of_process(fleet, str(process), process.kind))
        yield from certificates.of_folder(IDENTITIES)

    def _links(self) -> Iterator[Finding]:
        for process in self._views:
            with process.surroundings():
                fleet = settings.read(FleetSettings)
                if process.kind == "host":
                    yield from list(host.check())
                if fleet is not None and process.kind in ("gateway", "worker", ""):
                    yield from asyncio.run(link.check(fleet, process, bool(self._here)))

    def _members(self) -> Iterator[Finding]:
        urls = list(self._gateways)
        for process in [process for process in self._views if process.kind in ("gateway", "")]:
            with process.surroundings():
                if (gateway := settings.read(GatewaySettings)) is not None:
                    address = gateway.bind.reachable
                    if process.kind or ports.is_gateway(address):
                        urls.append(f"http://{address}")
        urls = list(dict.fromkeys(urls))
        if urls:
            yield from members.check(urls, self._key, self._here)
        elif self._here:
            yield note("no gateway runs here", "ask one elsewhere: --gateway http://HOST:PORT")
        else:
            yield note(
                "no gateway runs here, so nobody tells who is in the fleet", "start one, or name one with --gateway URL"
            )

    def _models(self) -> Iterator[Finding]:
        workers = [process for process in self._views if process.kind == "worker"]
        if not workers and self._here:
            yield note("no worker runs here", "models and agents are looked at where workers run")
            return
        for process in workers or [self._shell]:
            with process.surroundings():
                yield from list(models.check(process))


def show(sections: Iterable[tuple[str, Iterable[Finding]]]) -> int:
    """Print the sections as they are found. Returns the exit code."""
    counts = dict.fromkeys(Level, 0)
    for title, findings in sections:
        print(title, flush=True)
        for finding in _to_the_end(findings):
            counts[finding.level] += 1
            print(finding, flush=True)
    wrong, doubtful = counts[Level.PROBLEM], counts[Level.WARNING]
    if wrong:
        print(f"\n{counted(wrong, 'problem')} (FAIL), {counted(doubtful, 'warning')} (WARN). Begin with the first.")
    else:
        print(f"\nNothing is wrong; {counted(doubtful, 'warning')}.")
    return 1 if wrong else 0


def _to_the_end(findings: Iterable[Finding]) -> Iterator[Finding]:
    """A defect of the doctor's own ends its section, not the sections that follow."""
    try:
        yield from findings
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"the rest of this section could not be looked at: {type(error).__name__}: {error}"
        yield problem(text, f"report it, with this place: {place.filename}:{place.lineno}")


def run(given: argparse.Namespace) -> int:
    """The exit code, for these arguments: see :mod:`doctor.arguments`."""
    key = ""
    if given.key_file is not None:
        try:
            key = given.key_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            print(problem(f"--key-file {given.key_file}: {error}", "name a file that holds one key"), file=sys.stderr)
            return 2
    return show(Doctor(given.gateway, key).sections())
