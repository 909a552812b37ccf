"""A fleet to be attacked, and what is watched meanwhile: a stream's gaps, the processes' memory, what is left later."""

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

import psutil
import yaml

from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import START, Backend, Fleet, model_entries
from tests.harness.process import Process, end_all
from tests.harness.waiting import wait_until
from tests.schedule import Schedule
from tests.security.attacks import Target
from tests.security.attacks.images import MODELS

MIB = 1024 * 1024
TOKEN = "a-token-for-all-members-of-the-arena"


SETTLES = 25.0
"""Seconds after an attack until everything is as before."""


class Arena(Fleet):
    """A host with a token, a gateway, and one worker that serves good and hostile models, so that all share it."""

    def __init__(self, **settings: str) -> None:
        super().__init__(
            workers=0, settings={"FLEET_TOKEN": TOKEN, "FLEET_LOG_LEVEL": "warning"} | settings, start=False
        )
        self.expects_trouble = True  # whoever is attacked may complain; the tests look at what they promise
        self.hostile = Process("hostile-model", "tests.security.model_server", self.folder, {})
        self._first_workers = 1
        # A worker keeps idle connections for 15 s. No attack has left those, so they must not be waited for.
        self.backend = Backend(self.folder, "--keep-alive", "2")

    @property
    def members(self) -> list[Process]:
        """The processes under attack."""
        return [self.host, *self.workers, *self.gateways]

    def __enter__(self) -> Self:
        self.hostile.start()
        wait_until(lambda: self.hostile.log().endswith("\n"), START, "the hostile model's port")
        models = self.folder / "models.yaml"
        models.write_text(yaml.safe_dump(hostile_entries(self.backend.url, int(self.hostile.log()))))
        self.new_worker(WORKER_MODELS=str(models))
        self._starts = True
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        self.hostile.end()
        super().__exit__(*exc)

    def mend(self) -> None:
        """Make every member alive and idle again, whatever an attack has left behind."""
        if not self.is_whole(within=SETTLES):
            self.renew()

    def renew(self) -> None:
        """Start every member afresh."""
        end_all(self.members)
        for process in self.members:
            process.start()
        assert self.is_whole(within=START), self.logs()

    def is_whole(self, within: float) -> bool:
        """Wait until all is as it was at first; whether it ever is. A chat counts too: a wedged lane does not show."""
        with contextlib.suppress(TimeoutError):
            wait_until(self._looks_whole, within)
            return asyncio.run(self._serves(within))
        return False

    async def _serves(self, within: float) -> bool:
        schedule = Schedule(tokens=3)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.timeout(within):
                assert_complete(await ask(self.address, schedule, model="test"), schedule)
                return True
        return False

    def _looks_whole(self) -> bool:
        alive = all(process.is_alive for process in (*self.members, self.backend.process, self.hostile))
        return alive and self.readiness()[0] == 200 and len(self.ready_workers()) == 1 and self.is_idle()

    @property
    def target(self) -> Target:
        """What its attackers know."""
        return Target(self.address, ("127.0.0.1", self.host_port), ("127.0.0.1", self.relay_port), TOKEN)


def hostile_entries(backend: str, port: int) -> dict[str, object]:
    """``models.yaml`` with models of the hostile server beside those of the test backend."""
    entries = model_entries(backend, "arena")["models"]
    url = f"http://127.0.0.1:{port}"
    openai = entries["test"]
    info = openai["config"]["model_info"]
    configs = {
        "ollama": ("ollama.OllamaChatCompletionClient", {"model": "m", "host": url, "model_info": info}),
        "claude": (
            "anthropic.AnthropicChatCompletionClient",
            {"model": "m", "base_url": url, "api_key": "k", "model_info": info},
        ),
    }
    assert configs.keys() == set(MODELS)
    for name, (provider, config) in configs.items():
        entries[name] = {"provider": f"autogen_ext.models.{provider}", "config": config}
    entries["hostile"] = {**openai, "config": {**openai["config"], "base_url": f"{url}/v1", "model": "hostile"}}
    return {"models": entries}


# ---------------------------------------------------------------- time


class Clock:
    """Notes when this process itself stood still, which no answer can be blamed for."""

    EVERY = 0.005

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    @contextlib.asynccontextmanager
    async def ticking(self) -> AsyncIterator[Self]:
        task = asyncio.create_task(self._tick())
        try:
            yield self
        finally:
            task.cancel()

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + self.EVERY
            await asyncio.sleep(self.EVERY)
            now = time.monotonic()
            if now - due > self.EVERY:
                self._late.append((due, now))

    def discounted(self, start: float, end: float) -> float:
        """Seconds between two moments in which this process ran."""
        lost = sum(max(0.0, min(end, until) - max(start, since)) for since, until in self._late)
        return end - start - lost

    def longest_gap(self, heard_at: Sequence[float]) -> float:
        """Seconds between two moments in a row, at most."""
        return max((self.discounted(*pair) for pair in itertools.pairwise(heard_at)), default=0.0)


# ---------------------------------------------------------------- memory and what else is held


@dataclasses.dataclass
class Held:
    """What a process holds."""

    memory: int
    descriptors: int


def held(process: Process) -> Held:
    """What it holds now; memory is its resident set."""
    found = psutil.Process(process.pid)
    return Held(found.memory_info().rss, found.num_fds())


def peak(process: Process) -> int:
    """Bytes of its largest resident set since its start."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
