"""What a whole answer is made of, gathered in steps: a reply may have tens of thousands of events."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet.process.turns import Steps
from gateway.faces.fields import Fields, Parts
from protos import chat_pb2 as pb


@dataclass
class Whole:
    text: str = ""
    reasoning: str = ""
    calls: list[pb.ToolCall] = field(default_factory=list)
    """In the order of their index."""
    logprobs: list[str] = field(default_factory=list)
    """JSON lists of tokens."""
    parts: list[Parts] = field(default_factory=list)
    """Of each chunk that had other fields."""


def gathered(events: Iterable[pb.ReplyEvent], fields: Fields) -> Steps[Whole]:
    """All that a completed reply says. ``fields`` reads the objects."""
    whole = Whole()
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, list[pb.ToolCall]] = {}
    for event in events:
        yield
        text.append(event.text)
        reasoning.append(event.reasoning)
        if event.logprobs:
            whole.logprobs.append(event.logprobs)
        if event.HasField("tool_call"):
            calls.setdefault(event.tool_call.index, []).append(event.tool_call)
        elif event.HasField("fields") and (parts := fields.read(event.fields)):
            whole.parts.append(parts)
    whole.text, whole.reasoning = "".join(text), "".join(reasoning)
    for _, pieces in sorted(calls.items()):
        yield
        whole.calls.append(_joined(pieces))
    return whole


def _joined(pieces: list[pb.ToolCall]) -> pb.ToolCall:
    return pb.ToolCall(
        index=pieces[0].index,
        id="".join([piece.id for piece in pieces]),
        name="".join([piece.name for piece in pieces]),
        arguments="".join([piece.arguments for piece in pieces]),
    )
