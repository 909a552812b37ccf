"""``python -m worker``: serves models to the fleet until SIGTERM or SIGINT; a second signal ends it at once."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, suppress
from typing import NoReturn

from opentelemetry import trace

from fleet import logs
from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.lane import Outbox
from fleet.metrics.exposition import Exposition
from fleet.metrics.process import LinkMetrics, ProcessMetrics
from fleet.process import arguments, loop, notice, ports
from fleet.process.health import health_service
from fleet.process.signals import stop_signals
from fleet.process.turns import Turns
from fleet.process.version import VERSION
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from fleet.tracing.start import start
from protos import chat_pb2 as pb
from worker.agents.threads import ToolThreads
from worker.contract.images import Images
from worker.contract.observer import OWN, Observer, Observers
from worker.metrics.state import WorkerState
from worker.metrics.work import WorkMetrics
from worker.serving import agent
from worker.serving.catalog import Model
from worker.serving.check import check
from worker.serving.gateway_watch import GatewayWatch
from worker.serving.loaded import Loaded, LoadError, end, load_all, read_models
from worker.serving.offers import Offers
from worker.serving.registry import Registry
from worker.serving.reload import Reload
from worker.serving.sources import Sources
from worker.serving.status import Heartbeat
from worker.serving.tracing import Passing, Tracing
from worker.settings import WorkerSettings
from worker.wire.pacer import Pacer

log = logs.logger("worker")

FLUSH_TIMEOUT = 3.0
"""Seconds for which a worker that leaves waits until its last events are acknowledged."""


class Worker:
    """Creates the parts of a worker and runs them until it is stopped. It has 14 attributes because it makes all."""

    def __init__(
        self,
        settings: WorkerSettings,
        fleet: FleetSettings,
        sources: Sources,
        models: dict[str, Model],
        logged: logs.Counts,
    ) -> None:
        self.id = topics.new_member_id(topics.WORKER, fleet.member_name)
        self._settings = settings
        self._fleet = fleet
        self._sources = sources
        self._models = models
        self._logged = logged
        self._export = start("chatfleet-worker", self.id)
        self._exposition = Exposition()
        self._observer = self._observers()
        self._runtime = FleetRuntime(fleet, self._on_link)
        self._outbox = Outbox(self.id, self._send, settings.flush_interval)
        self._registry: Registry | None = None
        self._reload: Reload | None = None
        self._heartbeat: Heartbeat | None = None

    async def serve(self) -> None:
        stop = stop_signals()
        async with AsyncExitStack() as health:
            if (address := self._settings.health_bind) is not None:
                self._expose()
                try:
                    await health.enter_async_context(health_service(address, self._unready, self._exposition.render))
                except OSError as error:
                    print(ports.failure("WORKER_HEALTH_BIND", address, error), file=sys.stderr)
                    raise SystemExit(1) from None
            await self._serve(stop)

    def _expose(self) -> None:
        """Add to the metrics what is read at each scrape, and watch the event loop."""
        exposition, identity = self._exposition, self._fleet.identity()
        exposition.add(WorkerState(lambda: self._registry, self._outbox))
        LinkMetrics(exposition, self._runtime, lambda: self._registry is not None and self._registry.draining)
        process = ProcessMetrics(exposition, "worker", self.id, lambda: not self._unready(), self._logged, identity)
        process.watch_loop()

    async def _serve(self, stop: asyncio.Event) -> None:
        settings, outbox = self._settings, self._outbox
        asyncio.get_running_loop().set_default_executor(ToolThreads(settings.tool_threads))
        pacer = Pacer(settings.flush_interval, outbox.hold, outbox.release) if settings.flush_interval else None
        images = Images(settings.image_pixels)
        turns = Turns()
        offers, loaded = Offers(turns, images, pacer, self._observer), await self._load()
        async with asyncio.TaskGroup() as group:
            registry = self._registry = Registry(
                offers.make(loaded.models, loaded.roster), outbox, settings.capacity, group, self._observer
            )
            watch = GatewayWatch(registry, outbox, settings.gateway_timeout, self._fleet.link_timeout)
            heartbeat = self._heartbeat = Heartbeat(
                self.id, VERSION, registry, lambda status: self._runtime.publish(status, topics.WORKERS)
            )
            registry.judge.changed = heartbeat.beat
            reload = self._reload = Reload(settings, self._sources, loaded, offers, registry, group, heartbeat.beat)
            await agent.register(self._runtime, self.id, registry, watch)
            log.info("serving", worker=self.id, models=list(registry.offers), capacity=registry.capacity)
            await self._runtime.start()
            watches = (heartbeat.run(), watch.watch(), reload.watch(), registry.judge.watch(registry))
            helpers = [group.create_task(each) for each in watches]
            await stop.wait()
            await self._drain(registry, heartbeat)
            for helper in helpers:
                helper.cancel()
        heartbeat.leave()
        await self._runtime.stop()
        await end(reload.loaded.parts)
        images.close()
        if pacer is not None:
            pacer.close()
        if self._export is not None:
            await self._export.close()
        log.info("stopped", worker=self.id)

    def _observers(self) -> Observer:
        """What sees each run: metrics only where they can be asked for."""
        tracing: Observer = Passing()
        if self._export is not None:
            trace.set_tracer_provider(self._export.provider)  # so that spans of agents' own code go there too
            tracing = Tracing(self._export.tracer, has_content=self._fleet.trace_content)
        if self._settings.health_bind is None:
            return tracing
        return Observers([tracing, WorkMetrics(self._exposition, self._names)])

    def _names(self) -> set[str]:
        """What is served, and the models for agents."""
        offers = () if self._registry is None else self._registry.offers
        models = self._models if self._reload is None else self._reload.loaded.models
        return {OWN, *offers, *models}

    async def _load(self) -> Loaded:
        try:
            loaded = await load_all(self._settings, self._models)
        except LoadError as error:
            refuse(str(error))
        for problem in loaded.roster.problems.values():
            log.warning("agent not served", reason=problem)
        return loaded

    async def _drain(self, registry: Registry, heartbeat: Heartbeat) -> None:
        """Refuse new runs, let the others end, and see their last events acknowledged."""
        registry.draining = True
        heartbeat.beat()
        log.info("draining", worker=self.id, active=registry.active)
        try:
            async with asyncio.timeout(self._settings.drain_timeout):
                await registry.idle()
        except TimeoutError:
            log.warning("runs cut off by the drain timeout", worker=self.id, active=registry.active)
            registry.cancel_all("worker_drained")
            await registry.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._outbox.flushed()

    def _unready(self) -> str:
        """Why no gateway would send this worker a request now; empty when one would."""
        if self._registry is None or not self._runtime.linked:
            return "no link to the host"
        return "draining" if self._registry.draining else ""

    def _send(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        self._runtime.publish(batch, topics.chunks(gateway_id))

    def _on_link(self, up: bool) -> None:
        if up:
            self._outbox.link_up()
            if self._heartbeat is not None and self._registry is not None:
                self._heartbeat.beat()
                notice.ready(", ".join(self._registry.offers))
        else:
            self._outbox.link_down()


def refuse(reason: str) -> NoReturn:
    """End the process because of its settings."""
    print(reason, file=sys.stderr)
    raise SystemExit(BAD_SETTINGS)


def main() -> None:
    """Read settings and models, then serve."""
    parser = arguments.parser("worker", "Serve models and agents to the fleet until SIGTERM or SIGINT.")
    parser.add_argument("command", nargs="?", choices=["check"], help="say whether everything loads, and end")
    command = parser.parse_args().command
    # Spans of each message within a team are a fifth of its cost. Who sets it to false gets them beside ours.
    os.environ.setdefault("AUTOGEN_DISABLE_RUNTIME_TRACING", "true")
    fleet = load(FleetSettings)
    settings = load(WorkerSettings)
    logged = logs.configure("worker", fleet.log_level, fleet.log_format)
    sources = Sources(settings)  # before they are read, so that no change is missed
    try:
        models = read_models(settings, sources.secrets)
    except LoadError as error:
        refuse(str(error))
    if command == "check":
        logs.configure("worker", "error", fleet.log_format)
        problems = asyncio.run(check(models, settings))
        print("\n".join(problems) or "everything loads", file=sys.stderr if problems else sys.stdout)
        raise SystemExit(BAD_SETTINGS if problems else 0)
    loop.run(Worker(settings, fleet, sources, models, logged).serve())


if __name__ == "__main__":
    main()
