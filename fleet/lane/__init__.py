"""The lane: events from one worker to one gateway, complete, in order and once, over a bus that may lose anything.

``reply``, ``sender`` and ``receiver`` are pure: they take messages and the time, and know no socket and no loop.
``outbox`` (worker) and ``inbox`` (gateway) are their asyncio shells. Imports ``protos`` only.
"""

from fleet.lane.inbox import Inbox, IncomingReply
from fleet.lane.outbox import Outbox, Producer, Sink
from fleet.lane.receiver import Arrival, LaneReceiver
from fleet.lane.reply import CREDIT, SLICE, EventTooLarge, OutgoingReply, payload_bytes, text_bytes
from fleet.lane.sender import IN_FLIGHT, QUIET, WINDOW, LaneSender
from fleet.lane.slots import delay, slot, slot_begins

__all__ = [
    "CREDIT",
    "IN_FLIGHT",
    "QUIET",
    "SLICE",
    "WINDOW",
    "Arrival",
    "EventTooLarge",
    "Inbox",
    "IncomingReply",
    "LaneReceiver",
    "LaneSender",
    "Outbox",
    "OutgoingReply",
    "Producer",
    "Sink",
    "delay",
    "payload_bytes",
    "slot",
    "slot_begins",
    "text_bytes",
]
