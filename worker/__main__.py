"""``python -m worker``: serves models to the fleet until SIGTERM or SIGINT; a second signal ends it at once."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, suppress

from fleet import logs
from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.lane import Outbox
from fleet.process import loop
from fleet.process.signals import stop_signals
from fleet.process.turns import Turns
from fleet.process.version import VERSION
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from protos import chat_pb2 as pb
from worker.contract.images import Images
from worker.health import health_service
from worker.openai.client import StreamingAzureOpenAIClient, StreamingOpenAIClient
from worker.serving import agent
from worker.serving.catalog import Model, ModelsError, load_models
from worker.serving.gateway_watch import Gateways
from worker.serving.registry import Desk
from worker.serving.status import Heartbeat
from worker.settings import WorkerSettings
from worker.wire.pacer import Pacer

log = logs.logger("worker")

FLUSH_TIMEOUT = 3.0
"""Seconds that gateways get to take the last chunks of a worker that leaves."""


class Worker:
    """A worker's life: everything it consists of is made here."""

    def __init__(self, settings: WorkerSettings, fleet: FleetSettings, models: dict[str, Model]) -> None:
        self.id = topics.new_member_id()
        self._settings = settings
        self._link_timeout = fleet.link_timeout
        self._models = models
        self._runtime = FleetRuntime(fleet, self._on_link)
        self._outbox = Outbox(self.id, self._send, settings.flush_interval)
        self._desk: Desk | None = None
        self._heartbeat: Heartbeat | None = None

    async def serve(self) -> None:
        """Join the fleet, serve, and drain at the first signal."""
        stop = stop_signals()
        async with AsyncExitStack() as health:
            if (address := self._settings.health_bind) is not None:
                try:
                    await health.enter_async_context(health_service(address, self._not_ready))
                except OSError as error:
                    reason = os.strerror(error.errno or 0).lower()
                    print(f"WORKER_HEALTH_BIND: cannot listen on {address}: {reason}", file=sys.stderr)
                    raise SystemExit(1) from None
            await self._serve(stop)

    async def _serve(self, stop: asyncio.Event) -> None:
        outbox = self._outbox
        interval = self._settings.flush_interval
        pacer = Pacer(interval, outbox.hold, outbox.release) if interval else None
        turns = Turns()
        for model in self._models.values():
            if isinstance(model.client, StreamingOpenAIClient | StreamingAzureOpenAIClient):
                model.client.work_in(turns)
                if pacer is not None:
                    model.client.read_together(pacer)
        images = Images(self._settings.image_pixels)
        async with asyncio.TaskGroup() as chats:
            desk = self._desk = Desk(self._models, images, self._outbox, self._settings.capacity, chats, turns)
            gateways = Gateways(desk, self._outbox, self._settings.gateway_timeout, self._link_timeout)
            heartbeat = self._heartbeat = Heartbeat(
                self.id, VERSION, desk, lambda status: self._runtime.publish(status, topics.WORKERS)
            )
            await agent.register(self._runtime, self.id, desk, gateways)
            log.info("serving", worker=self.id, models=list(self._models), capacity=self._settings.capacity)
            await self._runtime.start()
            helpers = [chats.create_task(heartbeat.run()), chats.create_task(gateways.watch())]
            await stop.wait()
            await self._drain(desk, heartbeat)
            for helper in helpers:
                helper.cancel()
        heartbeat.leave()
        await asyncio.sleep(0.05)  # the last word is queued, not sent; nothing tells when it has left
        await self._runtime.stop()
        for model in self._models.values():
            await model.client.close()
        images.close()
        if pacer is not None:
            pacer.close()
        log.info("stopped", worker=self.id)

    async def _drain(self, desk: Desk, heartbeat: Heartbeat) -> None:
        """Refuse new chats, let the running ones end, and see their last chunks acknowledged."""
        desk.draining = True
        heartbeat.beat()
        log.info("draining", worker=self.id, active=desk.active)
        try:
            async with asyncio.timeout(self._settings.drain_timeout):
                await desk.idle()
        except TimeoutError:
            log.warning("chats cut off by the drain timeout", worker=self.id, active=desk.active)
            desk.cancel_all("worker_drained")
            await desk.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._outbox.flushed()

    def _not_ready(self) -> str | None:
        """Why no gateway would give this worker a chat now."""
        if self._desk is None or not self._runtime.linked:
            return "no link to the host"
        return "draining" if self._desk.draining else None

    def _send(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        self._runtime.publish(batch, topics.chunks(gateway_id))

    def _on_link(self, up: bool) -> None:
        if up:
            self._outbox.link_up()
            if self._heartbeat is not None:
                self._heartbeat.beat()
        else:
            self._outbox.link_down()


def main() -> None:
    """Read settings and models, then serve."""
    fleet = load(FleetSettings)
    settings = load(WorkerSettings)
    logs.configure("worker", fleet.log_level, fleet.log_format)
    try:
        models = load_models(settings.models)
    except ModelsError as error:
        print(f"WORKER_MODELS: {error}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None
    loop.run(Worker(settings, fleet, models).serve())


if __name__ == "__main__":
    main()
