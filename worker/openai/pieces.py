"""What a model's stream is made of, as strings that AutoGen's ``create_stream`` may yield."""

from typing import Self


class TextPiece(str):
    """Text that came together: ``tokens`` counts the model's pieces that it is made of."""

    __slots__ = ("tokens",)

    tokens: int

    def __new__(cls, text: str, tokens: int = 1) -> Self:
        piece = super().__new__(cls, text)
        piece.tokens = tokens
        return piece


class ReasoningText(TextPiece):
    """The same of what the model thought, as opposed to what it answers."""

    __slots__ = ()


class ToolCallPart(str):
    """A part of a tool call as it is streamed: no text, so that it does no harm where it is taken for some."""

    __slots__ = ("arguments", "id", "name", "position")

    position: int
    id: str
    name: str
    arguments: str

    def __new__(cls, position: int, id: str, name: str, arguments: str) -> "ToolCallPart":  # noqa: A002
        """``id`` and ``name`` come with the first part of a ``position``, ``arguments`` in any number of parts."""
        part = super().__new__(cls)
        part.position, part.id, part.name, part.arguments = position, id, name, arguments
        return part


class TokenLogprobs(str):
    """The log probabilities of the text just given, in order, as ``json``: a part of OpenAI's ``logprobs.content``.

    No text itself.
    """

    __slots__ = ("json",)

    json: str

    def __new__(cls, json: str) -> "TokenLogprobs":
        """``json`` is an array with an object per token."""
        piece = super().__new__(cls)
        piece.json = json
        return piece


def joined(pieces: list[str]) -> list[str]:
    """``pieces`` with neighbouring text of one kind made one piece."""
    found: list[str] = []
    run: list[TextPiece] = []
    for piece in [*pieces, None]:
        if run and type(piece) is not type(run[0]):
            found.append(type(run[0])("".join(run), sum(part.tokens for part in run)))
            run = []
        if isinstance(piece, TextPiece):
            run.append(piece)
        elif piece is not None:
            found.append(piece)
    return found
