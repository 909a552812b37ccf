"""``python -m gateway``: serves HTTP until SIGTERM or SIGINT. A second signal ends it at once."""

import argparse
import asyncio
import logging
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

from google.protobuf.message import Message
from starlette.types import ASGIApp

from fleet import logs
from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.lane import Inbox
from fleet.metrics.exposition import Exposition
from fleet.metrics.names import Served
from fleet.metrics.process import LinkMetrics, ProcessMetrics
from fleet.metrics.values import KEYS
from fleet.process import arguments, files, loop, ports
from fleet.process.signals import stop_signals
from fleet.process.turns import Turns
from fleet.process.version import VERSION
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from fleet.tracing.start import start
from gateway.access import new_key
from gateway.access.access import Access
from gateway.access.keys import KeyRing, KeysError
from gateway.chats.chats import Chats
from gateway.chats.fan_in import FanIn, GatewayAgent, register
from gateway.chats.observer import Observer, Observers
from gateway.chats.tracing import Tracing
from gateway.faces.bodies import Bodies
from gateway.http import app, server
from gateway.metrics.requests import RequestMetrics
from gateway.metrics.state import GatewayState
from gateway.routing.admission import Admission
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory
from gateway.routing.health import Health, health
from gateway.routing.load import describe_load
from gateway.routing.peers import Peers
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb

log = logs.logger("gateway")

POLL_EVERY = 0.05
"""Seconds between two checks for workers that are gone or silent."""

ANNOUNCE_EVERY = 1.0
"""Seconds between two statuses, by which the other gateways know this one, and the host that it lives."""

NAMES = 100
"""Names for which a status says how many requests wait."""


