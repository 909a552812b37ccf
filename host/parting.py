"""The end of a host that is stopped together with its members, as Compose stops all that it replaces."""

import asyncio
import time
from collections.abc import Collection

from google.protobuf.message import DecodeError

from fleet.bus import topics
from host import roles
from host.member import Member
from protos import chat_pb2 as pb

NOTICE = 5.0
"""Seconds after which members that are stopped at the same time as the host have said that they drain."""

POLL_EVERY = 0.1


class Parting:
    """Knows which members drain, by the statuses that they publish from now on."""

    def __init__(self) -> None:
        self._draining: set[Member] = set()

    def heard(self, sender: Member, topic: bytes, payload: bytes) -> None:
        """What a member publishes. Raises ``ValueError`` for a status that is none."""
        if topic.decode() not in (topics.WORKERS.type, topics.GATEWAYS.type):
            return
        try:
            if self._says_so(sender, payload):
                self._draining.add(sender)
        except DecodeError as error:
            raise ValueError(str(error)) from None

    @staticmethod
    def _says_so(sender: Member, payload: bytes) -> bool:
        if sender.rights is roles.GATEWAY:
            return pb.GatewayStatus.FromString(payload).draining
        return pb.WorkerStatus.FromString(payload).state == pb.WORKER_STATE_DRAINING

    async def over(self, members: Collection[Member], timeout: float) -> None:
        """Until none of ``members`` drains, so that their streams end; after ``timeout`` seconds at the latest."""
        began = time.monotonic()
        while members and (passed := time.monotonic() - began) < timeout:
            if passed > NOTICE and not any(member in self._draining for member in members):
                return
            await asyncio.sleep(POLL_EVERY)
