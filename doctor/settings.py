"""Settings: where each comes from, and what is wrong with it."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from doctor import processes
from doctor.findings import Finding, counted, note, ok, problem, warning
from doctor.processes import KINDS, PREFIXES, Process
from fleet.settings import FleetSettings, faults, unknown
from gateway.access.keys import KeysError, read_keys
from gateway.settings import GatewaySettings
from host.settings import HostSettings
from worker.settings import WorkerSettings

T = TypeVar("T", bound=BaseSettings)

CLASSES: dict[str, type[BaseSettings]] = {"host": HostSettings, "gateway": GatewaySettings, "worker": WorkerSettings}
try:
    from model.settings import ModelSettings
except ModuleNotFoundError:  # in the fleet's image
    pass
else:
    CLASSES["model"] = ModelSettings

LAUNCHER = ("MODEL_URL",)
"""Variables that ``models.yaml`` reads by itself."""

_SECRET = re.compile(r"TOKEN$|KEY$|SECRET|PASSWORD|CREDENTIAL")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_PARAMETER = re.compile(r"([?&][^=&\s]*(?:key|token|secret|sig|code)[^=&\s]*=)[^&\s]+", re.IGNORECASE)
MASK = "…"


def check(process: Process) -> Iterator[Finding]:
    """The settings of a process, or of this shell for all kinds. Call it in the process's surroundings."""
    if not process.is_readable:
        yield warning(
            f"{process}: its settings cannot be read",
            f"run the doctor as the user of pid {process.pids[0]}, or as root",
        )
        return
    own = (PREFIXES[0], f"{process.kind.upper()}_") if process.kind else PREFIXES
    given = {name: value for name, value in os.environ.items() if name.startswith(own)}
    shown = ", ".join(f"{name}={masked(name, value)}" for name, value in sorted(given.items()))
    yield ok(f"{process}: {shown or 'nothing is set'}; the rest has its default")
    for pid in process.pids:
        if processes.is_stopped(pid):
            yield problem(f"{process.kind}, pid {pid} is stopped and does nothing", f"kill -CONT {pid}")
    kinds = [process.kind] if process.kind else KINDS
    classes: list[type[BaseSettings]] = [FleetSettings, *(CLASSES[kind] for kind in kinds if kind in CLASSES)]
    for cls in classes:
        yield from _faults(cls)
    yield from _refusals(kinds)
    if not process.pids:
        yield from _file_of_compose()


def read(cls: type[T]) -> T | None:
    """The settings here; None if one is wrong."""
    try:
        return cls()
    except ValidationError:
        return None


def masked(name: str, value: str) -> str:
    """A value as it may be shown."""
    if _SECRET.search(name) and value:
        return MASK
    return _PARAMETER.sub(rf"\1{MASK}", _USERINFO.sub(f"{MASK}@", value))


def _faults(cls: type[BaseSettings]) -> Iterator[Finding]:
    try:
        cls()
    except ValidationError as error:
        for fault in faults(cls, error):
            yield problem(fault, "correct the variable; docs/operations.md says what each one takes")
    for name, near in unknown(cls).items():
        if near:
            yield problem(f"{name} is not a setting and is ignored", f"did you mean {near}?")
        elif name not in LAUNCHER:
            yield note(f"{name} is not a setting of chatfleet")


def _refusals(kinds: "tuple[str, ...] | list[str]") -> Iterator[Finding]:
    gateway, host, fleet = read(GatewaySettings), read(HostSettings), read(FleetSettings)
    if "gateway" in kinds and gateway is not None:
        if refusal := gateway.refusal():
            yield problem(*refusal.split("; ", 1))
        if gateway.keys is not None:
            yield _keys(gateway.keys)
    if "host" in kinds and host is not None and fleet is not None and (refusal := host.refusal(bool(fleet.tokens()))):
        yield problem(*refusal.split("; ", 1))


def _keys(path: Path) -> Finding:
    try:
        return ok(f"GATEWAY_KEYS: {path} has {counted(len(read_keys(path)), 'key')}")
    except KeysError as error:
        text, _, advice = str(error).partition("; ")
        return problem(f"GATEWAY_KEYS: {text}", advice or "correct the file; docs/operations.md shows its form")


def _file_of_compose(file: Path = Path(".env")) -> Iterator[Finding]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    names = [line.partition("=")[0].strip() for line in lines if "=" in line and not line.lstrip().startswith("#")]
    if missing := [name for name in names if name not in os.environ]:
        yield note(
            f".env sets {', '.join(missing)} for Docker Compose only",
            "processes that you start here read the environment: set -a; . ./.env; set +a",
        )


def differences(process: Process, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """What this shell sets otherwise than a process that runs: it would count only after a restart."""
    if not process.is_readable:
        return
    own = (PREFIXES[0], f"{process.kind.upper()}_")
    changed = [
        name
        for name, value in sorted(environment.items())
        if name.startswith(own) and process.environment.get(name, "") != value
    ]
    if changed:
        yield note(
            f"{process} runs with other values of {', '.join(changed)} than this shell has",
            "a change of the environment counts after a restart of the process",
        )
