"""The lane: chunks from one worker to one gateway, complete, in order and once, over a bus that may lose anything.

``sender`` and ``receiver`` are pure: they take messages and the time, and know no socket and no loop. ``outbox``
(worker) and ``inbox`` (gateway) are their asyncio shells. Imports ``protos`` only.
"""

from fleet.lane.inbox import Inbox
from fleet.lane.outbox import SLICE, Outbox, OutgoingReply
from fleet.lane.receiver import Arrival, LaneReceiver
from fleet.lane.sender import CREDIT, IN_FLIGHT, QUIET, WINDOW, LaneSender, OutgoingStream, payload_bytes, text_bytes
from fleet.lane.slots import delay, slot, slot_begins

__all__ = [
    "CREDIT",
    "IN_FLIGHT",
    "QUIET",
    "SLICE",
    "WINDOW",
    "Arrival",
    "Inbox",
    "LaneReceiver",
    "LaneSender",
    "Outbox",
    "OutgoingReply",
    "OutgoingStream",
    "delay",
    "payload_bytes",
    "slot",
    "slot_begins",
    "text_bytes",
]
