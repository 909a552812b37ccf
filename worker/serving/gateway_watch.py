"""Decides which gateways are gone; their runs are cancelled and their lanes given up."""

import asyncio
import math

from fleet import logs
from fleet.bus.senders import Senders
from fleet.lane import Outbox
from protos import chat_pb2 as pb
from worker.serving.registry import Registry

log = logs.logger(__name__)

RETURN_WITHIN = 0.9
"""Seconds after which a gateway whose connection was closed is gone, unless it was heard again. A dropped link
reconnects within this time; a dead process does not."""

POLL_INTERVAL = 0.2


class GatewayWatch:
    """A gateway is gone when it left and did not return, or was silent for ``timeout`` seconds.

    When our own link to the host is down for ``link_timeout`` seconds, all of them are: they have given us up.
    """

    def __init__(
        self,
        registry: Registry,
        outbox: Outbox,
        timeout: float,
        link_timeout: float,
        return_within: float = RETURN_WITHIN,
        poll_interval: float = POLL_INTERVAL,
    ) -> None:
        self._registry = registry
        self._outbox = outbox
        self._timeout = timeout
        self._link_timeout = link_timeout
        self._return_within = return_within
        self._poll_interval = poll_interval
        self._left_at: dict[str, float] = {}
        self._senders = Senders()

    def acknowledged(self, ack: pb.ChunkAck) -> None:
        """A gateway was heard."""
        if not self._senders.believes(ack, ack.gateway_id):
            return
        self._left_at.pop(ack.gateway_id, None)
        self._outbox.acknowledge(ack)
        if ack.complete:
            wanted = {(credit.request_id, credit.attempt) for credit in ack.credits}
            # Gateways of earlier versions do not say what they knew.
            knew = ack.asked_at if ack.HasField("asked_at") else math.inf
            if self._registry.keep_only(ack.gateway_id, wanted, knew):
                self._outbox.ask_for_all(ack.gateway_id)

    def left(self, member: pb.MemberLeft) -> None:
        """The host reports that a member's connection ended; the member may return on another one."""
        if member.kind != "gateway" or member.member_id not in self._outbox.gateways():
            return
        self._outbox.ask(member.member_id)
        if member.cause == pb.LEAVE_CAUSE_CLOSED:
            self._left_at[member.member_id] = asyncio.get_running_loop().time()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            for gateway_id in self._find_gone(asyncio.get_running_loop().time()):
                self._gone(gateway_id)

    def _find_gone(self, now: float) -> set[str]:
        if not self._outbox.linked:
            self._left_at = dict.fromkeys(self._left_at, now)
            return set(self._outbox.gateways()) if self._outbox.unlinked_for > self._link_timeout else set()
        gone = [gateway_id for gateway_id, at in self._left_at.items() if now - at > self._return_within]
        return {*gone, *self._outbox.silent_gateways(self._timeout)}

    def _gone(self, gateway_id: str) -> None:
        self._left_at.pop(gateway_id, None)
        cancelled = self._registry.cancel_gateway(gateway_id)
        self._outbox.give_up(gateway_id)
        log.info("gateway gone", gateway=gateway_id, cancelled=cancelled)
