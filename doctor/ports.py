"""Ports of this machine: what listens there, and whether it is what should."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from doctor import processes
from doctor.findings import Finding, note, ok, problem
from doctor.processes import Process
from doctor.settings import CLASSES, read
from fleet.process import ports
from fleet.settings import HostPort
from gateway.settings import GatewaySettings
from host.settings import HostSettings
from worker.settings import WorkerSettings

TIMEOUT = 3.0
LIMIT = 1 << 24
"""Bytes of an answer that are read: whatever has the port may send for ever."""
HEALTH = "health service"
"""Of a host or a worker."""
PROXIED = "gateway behind a proxy"
"""Its port for proxies answers nobody without their header."""
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str, key: str = "") -> tuple[int, Any, dict[str, str]]:
    """Status, JSON (or None) and headers of an answer. Raises ``OSError`` if there is none."""
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    status, body, headers = _get(url, headers)
    return status, _json(body), headers


def read_text(url: str) -> str:
    """The body of a whole answer. Raises ``OSError``."""
    status, body, _ = _get(url, {})
    if status != 200:
        raise OSError(f"it answers {status}")
    return body.decode(errors="replace")


def _get(url: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    try:
        with _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:  # noqa: S310
            return answer.status, answer.read(LIMIT), dict(answer.headers)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read(LIMIT), dict(answer.headers)
    except urllib.error.URLError as error:
        raise OSError(error.reason if isinstance(error.reason, str) else str(error.reason)) from None
    except OSError:
        raise
    except (http.client.HTTPException, ValueError) as error:  # no HTTP
        raise OSError(f"it sent {str(error).strip()[:100]!r}") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def binds(process: Process) -> list[tuple[str, str, HostPort]]:
    """Where a process listens: its kind, the setting and the address. Call it in the process's surroundings."""
    found: list[tuple[str, str, HostPort]] = []
    wanted = [process.kind] if process.kind else ["host", "gateway", "model"]
    if "gateway" in wanted and (gateway := read(GatewaySettings)):
        found.append(("gateway", "GATEWAY_BIND", gateway.bind))
        if gateway.proxy_bind:
            found.append((PROXIED, "GATEWAY_PROXY_BIND", gateway.proxy_bind))
    if "host" in wanted and (host := read(HostSettings)):
        found.append(("host", "HOST_BIND", host.bind))
        if host.relay.port:
            found.append(("relay", "HOST_RELAY_BIND", host.relay))
        if host.health_bind:
            found.append((HEALTH, "HOST_HEALTH_BIND", host.health_bind))
    if "worker" in wanted and (worker := read(WorkerSettings)) and worker.health_bind:
        found.append((HEALTH, "WORKER_HEALTH_BIND", worker.health_bind))
    if "model" in wanted and "model" in CLASSES and (model := read(CLASSES["model"])):
        found.append(("model", "MODEL_BIND", model.bind))  # type: ignore[attr-defined]
    return found


def check(kind: str, setting: str, bind: HostPort, is_expected: bool) -> Finding:
    """What is at an address where a process of this ``kind`` listens, or is to listen."""
    obstacle = ports.obstacle(*bind)
    where = f"{kind} at {bind}"
    owners = processes.owners(bind.port) if obstacle else []
    if not obstacle:
        if is_expected:
            return problem(f"{where}: the process runs, but nothing listens there", "see its log; it may still begin")
        return note(f"{where}: free; nothing runs there")
    if "is taken" not in obstacle:
        return problem(f"{setting}: {bind} cannot be used: {obstacle}", f"set {setting} to an address of this machine")
    who = f" ({', '.join(owners)})" if owners else ""
    if why := _is_other(kind, bind.reachable, owners):
        if any(f"-m {setting.partition('_')[0].lower()} " in owner for owner in owners):
            advice = "it hangs, or begins: see its log and its CPU; else end it"
            return problem(f"{where}: {owners[0]} has the port, but {why}", advice)
        return problem(f"{where}: port {bind.port} is taken{who}, and {why}", f"end that, or set {setting} to another")
    return ok(f"{where}: answers{who}")


def is_gateway(address: HostPort) -> bool:
    return not _is_other("gateway", address, [])


def _is_other(kind: str, address: HostPort, owners: Sequence[str]) -> str:
    """Why what listens there is no process of this kind; empty if it may be one."""
    paths = {"gateway": "/", HEALTH: "/healthz", "model": "/health"}
    if kind not in paths:  # how the host answers is seen by joining it
        owner, program = " ".join(owners), "gateway" if kind == PROXIED else "host"
        return f"it is not the {program}" if owner and f"-m {program}" not in owner else ""
    try:
        status, body, _ = fetch(f"http://{address}{paths[kind]}")
    except OSError as error:
        return f"it does not answer HTTP: {error}"
    if kind == "gateway" and not (isinstance(body, dict) and body.get("service") == "chatfleet"):
        return "it is no gateway of chatfleet"
    return "" if status == 200 else f"it answers {status}"


def all_of(processes_here: list[Process], of_shell: Process) -> Iterator[Finding]:
    """The ports of what runs here, and those where something could run."""
    kinds = {process.kind for process in processes_here}
    for process in (*processes_here, of_shell):
        with process.surroundings():
            found = binds(process) if process.is_readable else []
        for kind, setting, bind in found:
            if process.pids or setting.partition("_")[0].lower() not in kinds:
                yield check(kind, setting, bind, is_expected=bool(process.pids))
