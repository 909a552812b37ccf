"""One process of the stack. It may be started several times."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping

from launcher.procfile import Service

# PR_SET_PDEATHSIG (1) with SIGKILL (9): the kernel kills the child when the launcher dies, even by SIGKILL. The child
# asks for it before it becomes the service, because `preexec_fn` would run Python in a fork of a process with threads,
# which can deadlock. The last check is for a launcher that died before.
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

LAST_OUTPUT = 0.5
"""Seconds to wait for output after the exit. It ends later only if a grandchild keeps the pipe open."""

CHUNK = 64 * 1024
"""Bytes of one read. A line of this length is passed on before its end is seen."""


class Child:
    """A process that can be started again: :meth:`run` is one life of it, :meth:`send` ends that life."""

    def __init__(self, name: str, service: Service, environment: Mapping[str, str], log: Callable[[str], None]) -> None:
        """``log`` gets each line that the process writes."""
        self.name = name
        self.service = service.name
        self.gone = asyncio.Event()
        """Set by the owner when the process will not be started again."""
        self.last_line = ""
        """The last that it wrote, which is why it ended if it ended by itself."""
        self._command = service.command
        self._environment = dict(environment)
        self._pass = log
        self._process: Process | None = None
        self._sent: signal.Signals | None = None

    async def run(self) -> int:
        """Start it, pass on its output and return its exit code, or minus the number of the signal that ended it.

        Cancelling kills it.
        """
        process = self._process = await self._start()
        try:
            if self._sent is not None:
                self.send(self._sent)
            assert process.stdout is not None
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._pass_on(process.stdout))
                code = await process.wait()
                await asyncio.wait([reading], timeout=LAST_OUTPUT)
                reading.cancel()
            return code
        finally:
            if process.returncode is None:
                self.send(signal.SIGKILL)
                await process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, also if it is just being started. SIGKILL goes to its own children as well."""
        self._sent = number
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    async def _start(self) -> Process:
        shim = [sys.executable, "-ISc", SHIM, str(os.getpid())] if sys.platform == "linux" else []
        # In a session of its own, so that Ctrl-C in the terminal reaches only the launcher.
        return await asyncio.create_subprocess_exec(
            *shim,
            *self._command,
            env=self._environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )

    def _log(self, line: str) -> None:
        self.last_line = line
        self._pass(line)

    async def _pass_on(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await output.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= CHUNK:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._log(line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._log(rest.decode(errors="replace"))


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
