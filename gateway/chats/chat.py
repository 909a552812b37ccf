"""One request: what is asked, its reply, and the record of how it went."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.chats.reply import Completed, Reply
from gateway.errors import GatewayError
from gateway.routing.admission import Claim
from gateway.routing.directory import CHAT
from protos import chat_pb2 as pb


@dataclass(slots=True, kw_only=True)
class Record:
    """What is known of one HTTP request, filled in as it goes: its log line, its metrics and its span are made of it.

    ``face`` is empty for what is no chat; ``chat`` is None for one that was refused before it could wait for a worker.

    ``code`` is ``ok``, ``client_gone``, ``client_stalled`` or an error's; empty for an answer of another kind. Times
    are in seconds of the monotonic clock.
    """

    request_id: str = ""
    client: str = ""
    traceparent: str = ""
    tracestate: str = ""
    """The client's trace, if it sent a valid one."""
    path: str = ""
    route: str = ""
    """The pattern of the path, of the face that answers."""
    began: float = 0.0
    ended: float = 0.0
    face: str = ""
    model: str = ""
    """The one that is asked, or the default if it is known; a chat knows which one answers."""
    key: str = ""
    stream: bool = False
    status: int = 0
    code: str = ""
    is_failure: bool = False
    """Whether it ended for a reason that whoever runs the fleet should know of."""
    chat: "Chat | None" = None
    fields: dict[str, Any] = field(default_factory=dict)
    """What an observer adds to the line in the log, such as ``trace_id``."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def end(self, end: GatewayError | Completed) -> None:
        self.code, self.is_failure = end.code, end.is_failure

    def fail(self) -> None:
        """It ended because of a defect."""
        self.code, self.is_failure = "internal_error", True

    def line(self) -> dict[str, Any]:
        """How a chat ended, as fields of the log."""
        if not self.face:
            return {"code": self.code} if self.code else {}
        line: dict[str, Any] = {"code": self.code, "face": self.face, "model": self.model}
        if self.key:
            line["key"] = self.key
        if (chat := self.chat) is not None:
            line |= {
                "model": chat.model or self.model,
                "worker": chat.worker,
                "attempts": chat.attempts,
                "tokens": chat.reply.tokens,
            }
            usage = chat.usage
            if usage is not None:
                prompt = {"prompt_tokens": usage.prompt_tokens} if usage.prompt_tokens else {}
                line |= prompt | {"completion_tokens": usage.completion_tokens}
            if chat.finish_reason:
                line["finish"] = chat.finish_reason
            line["queued_ms"] = _ms(chat.claim.waited)
            if chat.first_at is not None:
                line["first_ms"] = _ms(chat.first_at - self.began)
        return line


class Chat:
    """One request: what is asked, and its reply. ``forget`` is called when the history is no longer needed.

    ``allows`` says which models' names its client may be told. It has 14 attributes because what drives a reply, what
    answers with it and what records it share it.
    """

    def __init__(
        self,
        history: pb.ChatHistory,
        forget: Callable[[], None] = lambda: None,
        allows: Callable[[str], bool] = lambda _: True,
        record: Record | None = None,
    ) -> None:
        self.record = record or Record(request_id=history.request_id)
        self.record.chat = self
        self.request_id = history.request_id
        self.asked = history.model
        """The model that the request names; empty for a worker's default."""
        self.claim = Claim(history.model, history.endpoint or CHAT, allows)
        self.model = self.asked
        self.history: pb.ChatHistory | None = history
        """None from the first event on, when no other attempt can follow."""
        self.deadline = math.inf
        self.attempts = 0
        """How many there were, without workers that were full."""
        self.calls = 0
        """How often a model was called in vain."""
        self.worker = ""
        """The worker of the last attempt."""
        self.first_at: float | None = None
        """When the first event arrived."""
        self.reply = Reply()
        self._forget = forget

    def finish(self, error: GatewayError) -> None:
        self.reply.finish(error.after(self.attempts, self.reply.tokens, repeated=self.calls > 1))

    @property
    def usage(self) -> pb.Usage | None:
        """What it has used, once it has ended and if that is known."""
        return self.reply.end.usage if self.reply.end is not None else None

    @property
    def finish_reason(self) -> str:
        return self.reply.end.finish_reason if isinstance(self.reply.end, Completed) else ""

    def forget_history(self) -> None:
        self.history = None
        self._forget()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