class Gateway:
    """A gateway process. It has 19 attributes because everything that it consists of is made here."""

    def __init__(
        self, settings: GatewaySettings, fleet: FleetSettings, ring: KeyRing | None, logged: logs.Counts
    ) -> None:
        self.id = topics.new_member_id(topics.GATEWAY, fleet.member_name)
        self._settings = settings
        self._ring = ring
        self._fleet = fleet
        self._logged = logged
        self._leaving = False
        self._lost_at = time.monotonic()
        """When the link to the host was lost; infinity while there is one, and once the chats have been told."""
        self._export = start("chatfleet-gateway", self.id)
        self._runtime = FleetRuntime(fleet, self._on_link)
        self._peers = Peers(self.id)
        self._directory = Directory(self.id, gone_after=fleet.link_timeout, peers=self._peers)
        self._bodies = Bodies(settings.bodies_memory, Turns())
        self._exposition = Exposition()
        self._served = Served(self._directory.names)
        self._observer = self._observers()
        breakers = self._breakers = Breakers()
        self._admission = Admission(self._directory, breakers, settings.queue_limit, settings.queue_timeout)
        self._inbox = Inbox(self.id, self._send)
        self._chats = Chats(settings, self._admission, breakers, self._inbox, self._send, observer=self._observer)

    # ------------------------------------------------------------ the process's life

    async def serve(self) -> None:
        stop = stop_signals()
        sockets = self._listen()
        http = server.make_server(self._application(), self._settings)
        self._expose(http)
        await self._join()
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(http.serve(sockets=sockets))
            helpers = [group.create_task(self._watch()), group.create_task(self._reload())]
            log.info("listening", gateway=self.id, address=str(self._settings.bind))
            await stop.wait()
            await self._drain(http)
            http.should_exit = True
            await serving
            for helper in helpers:
                helper.cancel()
        await self._runtime.stop()
        if self._export is not None:
            await self._export.close()
        log.info("stopped", gateway=self.id)

    def _listen(self) -> list[socket]:
        sockets = []
        for name, address in self._settings.addresses.items():
            try:
                sockets.append(server.listen(address))
            except OSError as error:
                print(ports.failure(name, address, error), file=sys.stderr)
                raise SystemExit(1) from None
        return sockets

    def _application(self) -> ASGIApp:
        views = app.Views(
            self._unready,
            self._describe,
            self._models,
            self._health,
            int(time.time()),
            lambda: self._leaving,
            self._exposition.render,
        )
        access, observer = Access(self._ring), self._observer
        return app.build(self._settings, self._chats, access, views, observer=observer, bodies=self._bodies)

    def _observers(self) -> Observer:
        """Those of traces first, whose ids go into the others' exemplars."""
        tracing = [Tracing(self._export.tracer)] if self._export is not None else []
        ring = self._ring if self._settings.metrics_keys else None
        keys = Served(ring.names, KEYS) if ring is not None else None
        counting = RequestMetrics(self._exposition, self._served, keys)
        return Observers([*tracing, counting])

    def _expose(self, http: server.Server) -> None:
        """Add to the metrics what is read at each scrape, and watch the event loop."""
        exposition = self._exposition
        identity = self._fleet.identity()
        process = ProcessMetrics(exposition, "gateway", self.id, lambda: not self._unready(), self._logged, identity)
        LinkMetrics(exposition, self._runtime, lambda: self._leaving)
        parts = self._directory, self._admission, self._breakers, self._served, self._bodies
        exposition.add(GatewayState(self._settings, *parts, http.server_state.connections, self._logged))
        process.watch_loop()

    async def _join(self) -> None:
        batches = FanIn(self._directory, self._inbox, self._chats)
        agent = partial(GatewayAgent, self._directory, self._admission, self._chats, self._peers)
        await register(self._runtime, self.id, agent, batches)
        await self._runtime.start()

    async def _drain(self, http: server.Server) -> None:
        """Announce the end and serve on until the balancer has noticed, then refuse new chats and wait for the rest."""
        settings = self._settings
        self._leaving = True
        log.info("draining", gateway=self.id, active=len(self._chats))
        await asyncio.sleep(settings.drain_delay)
        http.retire()
        until = time.monotonic() + settings.drain_timeout
        self._chats.draining = True
        try:
            async with asyncio.timeout(settings.drain_timeout):
                await self._chats.idle()
        except TimeoutError:
            log.warning("chats cut off by the drain timeout", gateway=self.id, active=len(self._chats))
            self._chats.cut_off()
        # What is written may still be on its way to slow clients.
        http.config.timeout_graceful_shutdown = max(1, int(until - time.monotonic()))

    # ------------------------------------------------------------ the fleet

    def _send(self, message: Message, worker_id: str) -> None:
        self._runtime.publish(message, topics.chat(worker_id))

    def _on_link(self, up: bool) -> None:
        """Tell everything that depends on the link, in the order in which they rely on each other.

        No worker could be heard while it was down: the directory counts none as ready until it is heard again. Then the
        lanes ask for what is missing, and the chats end the attempts that no worker may have received.
        """
        now = time.monotonic()
        self._lost_at = float("inf") if up else now
        if up:
            self._admission.linked_at = now
            self._directory.relinked(now)
        self._admission.linked = up
        if up:
            self._inbox.link_up()
            self._chats.relinked()

    async def _watch(self) -> None:
        announced_at = time.monotonic()
        while True:
            await asyncio.sleep(POLL_EVERY)
            now = time.monotonic()
            if self._runtime.linked:
                if now - announced_at >= ANNOUNCE_EVERY:
                    announced_at = now
                    self._runtime.publish(self._status(), topics.GATEWAYS)
                self._check_workers(now)
            elif now - self._lost_at > self._fleet.link_timeout:
                self._lost_at = float("inf")
                self._chats.link_lost()

    def _status(self) -> pb.GatewayStatus:
        return pb.GatewayStatus(
            gateway_id=self.id,
            version=VERSION,
            draining=self._leaving,
            in_flight=len(self._chats),
            requests_total=self._chats.total,
            waiting=self._waiting(),
        )

    def _waiting(self) -> dict[str, int]:
        """By name, for the other gateways. What no worker serves, a client may have made up, in any length."""
        served = self._directory.names()
        counts = {name: count for name, count in self._admission.waiting_for().items() if name in served}
        return dict(Counter(counts).most_common(NAMES))

    def _check_workers(self, now: float) -> None:
        for worker_id in self._directory.expire(now):
            log.warning("worker gone", worker=worker_id)
            self._chats.worker_gone(worker_id)
        for worker_id in self._directory.silent(now):
            self._chats.worker_silent(worker_id)
        self._admission.dispatch()

    async def _reload(self) -> None:
        while self._ring is not None:
            await asyncio.sleep(files.RELOAD_EVERY)
            await self._ring.refresh()

    # ------------------------------------------------------------ what its routes show

    def _models(self) -> dict[str, str]:
        return self._directory.described(time.monotonic())

    def _health(self) -> dict[str, Health]:
        return health(self._directory, time.monotonic())

    def _unready(self) -> str:
        if self._leaving:
            return "draining: this gateway is about to leave"
        if not self._runtime.linked:
            return "no link to the host"
        if not self._directory.ready(time.monotonic()):
            return "no worker is ready"
        return ""

    def _describe(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "models": {name: of.describe(now) for name, of in self._health().items()},
            "workers": [worker.describe(now) for worker in self._directory],
            "gateway": {
                "id": self.id,
                "version": VERSION,
                "state": "DRAINING" if self._leaving else "READY",
                "linked": self._runtime.linked,
                "in_flight": len(self._chats),
                "requests_total": self._chats.total,
            },
            "other_gateways": self._peers.describe(now),
            "load": describe_load(self._directory, self._directory.ready(now), self._admission.waiting_for()),
            "queue": self._admission.describe(),
        }


def refuse_open_bind(settings: GatewaySettings) -> None:
    if refusal := settings.refusal():
        print(refusal, file=sys.stderr)
        raise SystemExit(BAD_SETTINGS)


def open_ring(settings: GatewaySettings) -> KeyRing | None:
    if settings.keys is None:
        return None
    try:
        return KeyRing(settings.keys)
    except KeysError as error:
        print(f"GATEWAY_KEYS: {error}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None


def read_arguments() -> argparse.Namespace:
    parser = arguments.parser("gateway", "Serve the APIs over HTTP until SIGTERM or SIGINT.")
    keys = parser.add_subparsers(dest="command", title="commands").add_parser("keys", help="make API keys")
    new = keys.add_subparsers(dest="keys_command", required=True).add_parser("new", help="make a key")
    new.add_argument("name", metavar="NAME", help="whose key it is")
    named = os.environ.get("GATEWAY_KEYS")
    help_ = "the file to add it to, by default the one that GATEWAY_KEYS names; without either its entry is printed"
    new.add_argument("file", metavar="FILE", nargs="?", type=Path, default=named or None, help=help_)
    return parser.parse_args()


def main() -> None:
    given = read_arguments()
    if given.command == "keys":
        raise SystemExit(new_key.main(given.name, given.file))
    fleet = load(FleetSettings)
    settings = load(GatewaySettings)
    logged = logs.configure("gateway", fleet.log_level, fleet.log_format)
    refuse_open_bind(settings)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # we log start and stop ourselves
    loop.run(Gateway(settings, fleet, open_ring(settings), logged).serve())


if __name__ == "__main__":
    main()
