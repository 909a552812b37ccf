"""One process of the stack, in however many lives it takes."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping

from launcher.procfile import Service

# PR_SET_PDEATHSIG (1) with SIGKILL (9): the kernel ends the child when the launcher dies, even by SIGKILL. Asked for by
# the child itself in a moment of its own before it becomes the service, because asking in `preexec_fn` runs Python in a
# fork of a process with threads, which can deadlock. A launcher that died before it could be asked is noticed too.
SHIM = """
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""

LAST_WORDS = 0.5
"""Seconds to wait for output after the end: longer only if a process of the child's own keeps the pipe."""

CHUNK = 64 * 1024
"""Bytes read at once, and the length at which a line without an end is passed on."""


class Child:
    """One process that is kept running: start it with :meth:`live`, end it with :meth:`end`."""

    def __init__(self, name: str, service: Service, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        """``say`` gets each line that it writes."""
        self.name = name
        self.service = service.name
        self.gone = asyncio.Event()
        """Set by the owner once there will be no further life."""
        self._command = service.command
        self._environment = dict(environment)
        self._say = say
        self._process: Process | None = None
        self._ending: signal.Signals | None = None

    async def live(self) -> int:
        """Start it, pass on what it writes, and return its exit code, or minus the number of the signal that ended it.

        It is killed if this is cancelled.
        """
        process = self._process = await self._start()
        try:
            if self._ending is not None:
                self.end(self._ending)
            assert process.stdout is not None
            async with asyncio.TaskGroup() as group:
                talking = group.create_task(self._pass_on(process.stdout))
                code = await process.wait()
                await asyncio.wait([talking], timeout=LAST_WORDS)
                talking.cancel()
            return code
        finally:
            if process.returncode is None:
                self.end(signal.SIGKILL)
                await process.wait()
            self._process = None

    def end(self, by: signal.Signals) -> None:
        """Send ``by`` to this life and to any that is just beginning. SIGKILL takes the child's own children along."""
        self._ending = by
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if by == signal.SIGKILL:
                os.killpg(self._process.pid, by)
            else:
                self._process.send_signal(by)

    async def _start(self) -> Process:
        shim = [sys.executable, "-ISc", SHIM, str(os.getpid())] if sys.platform == "linux" else []
        # A session of its own, so that Ctrl-C at the terminal reaches the launcher and nobody else.
        return await asyncio.create_subprocess_exec(
            *shim,
            *self._command,
            env=self._environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )

    async def _pass_on(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await output.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= CHUNK:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._say(line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._say(rest.decode(errors="replace"))


def ending(code: int) -> str:
    """What an exit code says, for people."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
