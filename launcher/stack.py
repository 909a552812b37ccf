"""All processes of the Procfile: started together, kept running, stopped together."""

import asyncio
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress

from fleet.process import probe
from fleet.settings import BAD_SETTINGS, HostPort
from launcher.child import Child, describe_exit
from launcher.console import Console
from launcher.settings import LauncherSettings

SELF = "fleet"
"""The launcher's own name in front of its lines."""

MODEL_UNAVAILABLE = 3
"""Exit code of ``python -m model`` where it cannot run. Equals ``model.UNAVAILABLE``, which we do not import."""

EDGES = ("gateway", "worker")
"""These stop first, because finishing their chats takes the others."""

EDGES_STOP = 3.0
KILL_AFTER = 4.5
"""Seconds after the signal: when the other processes are told to stop, and when those that still run are killed."""

POLL_INTERVAL = 0.1
ANSWER_TIMEOUT = 1.0
"""Seconds between two checks whether the stack is ready, and for the answer to one."""

QUIET, MOST_WAITS = 0.3, 10
"""Seconds without output until the stack is announced, so that this stands below all the rest; how often to wait."""

REMIND_EVERY = 15.0
"""Seconds until the user is told what is not ready yet, again and again."""

READY = """
Ready: {url} with {workers}, serving {served}.{remark}
Ctrl-C ends what was started here: {names}. Try:

  curl -N {url}/chat/completions -H 'Content-Type: application/json' \\{key}
    -d '{{"messages":[{{"source":"user","content":"Hello! Who are you?"}}]}}'
"""
KEY = "\n    -H 'Authorization: Bearer KEY' \\"
"""``make run`` with ``GATEWAY_KEYS``: the keys themselves are known to their users alone."""

SHARED = "\nThe model `smollm2` makes {slots} replies at once (MODEL_SLOTS), however many workers there are."


class Backoff:
    """Seconds to wait before the next start: 1 doubling to 30, and 1 again after a process ran for a minute."""

    FIRST, LAST, LONG_RUN = 1.0, 30.0, 60.0

    def __init__(self) -> None:
        self._next = self.FIRST

    def after(self, ran: float) -> float:
        delay = self.FIRST if ran >= self.LONG_RUN else self._next
        self._next = min(self.LAST, delay * 2)
        return delay


