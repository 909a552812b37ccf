"""Takes in changed files while the worker runs.

What is unchanged is left alone. What has changed or is gone serves the runs that it has, and ends with the last.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from fleet import logs
from fleet.process import files
from worker.agents.threads import ToolThreads
from worker.serving.loaded import Loaded, LoadError, Part, end, load_all, read_models
from worker.serving.offers import Offers
from worker.serving.registry import Registry
from worker.serving.sources import Sources
from worker.settings import WorkerSettings

log = logs.logger(__name__)


class Reload:
    """Reads the files again when they have changed, and gives the registry new offers. ``changed`` is called then.

    What cannot be used is logged once and changes nothing.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        sources: Sources,
        loaded: Loaded,
        offers: Offers,
        registry: Registry,
        group: asyncio.TaskGroup,
        changed: Callable[[], object],
    ) -> None:
        self.loaded = loaded
        self._settings = settings
        self._offers = offers
        self._registry = registry
        self._group = group
        self._changed = changed
        self._sources = sources
        sources.name(loaded.roster.files)
        self._thread = ToolThreads(1)
        self._has_agents = settings.agents.exists()
        self._replaced: set[Path] = set()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(files.RELOAD_EVERY)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the files again if they have changed."""
        loop = asyncio.get_running_loop()
        stamp = await loop.run_in_executor(self._thread, self._sources.found)
        self._warn_of_mounts(await loop.run_in_executor(self._thread, self._sources.orphans))
        if stamp is None or self._registry.draining:
            return
        code = await loop.run_in_executor(self._thread, self._sources.code.found)
        try:
            with self._sources.code.fresh() if code is not None else nullcontext():
                loaded = await self._load()
        except LoadError as error:
            if self._sources.refuse(str(error), stamp):
                log.error("not reloaded", reason=str(error))
            if error.named:  # one of them may be what is wrong, or not there yet
                self._sources.name(error.named)
            return
        except Exception as error:  # what runs must not end with it
            if self._sources.refuse(repr(error), stamp):
                log.error("not reloaded", exc_info=error)
            return
        if code is not None:
            self._sources.code.accept(code)
        is_over = self._sources.accept(stamp)
        self._sources.name(loaded.roster.files)
        self._take(loaded, is_over)

    async def _load(self) -> Loaded:
        settings, before = self._settings, self.loaded
        if self._has_agents and not settings.agents.exists():
            raise LoadError(f"WORKER_AGENTS: {settings.agents}: is gone; to serve no agents, write `agents: {{}}`")
        # In a thread: making a client loads certificates, which takes a while.
        read = partial(read_models, settings, self._sources.secrets, before.models)
        models = await asyncio.get_running_loop().run_in_executor(self._thread, read)
        return await load_all(settings, models, before.roster)

    def _take(self, loaded: Loaded, is_over: bool) -> None:
        """``is_over`` is whether a problem with the files was told before."""
        before, self.loaded = self.loaded, loaded
        self._has_agents = self._settings.agents.exists()
        changes = loaded.changes(before)
        kept = {id(part) for part in loaded.parts}
        former = [part for part in before.parts if id(part) not in kept]
        self._registry.serve(self._offers.make(loaded.models, loaded.roster))
        self._group.create_task(self._retire(former, self._registry.tasks()))
        for place, problem in loaded.roster.problems.items():
            if before.roster.problems[place] != problem:
                log.warning("agent not served", reason=problem)
        if any(changes.values()) or is_over:
            log.info("reloaded", **changes, capacity=self._registry.capacity)
            self._changed()

    async def _retire(self, former: Iterable[Part], runs: list[asyncio.Task[None]]) -> None:
        """End what only ``runs``, which have begun before, may still use."""
        if runs:
            await asyncio.wait(runs)
        await end(former)

    def _warn_of_mounts(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path not in self._replaced:
                self._replaced.add(path)
                log.warning("a file was replaced outside its mount", path=str(path))
