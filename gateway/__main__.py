"""``python -m gateway``: serves HTTP until SIGTERM or SIGINT; a second signal ends it at once."""

import asyncio
import logging
import sys
import time
from collections import Counter
from typing import Any

from google.protobuf.message import Message

from fleet import logs
from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.lane import Inbox
from fleet.process import loop
from fleet.process.signals import stop_signals
from fleet.process.version import VERSION
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from gateway.access.access import Access
from gateway.access.keys import KeyRing, KeysError, new_key
from gateway.chats.chats import Chats
from gateway.chats.fan_in import FanIn, GatewayAgent, register
from gateway.http import app, server
from gateway.routing.admission import Admission
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb

log = logs.logger("gateway")

LOOK_EVERY = 0.05
"""Seconds between two looks at who is gone."""

RELOAD_EVERY = 1.0
"""Seconds between two looks at the key file."""


class Gateway:
    """A gateway's life: everything it consists of is made here."""

    def __init__(self, settings: GatewaySettings, fleet: FleetSettings, ring: KeyRing | None) -> None:
        self.id = topics.new_member_id()
        self._settings = settings
        self._ring = ring
        self._ignored: Counter[str] = Counter()
        self._leaving = False
        self._runtime = FleetRuntime(fleet, self._on_link)
        self._directory = Directory(self.id, gone_after=fleet.link_timeout)
        self._link_timeout = fleet.link_timeout
        breakers = Breakers()
        self._admission = Admission(self._directory, breakers, settings.queue_limit, settings.queue_timeout)
        self._inbox = Inbox(self.id, self._send)
        self._chats = Chats(settings, self._admission, breakers, self._inbox, self._send)

    async def serve(self) -> None:
        """Listen, join the fleet, serve, and drain at the first signal."""
        stop = stop_signals()
        try:
            sock = server.listen(self._settings.bind)
        except OSError as error:
            print(f"GATEWAY_BIND: cannot listen on {self._settings.bind}: {error.strerror}", file=sys.stderr)
            raise SystemExit(1) from None
        batches = FanIn(self._directory, self._inbox, self._chats)
        await register(self._runtime, self.id, self._make_agent, batches)
        await self._runtime.start()
        views = app.Views(
            self._unready, self._describe, self._models, int(time.time()), self._ignored, self._is_leaving
        )
        served = app.build(self._settings, self._chats, Access(self._ring), views)
        http = server.make_server(served, self._settings)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(http.serve(sockets=[sock]))
            watching = group.create_task(self._watch())
            reloading = group.create_task(self._reload())
            log.info("listening", gateway=self.id, address=str(self._settings.bind))
            await stop.wait()
            await self._withdraw()
            http.retire()
            until = time.monotonic() + self._settings.drain_timeout
            await self._drain()
            # What is written may still be on its way to slow clients.
            http.config.timeout_graceful_shutdown = max(1, int(until - time.monotonic()))
            http.should_exit = True
            await serving
            watching.cancel()
            reloading.cancel()
        await asyncio.sleep(0.05)  # the last cancels are queued, not sent; nothing tells when they have left
        await self._runtime.stop()
        log.info("stopped", gateway=self.id)

    def _make_agent(self) -> GatewayAgent:
        return GatewayAgent(self._directory, self._admission, self._chats)

    async def _withdraw(self) -> None:
        """Say that this gateway leaves, and serve on until whoever sends it chats has noticed."""
        self._leaving = True
        log.info("draining", gateway=self.id, active=len(self._chats))
        await asyncio.sleep(self._settings.drain_delay)

    async def _drain(self) -> None:
        """Refuse new chats and let the running ones end."""
        self._chats.draining = True
        try:
            async with asyncio.timeout(self._settings.drain_timeout):
                await self._chats.idle()
        except TimeoutError:
            log.warning("chats cut off by the drain timeout", gateway=self.id, active=len(self._chats))
            self._chats.cut_off()

    async def _watch(self) -> None:
        """Forget workers that are gone, for ever. While our own link is down nobody can be heard, so nobody is."""
        linked_at = spoke_at = time.monotonic()
        given_up = False
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if not self._runtime.linked:
                if time.monotonic() - linked_at > self._link_timeout and not given_up:
                    given_up = True
                    self._chats.link_lost()
                continue
            linked_at, given_up = time.monotonic(), False
            if linked_at - spoke_at >= 1:
                spoke_at = linked_at
                self._runtime.publish(pb.ChunkAck(gateway_id=self.id), topics.GATEWAYS)
            for worker_id in self._directory.expire(time.monotonic()):
                log.warning("worker gone", worker=worker_id)
                self._chats.worker_gone(worker_id)
            for worker_id in self._directory.silent(time.monotonic()):
                self._chats.worker_silent(worker_id)
            self._admission.look()

    async def _reload(self) -> None:
        """Take changes of the key file over, for ever."""
        while self._ring is not None:
            await asyncio.sleep(RELOAD_EVERY)
            await self._ring.refresh()

    def _send(self, message: Message, worker_id: str) -> None:
        self._runtime.publish(message, topics.chat(worker_id))

    def _on_link(self, up: bool) -> None:
        self._admission.linked = up
        if up:
            self._admission.linked_at = time.monotonic()
            self._directory.relinked(time.monotonic())
            self._inbox.link_up()
            self._chats.relinked()
            self._admission.look()

    def _models(self) -> list[str]:
        ready = self._directory.ready(time.monotonic())
        return list(dict.fromkeys(model for worker in ready for model in worker.models))

    def _is_leaving(self) -> bool:
        return self._leaving

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
            "workers": [worker.describe(now) for worker in self._directory],
            "gateway": {
                "id": self.id,
                "version": VERSION,
                "state": "DRAINING" if self._leaving else "READY",
                "linked": self._runtime.linked,
                "in_flight": len(self._chats),
                "requests_total": self._chats.total,
                "ignored_fields": dict(self._ignored),
            },
            "load": self._directory.describe_load(self._admission.waiting, now),
            "queue": self._admission.describe(),
        }


