"""AgentChat's messages and events, written into a transcript."""

from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    HandoffMessage,
    ModelClientStreamingChunkEvent,
    MultiModalMessage,
    SelectorEvent,
    SelectSpeakerEvent,
    ThoughtEvent,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
    UserInputRequestedEvent,
)

from protos import chat_pb2 as pb
from worker.agents.ledger import Ledger
from worker.agents.transcript import RESULT_LIMIT, Transcript

Event = BaseChatMessage | BaseAgentEvent

NOT_SHOWN = (SelectSpeakerEvent, SelectorEvent, UserInputRequestedEvent)
"""How a team decides who speaks is not part of its answer."""


class Writer:
    """``tapped`` are the agents whose model writes into the transcript itself, and counts its usage;
    only ``speakers`` are heard as they speak, or everybody."""

    def __init__(
        self, transcript: Transcript, ledger: Ledger, tapped: frozenset[str], speakers: frozenset[str] | None
    ) -> None:
        self._transcript = transcript
        self._ledger = ledger
        self._tapped = tapped
        self._speakers = speakers

    def write(self, event: Event) -> None:
        if event.source not in self._tapped:
            self._ledger.count(event.source, event.models_usage)
        if isinstance(event, BaseChatMessage):
            self._message(event)
        elif not isinstance(event, NOT_SHOWN):
            self._event(event)

    def _message(self, message: BaseChatMessage) -> None:
        source, transcript = message.source, self._transcript
        match message:
            case HandoffMessage():
                transcript.end(source)
                handoff = pb.Handoff(target=message.target, content=message.content[:RESULT_LIMIT])
                transcript.event(source, pb.ReplyEvent(handoff=handoff))
            case MultiModalMessage():
                transcript.message(source, "\n".join(part for part in message.content if isinstance(part, str)))
            case _:
                transcript.message(source, message.to_text())

    def _event(self, event: BaseAgentEvent) -> None:
        source, transcript = event.source, self._transcript
        match event:
            case ModelClientStreamingChunkEvent():
                if self._speakers is None or source in self._speakers:  # else a selector's own words
                    transcript.text(source, event.content)
            case ThoughtEvent():
                if source not in self._tapped:
                    transcript.reasoning(source, event.content)
            case ToolCallRequestEvent():
                for index, call in enumerate(event.content):
                    transcript.call(source, index, call.id, call.name, call.arguments)
            case ToolCallExecutionEvent():
                for result in event.content:
                    transcript.result(source, result.call_id, result.name, result.content, bool(result.is_error))
            case _:
                self._custom(event)

    def _custom(self, event: BaseAgentEvent) -> None:
        told = event.model_dump_json(exclude={"models_usage", "metadata", "created_at", "source", "type"})
        if len(told) <= RESULT_LIMIT:
            kind = getattr(event, "type", type(event).__name__)
            self._transcript.event(event.source, pb.ReplyEvent(custom=pb.Custom(kind=kind, json=told)))
