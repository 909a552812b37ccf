"""Who hears whom: what each gateway tells of itself, of the workers and of their models."""

import email.utils
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doctor.findings import Finding, note, ok, problem, warning
from doctor.ports import fetch
from doctor.processes import Process
from fleet.process.version import VERSION

SILENT = "is its machine overloaded, its network cut, or the process stopped? See its log and `lost the host`"
NO_WORKER = "start one: python -m worker; if one runs, its log says why it cannot join"
CLOCKS, FAR_CLOCKS = 5.0, 60.0
"""Seconds by which clocks may differ, and from which on certificates and keys are at risk."""


def check(urls: Sequence[str], key: str, here: Sequence[Process]) -> Iterator[Finding]:
    """What the gateways at these addresses say. ``here`` are the processes of this machine."""
    seen: dict[str, dict[str, Any]] = {}
    for url in urls:
        yield from _gateway(url, key, seen)
    if len(seen) > 1:
        yield from _compared(seen)
    for url, fleet in seen.items():
        yield from _workers(url, fleet, here)
        yield from _models(fleet)
        break  # one after the comparison is enough
    yield from _versions(seen)


def _gateway(url: str, key: str, seen: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    try:
        status, ready, headers = fetch(f"{url}/readyz", key)
    except OSError as error:
        yield problem(f"the gateway at {url} does not answer: {error}", "does it run? Its log says why it ended")
        return
    if status == 200:
        yield ok(f"the gateway at {url} is ready")
    else:
        reason = str(ready.get("reason", "")) if isinstance(ready, dict) else ""
        yield problem(f"the gateway at {url} is not ready: {reason or status}", _advice(reason))
    yield from _clock(url, headers)
    status, fleet, _ = fetch(f"{url}/fleet", key)
    if status in (401, 403):
        advice = "name a file that holds a key of a client: --key-file FILE"
        yield note(f"the gateway at {url} tells who is in the fleet only to those who have a key", advice)
    elif status == 200 and isinstance(fleet, dict) and fleet.keys() >= {"gateway", "workers"}:
        seen[url] = fleet
    else:
        yield problem(f"{url}/fleet answers {status}", "is it a gateway of this version?")


def _advice(reason: str) -> str:
    if "no worker" in reason:
        return NO_WORKER
    if "link" in reason:
        return "see `cannot join the host` in its log, and the findings about the host above"
    return "docs/runbook.md, 503"


def _clock(url: str, headers: Mapping[str, str]) -> Iterator[Finding]:
    told = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        behind = time.time() - email.utils.parsedate_to_datetime(told).timestamp()
    except (TypeError, ValueError):
        return
    if abs(behind) > CLOCKS:
        text = f"the clock of {url} and the one here differ by {abs(behind):.0f} s"
        advice = "synchronise both: timedatectl set-ntp true"
        yield (problem if abs(behind) > FAR_CLOCKS else warning)(text, advice)


def _workers(url: str, fleet: Mapping[str, Any], here: Sequence[Process]) -> Iterator[Finding]:
    workers = fleet.get("workers", [])
    for worker in workers:
        name, state, heard = worker["id"], worker["state"], worker.get("heard_seconds_ago", 0)
        text = f"worker {name}: {state}, {worker['active']} of {worker['capacity']} runs, heard {heard:.1f} s ago"
        if state == "READY":
            yield ok(f"{text}, serves {', '.join(worker['models'])}")
        elif state == "DRAINING":
            yield note(text, "it leaves when its runs have ended")
        else:
            yield problem(text, SILENT)
    for gateway in fleet.get("other_gateways") or ():
        yield ok(f"gateway {gateway.get('id')} is heard too (version {gateway.get('version')})")
    local = sum(len(process.pids) for process in here if process.kind == "worker")
    if local > len(workers):
        run = "worker runs" if local == 1 else "workers run"
        yield problem(f"{local} {run} here, and the gateway at {url} hears {len(workers)}", NO_WORKER)
    queue = fleet.get("queue", {})
    if queue.get("oldest_seconds", 0) > CLOCKS:
        text = f"{queue.get('waiting')} requests wait, the oldest for {queue['oldest_seconds']:.0f} s"
        yield warning(text, "docs/runbook.md, 429: more workers, or more concurrency where the model has room")


def _models(fleet: Mapping[str, Any]) -> Iterator[Finding]:
    models = fleet.get("models") or {}
    for name, model in models.items():
        state, code = model.get("state", "healthy"), model.get("code", "")
        text = f"model {name}: {state}" + (f", {code} for {model.get('failing_seconds', 0):.0f} s" if code else "")
        if state == "healthy":
            yield ok(text)
        elif state == "failing":
            yield problem(text, f"docs/runbook.md has the code {code}; the workers' `chat failed` has the reason")
        elif state == "absent":
            yield warning(text, "no worker that is ready serves it: look at the workers above")
        else:
            yield warning(text, "some workers cannot serve it: see `chat failed` and `agent not served` in their logs")


def _compared(seen: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    ready = {
        url: {worker["id"] for worker in fleet["workers"] if worker["state"] == "READY"} for url, fleet in seen.items()
    }
    everybody = set().union(*ready.values())
    for url, workers in ready.items():
        if missing := sorted(everybody - workers):
            text = f"the gateway at {url} does not hear {', '.join(missing)}, which another gateway hears"
            yield problem(text, "are all in one fleet (FLEET_HOST)? Look at the links of both in their logs")
    if everybody and all(workers == everybody for workers in ready.values()):
        yield ok(f"{len(ready)} gateways hear the same {len(everybody)} workers")


def _versions(seen: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    versions = {
        member.get("version", "")
        for fleet in seen.values()
        for member in (fleet["gateway"], *fleet["workers"], *(fleet.get("other_gateways") or ()))
    } - {""}
    if not versions:
        return
    if versions == {VERSION}:
        yield ok(f"every member is of version {VERSION}, as this tree")
    else:
        text = f"members are of the versions {', '.join(sorted(versions))}, this tree is {VERSION}"
        yield warning(text, "finish the upgrade: the host first, then workers and gateways (docs/operations.md)")