class Stack:
    """Runs the processes from :meth:`run` to :meth:`stop`."""

    def __init__(self, settings: LauncherSettings, told: dict[str, str]) -> None:
        """``told`` has what each worker said when it was ready: see :class:`launcher.notices.Notices`."""
        self._settings = settings
        self._told = told
        self._stopping = asyncio.Event()
        self._interrupted = False
        self._exit_code = 0
        self._failure = ""
        self._model_runs = False
        self._children: Sequence[Child] = ()

    async def run(self, children: Sequence[Child], console: Console) -> int:
        """Start ``children`` and keep them running until :meth:`stop`. Returns the launcher's exit code."""
        self._children = children
        self._model_runs = any(child.service == "model" for child in children)
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(self._keep_running(child, console))
            announcing = group.create_task(self._announce(console))
            await self._stopping.wait()
            announcing.cancel()
            await self._stop_all(console)
        if self._failure:
            console.line(SELF, self._failure)
        return self._exit_code

    def stop(self) -> None:
        """Stop everything within five seconds."""
        self._stopping.set()

    def interrupt(self) -> None:
        """:meth:`stop` at the first call; kill everything at the second."""
        if self._interrupted:
            _send(self._children, signal.SIGKILL)
        self._interrupted = True
        self.stop()

    async def _keep_running(self, child: Child, console: Console) -> None:
        clock = asyncio.get_running_loop().time
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                began = clock()
                self._told.pop(child.name, None)
                code = await child.run()
                if self._stopping.is_set() or not self._may_restart(child, code, console):
                    return
                delay = backoff.after(clock() - began)
                console.line(SELF, f"{child.name} ended with {describe_exit(code)}; starting it again in {delay:g} s")
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
        finally:
            child.gone.set()

    def _may_restart(self, child: Child, code: int, console: Console) -> bool:
        """Whether starting ``child`` again can help. If not, logs why, and stops the stack if that cannot go on."""
        ended = f"{child.name} ended with {describe_exit(code)}"
        if code == BAD_SETTINGS:
            console.line(SELF, f"{ended}: its settings are wrong; ending the others")
            self._exit_code = BAD_SETTINGS
            self._failure = f"nothing runs, because a setting of {child.name} is wrong. Correct it and start again: "
            self._failure += child.last_line
            self.stop()
            return False
        if child.service == "model" and code == MODEL_UNAVAILABLE:
            console.line(SELF, f"{ended}: it cannot run here; the rest goes on")
            self._model_runs = False
            return False
        return True

    async def _announce(self, console: Console) -> None:
        services = [child.service for child in self._children]
        if "gateway" not in services:
            return
        await self._until_ready(console)
        names = [child.name for child in self._children if child.service != "model" or self._model_runs]
        workers = services.count("worker")
        served = dict.fromkeys(self._told[child.name] for child in self._workers if child.name in self._told)
        console.plain(
            READY.format(
                url=f"http://{self._settings.gateway_bind.reachable}",
                workers="1 worker" if workers == 1 else f"{workers} workers",
                served="; ".join(served) or "what other workers serve",
                remark=self._remark() if "model" in services else "",
                names=", ".join(names),
                key=KEY if os.environ.get("GATEWAY_KEYS") else "",
            )
        )

    async def _until_ready(self, console: Console) -> None:
        clock = asyncio.get_running_loop().time
        remind_at = clock() + REMIND_EVERY
        while missing := await self._missing():
            if clock() >= remind_at:
                console.line(SELF, f"not ready yet: {', '.join(missing)}")
                remind_at = clock() + REMIND_EVERY
            await asyncio.sleep(POLL_INTERVAL)
        await _quiet(console)
        if await self._missing():  # one has died meanwhile
            await self._until_ready(console)

    def _remark(self) -> str:
        """What to know of the embedded model, or that it is missing."""
        if not self._model_runs:
            return " The model `smollm2` is not available."
        more = "workers" in self._settings.model_fields_set
        return SHARED.format(slots=self._settings.model_slots) if more else ""

    @property
    def _workers(self) -> list[Child]:
        return [child for child in self._children if child.service == "worker"]

    async def _missing(self) -> list[str]:
        """What is not ready yet."""
        missing = [child.name for child in self._workers if child.name not in self._told]
        if self._model_runs and not await _answers(self._settings.model_bind.reachable, "/health"):
            missing.append("model")
        if not missing and not await _answers(self._settings.gateway_bind.reachable, "/readyz"):
            missing.append("gateway")
        return missing

    async def _stop_all(self, console: Console) -> None:
        """SIGTERM to gateways and workers, then to the others; SIGKILL to those that do not stop."""
        began = asyncio.get_running_loop().time()
        console.line(SELF, "ending")
        edges = [child for child in self._children if child.service in EDGES]
        _send(edges, signal.SIGTERM)
        await _wait_gone(edges, began + EDGES_STOP)
        _send([child for child in self._children if child.service not in EDGES], signal.SIGTERM)
        await _wait_gone(self._children, began + KILL_AFTER)
        late = [child for child in self._children if not child.gone.is_set()]
        if late:
            console.line(SELF, f"killing {', '.join(child.name for child in late)}")
            _send(late, signal.SIGKILL)


async def _quiet(console: Console) -> None:
    """Wait until nothing more is said about the start."""
    for _ in range(MOST_WAITS):
        lines = console.lines
        await asyncio.sleep(QUIET)
        if console.lines == lines:
            return


async def _answers(address: HostPort, path: str) -> bool:
    try:
        return await asyncio.to_thread(probe.status, f"http://{address}{path}", ANSWER_TIMEOUT) == 200
    except (OSError, ValueError):
        return False


def _send(children: Iterable[Child], number: signal.Signals) -> None:
    for child in children:
        child.send(number)


async def _wait_gone(children: Iterable[Child], until: float) -> None:
    """Wait until all are gone, or until the loop's clock reads ``until``."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            for child in children:
                await child.gone.wait()