def check(settings: GatewaySettings) -> None:
    """End the process when the gateway would be open to strangers."""
    if not settings.bind.is_loopback and settings.keys is None and not settings.allow_anonymous:
        advice = "set GATEWAY_KEYS, or GATEWAY_ALLOW_ANONYMOUS=true if the network keeps strangers out"
        print(f"GATEWAY_BIND: {settings.bind} is reachable from other machines; {advice}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS)


def read_ring(settings: GatewaySettings) -> KeyRing | None:
    """The keys, if there is a file of them; one that cannot be used ends the process."""
    if settings.keys is None:
        return None
    try:
        return KeyRing(settings.keys)
    except KeysError as error:
        print(f"GATEWAY_KEYS: {error}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None


def make_key(name: str) -> None:
    """``keys new NAME``: print a key, once, and its entry for the file."""
    key, entry = new_key(name)
    print(f"The key, which is shown only now:\n\n  {key}\n\nIts entry for the file that GATEWAY_KEYS names:\n\n{entry}")


def main() -> None:
    """``keys new NAME``, or read settings and serve."""
    match sys.argv[1:]:
        case ["keys", "new", name] if name.strip():
            make_key(name)
            return
        case []:
            pass
        case _:
            print("usage: python -m gateway [keys new NAME]", file=sys.stderr)
            raise SystemExit(BAD_SETTINGS)
    fleet = load(FleetSettings)
    settings = load(GatewaySettings)
    logs.configure("gateway", fleet.log_level, fleet.log_format)
    check(settings)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start and stop are our own lines
    loop.run(Gateway(settings, fleet, read_ring(settings)).serve())


if __name__ == "__main__":
    main()
