"""``python -m worker``: serves models to the fleet until SIGTERM or SIGINT; a second signal ends it at once."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, suppress
from typing import NoReturn

from fleet import logs
from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.lane import Outbox
from fleet.metrics.exposition import Exposition
from fleet.metrics.process import LinkMetrics, ProcessMetrics
from fleet.process import arguments, loop, ports
from fleet.process.health import health_service
from fleet.process.signals import stop_signals
from fleet.process.turns import Turns
from fleet.process.version import VERSION
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from protos import chat_pb2 as pb
from worker.agents.threads import ToolThreads
from worker.claude.client import ClaudeClient
from worker.contract.images import Images
from worker.contract.observer import Observer, Observers
from worker.metrics.state import WorkerState
from worker.metrics.work import WorkMetrics
from worker.ollama.client import OllamaClient
from worker.openai.client import Streaming
from worker.secrets import SecretsError, adopt
from worker.services.agent import AgentService
from worker.services.endpoints import CHAT, Endpoints
from worker.services.model import ModelService
from worker.services.passed_on import PassedOn
from worker.services.service import Service
from worker.serving import agent
from worker.serving.catalog import Model, ModelsError, load_models
from worker.serving.check import check
from worker.serving.gateway_watch import GatewayWatch
from worker.serving.offer import NOTHING, Offer, ServeError
from worker.serving.registry import Registry
from worker.serving.roster import Roster, load_agents
from worker.serving.status import Heartbeat
from worker.settings import WorkerSettings
from worker.wire.pacer import Pacer

log = logs.logger("worker")

FLUSH_TIMEOUT = 3.0
"""Seconds for which a worker that leaves waits until its last events are acknowledged."""


class Worker:
    """Creates the parts of a worker and runs them until it is stopped."""

    def __init__(
        self,
        settings: WorkerSettings,
        fleet: FleetSettings,
        models: dict[str, Model],
        observer: Observer,
        logged: logs.Counts,
    ) -> None:
        self.id = topics.new_member_id(topics.WORKER, fleet.member_name)
        self._settings = settings
        self._fleet = fleet
        self._logged = logged
        self._models = models
        self._exposition = Exposition()
        self._observer = observer
        if settings.health_bind is not None:
            self._observer = Observers([observer, WorkMetrics(self._exposition)])
        self._runtime = FleetRuntime(fleet, self._on_link)
        self._outbox = Outbox(self.id, self._send, settings.flush_interval)
        self._registry: Registry | None = None
        self._heartbeat: Heartbeat | None = None

    async def serve(self) -> None:
        stop = stop_signals()
        async with AsyncExitStack() as health:
            if (address := self._settings.health_bind) is not None:
                self._expose()
                try:
                    await health.enter_async_context(health_service(address, self._not_ready, self._exposition.render))
                except OSError as error:
                    print(ports.failure("WORKER_HEALTH_BIND", address, error), file=sys.stderr)
                    raise SystemExit(1) from None
            await self._serve(stop)

    def _expose(self) -> None:
        """Add to the metrics what is read at each scrape, and watch the event loop."""
        exposition, identity = self._exposition, self._fleet.identity()
        exposition.add(WorkerState(lambda: self._registry, self._outbox))
        LinkMetrics(exposition, self._runtime, lambda: self._registry is not None and self._registry.draining)
        ready = lambda: self._not_ready() is None  # noqa: E731
        ProcessMetrics(exposition, "worker", self.id, ready, self._logged, identity).watch_loop()

    async def _serve(self, stop: asyncio.Event) -> None:
        settings, outbox = self._settings, self._outbox
        asyncio.get_running_loop().set_default_executor(ToolThreads(settings.tool_threads))
        pacer = Pacer(settings.flush_interval, outbox.hold, outbox.release) if settings.flush_interval else None
        images = Images(settings.image_pixels)
        turns = Turns()
        roster = await self._agents()
        offers = self._offers(roster, turns, images, pacer)
        async with asyncio.TaskGroup() as group:
            registry = self._registry = Registry(offers, outbox, settings.capacity, group, self._observer)
            watch = GatewayWatch(registry, outbox, settings.gateway_timeout, self._fleet.link_timeout)
            heartbeat = self._heartbeat = Heartbeat(
                self.id, VERSION, registry, lambda status: self._runtime.publish(status, topics.WORKERS)
            )
            await agent.register(self._runtime, self.id, registry, watch)
            log.info("serving", worker=self.id, models=list(offers), capacity=registry.capacity)
            await self._runtime.start()
            helpers = [group.create_task(heartbeat.run()), group.create_task(watch.watch())]
            await stop.wait()
            await self._drain(registry, heartbeat)
            for helper in helpers:
                helper.cancel()
        heartbeat.leave()
        await self._runtime.stop()
        for client in [*(model.client for model in self._models.values()), *roster.own]:
            await client.close()
        for server in roster.workbenches.values():
            await server.stop()
        images.close()
        if pacer is not None:
            pacer.close()
        log.info("stopped", worker=self.id)

    async def _agents(self) -> Roster:
        try:
            roster = await load_agents(self._settings.agents, self._models, self._settings.serve)
        except ServeError as error:
            refuse(f"WORKER_SERVE: {error}")
        for problem in roster.problems:
            log.warning("agent not served", reason=problem)
        if not (roster.models or roster.entries):
            refuse(f"WORKER_MODELS: {NOTHING}")
        return roster

    def _offers(self, roster: Roster, turns: Turns, images: Images, pacer: Pacer | None) -> dict[str, Offer]:
        offers = {}
        for name, model in self._models.items():
            at: dict[str, Service] = {}
            if isinstance(model.client, Streaming):
                model.client.read_by(pacer)
                passed_on = [other for other in model.endpoints if other != CHAT]
                at = {other: PassedOn(name, model.client, other, turns, self._observer) for other in passed_on}
            elif isinstance(model.client, ClaudeClient):
                model.client.work_in(turns, pacer)
            elif isinstance(model.client, OllamaClient):
                model.client.work_in(turns, images, pacer)
            if CHAT in model.endpoints:
                at[CHAT] = ModelService(name, model.client, model.system_message, turns, images, self._observer)
            if name in roster.models:
                offers[name] = Offer(Endpoints(at), model.route, model.description, model.concurrency, model.endpoints)
        clients = {name: model.client for name, model in self._models.items()}
        for name, entry in roster.entries.items():
            service = AgentService(entry, clients, roster.workbenches, turns, images, self._observer)
            at = {CHAT: service}
            offers[name] = Offer(Endpoints(at), description=entry.description, concurrency=entry.concurrency)
        return offers

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

    def _not_ready(self) -> str | None:
        """Why no gateway would send this worker a request now; None when one would."""
        if self._registry is None or not self._runtime.linked:
            return "no link to the host"
        return "draining" if self._registry.draining else None

    def _send(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        self._runtime.publish(batch, topics.chunks(gateway_id))

    def _on_link(self, up: bool) -> None:
        if up:
            self._outbox.link_up()
            if self._heartbeat is not None:
                self._heartbeat.beat()
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
    # Spans of each message within a team are a fifth of its cost; set it to false to have them.
    os.environ.setdefault("AUTOGEN_DISABLE_RUNTIME_TRACING", "true")
    fleet = load(FleetSettings)
    settings = load(WorkerSettings)
    logged = logs.configure("worker", fleet.log_level, fleet.log_format)
    try:
        if settings.secrets is not None:
            adopt(settings.secrets)
        models = load_models(settings.models)
    except SecretsError as error:
        refuse(f"WORKER_SECRETS: {error}")
    except ModelsError as error:
        refuse(f"WORKER_MODELS: {error}")
    if command == "check":
        logs.configure("worker", "error", fleet.log_format)
        problems = asyncio.run(check(models, settings))
        print("\n".join(problems) or "everything loads", file=sys.stderr if problems else sys.stdout)
        raise SystemExit(BAD_SETTINGS if problems else 0)
    loop.run(Worker(settings, fleet, models, Observer(), logged).serve())


if __name__ == "__main__":
    main()
