"""A sender with one reply, and what a test does with it."""

from fleet.lane import LaneSender, OutgoingReply
from protos import chat_pb2 as pb

FLUSH = 0.01
HIGH = 2**63


def make_sender() -> tuple[LaneSender, OutgoingReply]:
    sender = LaneSender("w", 7, FLUSH)
    return sender, sender.open("r", 1)


def ack(received: int, *, epoch: int = 7, consumed: int = 0) -> pb.ChunkAck:
    credit = [pb.Credit(request_id="r", attempt=1, consumed=consumed)] if consumed else []
    return pb.ChunkAck(gateway_id="g", epoch=epoch, received=received, credits=credit)


def send(sender: LaneSender, stream: OutgoingReply, now: float) -> list[pb.ChunkBatch]:
    """Write one character, and flush."""
    sender.write(stream, "text", "x")
    return sender.due(now)


def text_of(batches: list[pb.ChunkBatch]) -> str:
    return "".join(event.text for batch in batches for event in batch.events)
