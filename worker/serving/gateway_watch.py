"""Which gateways still wait for us: one that is gone has its chats cancelled and its lane dropped."""

import asyncio

from fleet import logs
from fleet.bus.senders import Senders
from fleet.lane import Outbox
from protos import chat_pb2 as pb
from worker.serving.registry import Desk

log = logs.logger(__name__)

RETURN_WITHIN = 0.9
"""Seconds in which a gateway whose connection was closed must be heard again: a cut link is back by then, a dead
process never is."""

LOOK_EVERY = 0.2


class Gateways:
    """Decides when a gateway is gone: it left and stayed away, or answers nothing for ``timeout`` seconds.

    When our own link to the host is away for ``link_timeout`` seconds, all of them are gone: they have given us up.
    """

    def __init__(self, desk: Desk, outbox: Outbox, timeout: float, link_timeout: float) -> None:
        self._desk = desk
        self._outbox = outbox
        self._timeout = timeout
        self._link_timeout = link_timeout
        self._left_at: dict[str, float] = {}
        self._linked_at = 0.0
        self._senders = Senders()

    def acknowledged(self, ack: pb.ChunkAck) -> None:
        """A gateway spoke."""
        if not self._senders.believes(ack, ack.gateway_id):
            return
        self._left_at.pop(ack.gateway_id, None)
        self._outbox.acknowledge(ack)
        if ack.complete:
            self._desk.keep_only(ack.gateway_id, {(credit.request_id, credit.attempt) for credit in ack.credits})

    def left(self, member: pb.MemberLeft) -> None:
        """The host says that a member's connection ended; it may come back on another one."""
        if member.kind != "gateway" or not self._outbox.has(member.member_id):
            return
        self._outbox.ask(member.member_id)
        if member.cause == pb.LEAVE_CAUSE_CLOSED:
            self._left_at[member.member_id] = asyncio.get_running_loop().time()

    async def watch(self) -> None:
        """Look for gateways that are gone, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for gateway_id in self._find_gone(asyncio.get_running_loop().time()):
                self._gone(gateway_id)

    def _find_gone(self, now: float) -> set[str]:
        if not self._outbox.linked:
            self._left_at = dict.fromkeys(self._left_at, now)
            return set(self._outbox.gateways()) if now - self._linked_at > self._link_timeout else set()
        self._linked_at = now
        gone = [gateway_id for gateway_id, at in self._left_at.items() if now - at > RETURN_WITHIN]
        return {*gone, *self._outbox.silent_gateways(self._timeout)}

    def _gone(self, gateway_id: str) -> None:
        self._left_at.pop(gateway_id, None)
        cancelled = self._desk.cancel_gateway(gateway_id)
        self._outbox.forget(gateway_id)
        log.info("gateway gone", gateway=gateway_id, cancelled=cancelled)
