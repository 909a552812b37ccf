"""All processes of the Procfile: started together, kept running, stopped together."""

import asyncio
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress

from fleet.process import probe
from fleet.settings import BAD_SETTINGS, HostPort
from launcher.child import Child, describe_exit
from launcher.console import Console
from launcher.settings import LauncherSettings, reachable

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

READY = """
Ready: {url} with {workers} (Ctrl-C ends everything).{remark} Try:

  curl -N {url}/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"messages":[{{"source":"user","content":"Hello! Who are you?"}}]}}'
"""

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

    def __init__(self, settings: LauncherSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._interrupted = False
        self._exit_code = 0
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
        while not await self._is_ready():  # noqa: ASYNC110 (other processes set no event)
            await asyncio.sleep(POLL_INTERVAL)
        workers = services.count("worker")
        remark = ""
        if "model" in services and not self._model_runs:
            remark = " The model `smollm2` is not available."
        elif self._model_runs and "workers" in self._settings.model_fields_set:
            remark = SHARED.format(slots=self._settings.model_slots)
        console.plain(
            READY.format(
                url=f"http://{reachable(self._settings.gateway_bind)}",
                workers="1 worker" if workers == 1 else f"{workers} workers",
                remark=remark,
            )
        )

    async def _is_ready(self) -> bool:
        if not await _answers(reachable(self._settings.gateway_bind), "/readyz"):
            return False
        return not self._model_runs or await _answers(reachable(self._settings.model_bind), "/health")

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
