"""All processes of the Procfile: started together, kept running, ended together."""

import asyncio
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress

from fleet.settings import BAD_SETTINGS
from launcher.child import Child, ending
from launcher.console import Console
from launcher.ports import http_status
from launcher.settings import LauncherSettings, reachable

SELF = "fleet"
"""The launcher's own name in front of its lines."""

MODEL_UNAVAILABLE = 3
"""Exit code of ``python -m model`` where it cannot run; the same as ``model.UNAVAILABLE``, which is not imported."""

LEAVE_FIRST = ("gateway", "worker")
"""They finish their chats, for which they need the others."""

EDGES_END = 3.0
FINISH_BY = 4.5
"""Seconds after the signal: when those who are needed are told to end, and when whoever still runs is killed."""

LOOK_EVERY = 0.1
"""Seconds between two looks whether all is ready."""

READY = """
Ready: {url} with {workers} (Ctrl-C ends everything).{remark} Try:

  curl -N {url}/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"messages":[{{"source":"user","content":"Hello! Who are you?"}}]}}'
"""


class Backoff:
    """Seconds to wait before the next life: 1 doubling to 30, and 1 again after a life of a minute."""

    FIRST, LONGEST, LONG_LIFE = 1.0, 30.0, 60.0

    def __init__(self) -> None:
        self._next = self.FIRST

    def after(self, lived: float) -> float:
        """The wait after a life of ``lived`` seconds."""
        delay = self.FIRST if lived >= self.LONG_LIFE else self._next
        self._next = min(self.LONGEST, delay * 2)
        return delay


class Stack:
    """The running whole, from :meth:`run` to :meth:`stop`."""

    def __init__(self, settings: LauncherSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._interrupted = False
        self._exit_code = 0
        self._model_runs = False
        self._children: Sequence[Child] = ()

    async def run(self, children: Sequence[Child], console: Console) -> int:
        """Start ``children`` and keep them running until :meth:`stop`. Returns the exit code of the whole."""
        self._children = children
        self._model_runs = any(child.service == "model" for child in children)
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(self._keep(child, console))
            announcing = group.create_task(self._announce(console))
            await self._stopping.wait()
            announcing.cancel()
            await self._end(console)
        return self._exit_code

    def stop(self) -> None:
        """End everything within five seconds."""
        self._stopping.set()

    def interrupt(self) -> None:
        """:meth:`stop` on behalf of a person; at once if they ask again."""
        if self._interrupted:
            _tell(self._children, signal.SIGKILL)
        self._interrupted = True
        self.stop()

    async def _keep(self, child: Child, console: Console) -> None:
        """One life of ``child`` after the other."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                began = clock()
                code = await child.live()
                if self._stopping.is_set() or not self._may_return(child, code, console):
                    return
                delay = backoff.after(clock() - began)
                console.line(SELF, f"{child.name} ended with {ending(code)}; starting it again in {delay:g} s")
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
        finally:
            child.gone.set()

    def _may_return(self, child: Child, code: int, console: Console) -> bool:
        """Whether another life of ``child`` makes sense; if not, what follows is done here."""
        if code == BAD_SETTINGS:
            console.line(SELF, f"{child.name} ended with {ending(code)}: its settings are wrong; ending the others")
            self._exit_code = BAD_SETTINGS
            self.stop()
            return False
        if child.service == "model" and code == MODEL_UNAVAILABLE:
            console.line(SELF, f"{child.name} ended with {ending(code)}: it cannot run here; the rest goes on")
            self._model_runs = False
            return False
        return True

    async def _announce(self, console: Console) -> None:
        """Say once that all is ready, and what to do with it."""
        services = [child.service for child in self._children]
        if "gateway" not in services:
            return
        ready = False
        while not ready:
            await asyncio.sleep(LOOK_EVERY)
            ready = await self._is_ready()
        workers = services.count("worker")
        absent = "model" in services and not self._model_runs
        console.plain(
            READY.format(
                url=f"http://{reachable(self._settings.gateway_bind)}",
                workers="1 worker" if workers == 1 else f"{workers} workers",
                remark=" The model `smollm2` is not available." if absent else "",
            )
        )

    async def _is_ready(self) -> bool:
        if await http_status(reachable(self._settings.gateway_bind), "/readyz") != 200:
            return False
        return not self._model_runs or await http_status(reachable(self._settings.model_bind), "/health") == 200

    async def _end(self, console: Console) -> None:
        """SIGTERM to those whose chats need the others, then to the others; SIGKILL to whoever does not end."""
        began = asyncio.get_running_loop().time()
        console.line(SELF, "ending")
        edges = [child for child in self._children if child.service in LEAVE_FIRST]
        _tell(edges, signal.SIGTERM)
        await _gone(edges, began + EDGES_END)
        _tell([child for child in self._children if child.service not in LEAVE_FIRST], signal.SIGTERM)
        await _gone(self._children, began + FINISH_BY)
        late = [child for child in self._children if not child.gone.is_set()]
        if late:
            console.line(SELF, f"killing {', '.join(child.name for child in late)}")
            _tell(late, signal.SIGKILL)


def _tell(children: Iterable[Child], what: signal.Signals) -> None:
    for child in children:
        child.end(what)


async def _gone(children: Iterable[Child], until: float) -> None:
    """Wait until all have gone, or until the loop's clock says ``until``."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            for child in children:
                await child.gone.wait()
