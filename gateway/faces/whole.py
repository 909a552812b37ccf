"""What a whole answer is made of, gathered in steps: a reply may have tens of thousands of events."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet.process.turns import Steps
from gateway.faces.agents import Messages, Paragraphs
from gateway.faces.fields import Fields, Json, Parts
from protos import chat_pb2 as pb


@dataclass
class Whole:
    text: str = ""
    reasoning: str = ""
    calls: list[pb.ToolCall] = field(default_factory=list)
    """In the order of their index."""
    logprobs: list[str] = field(default_factory=list)
    """JSON lists of tokens."""
    messages: list[Json] = field(default_factory=list)
    """What each agent said and did; empty for a model."""
    parts: list[Parts] = field(default_factory=list)
    """Of each chunk that had other fields."""


def gathered(events: Iterable[pb.ReplyEvent], fields: Fields) -> Steps[Whole]:
    """All that a completed reply says. ``fields`` reads the objects."""
    whole = Whole()
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, list[pb.ToolCall]] = {}
    messages, paragraphs = Messages(), Paragraphs()
    for event in events:
        yield
        if event.source:
            messages.add(event)
        if event.HasField("message"):
            paragraphs.mark()
        if event.text:
            text += [paragraphs.before("text", event.source), event.text]
        elif event.reasoning:
            reasoning += [paragraphs.before("reasoning", event.source), event.reasoning]
        if event.logprobs:
            whole.logprobs.append(event.logprobs)
        if event.HasField("tool_call") and not event.source:
            calls.setdefault(event.tool_call.index, []).append(event.tool_call)
        elif event.HasField("fields") and (parts := fields.read(event.fields)):
            whole.parts.append(parts)
    whole.messages = messages.read()
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
