"""Text and reasoning on their way into a sink."""

from typing import Literal

from worker.contract.sink import Sink
from worker.contract.utf8 import SurrogateJoiner


class Text:
    """Joins text of one kind that arrives together, so that it is written once."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._kind: Literal["text", "reasoning"] = "text"
        self._pieces: list[str] = []
        self._tokens = 0
        self._joiner = SurrogateJoiner()

    def add(self, kind: Literal["text", "reasoning"], text: str) -> None:
        if kind != self._kind:
            self.end()
            self._kind = kind
        self._pieces.append(text)
        self._tokens += 1

    def flush(self) -> None:
        if self._pieces:
            text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
            self._pieces.clear()
            self._write(self._joiner.join(text))

    def end(self) -> None:
        """Write also what was held back for the other half of a character: text of another kind follows, or none."""
        self.flush()
        self._write(self._joiner.end())

    def _write(self, text: str) -> None:
        if text:
            write = self._sink.text if self._kind == "text" else self._sink.reasoning
            write(text, self._tokens)
            self._tokens = 0
