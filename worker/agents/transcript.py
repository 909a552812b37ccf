"""The reply of a run in which several agents speak, written into one sink."""

import itertools
from collections.abc import Callable

from fleet.lane import Producer
from protos import chat_pb2 as pb
from worker.contract.sink import Sink

RESULT_LIMIT = 64 * 1024
"""Characters of a tool's result that the client sees. The agent gets all of it."""

CUT = "… (cut off)"


class Transcript:
    """Text of a source that ``answers`` is the reply's text; the others' is reasoning.

    A message of a source begins with its first text, and ends with :meth:`end`. Models that speak at the same time
    are paused and resumed together: one client reads them all.
    """

    def __init__(self, sink: Sink, answers: Callable[[str], bool] = lambda _: True) -> None:
        self._sink = sink
        self._answers = answers
        self._ids = itertools.count(1)
        self._open: dict[str, str] = {}
        """The id of each source's message that has begun."""
        self._spoken: dict[str, list[str]] = {}
        """Text of those messages."""
        self._producers: list[Producer] = []
        self._is_paused = False
        sink.attach(self)

    def close(self) -> None:
        self._sink.attach(None)

    # ------------------------------------------------------------ what is said

    def text(self, source: str, text: str, tokens: int = 1) -> None:
        self._begin(source)
        self._spoken[source].append(text)
        write = self._sink.text if self._answers(source) else self._sink.reasoning
        write(text, tokens, source)

    def reasoning(self, source: str, text: str, tokens: int = 1) -> None:
        self._begin(source)
        self._sink.reasoning(text, tokens, source)

    def message(self, source: str, text: str) -> None:
        """A whole message of ``source``: written unless its model has spoken it already."""
        spoken = "".join(self._spoken.get(source, ()))
        if spoken != text:
            if spoken:
                self.end(source)
            if text:
                self.text(source, text)
        self.end(source)

    def end(self, source: str) -> None:
        """The message that ``source`` has begun, if any, is complete."""
        self._spoken.pop(source, None)
        if id_ := self._open.pop(source, ""):
            self._sink.event(pb.ReplyEvent(source=source, message=pb.MessageMark(id=id_, end=True)))

    def end_all(self) -> None:
        for source in list(self._open):
            self.end(source)

    def event(self, source: str, event: pb.ReplyEvent) -> None:
        event.source = source
        self._sink.event(event)

    def call(self, source: str, index: int, id_: str, name: str, arguments: str) -> None:
        """``source`` calls a tool that runs here."""
        self.end(source)
        call = pb.ToolCall(id=id_, name=name, arguments=arguments, index=index)
        self.event(source, pb.ReplyEvent(tool_call=call))

    def result(self, source: str, call_id: str, name: str, content: str, is_error: bool) -> None:
        shown = content if len(content) <= RESULT_LIMIT else content[: RESULT_LIMIT - len(CUT)] + CUT
        result = pb.ToolResult(call_id=call_id, name=name, content=shown, is_error=is_error)
        self.event(source, pb.ReplyEvent(tool_result=result))

    async def ready(self) -> None:
        """Wait until the client has read enough."""
        await self._sink.ready()

    def _begin(self, source: str) -> None:
        if source not in self._open:
            self._open[source] = id_ = f"message-{next(self._ids)}"
            self._spoken[source] = []
            self._sink.event(pb.ReplyEvent(source=source, message=pb.MessageMark(id=id_)))

    # ------------------------------------------------------------ who is paused while the client does not read

    def attach(self, producer: Producer) -> None:
        self._producers.append(producer)
        if self._is_paused:
            producer.pause_reading()

    def detach(self, producer: Producer) -> None:
        self._producers.remove(producer)

    def pause_reading(self) -> None:
        self._is_paused = True
        for producer in self._producers:
            producer.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        for producer in self._producers:
            producer.resume_reading()
