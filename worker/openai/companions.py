"""What choices and chunks hold beside their deltas: it is written when it changes."""

from worker.contract.fields import Json, dumps
from worker.openai.chunk import NONE, Choice, Chunk, NoChunk, Raw, loads
from worker.openai.lenient import Rest
from worker.openai.writer import Writer

NAMES_LIMIT = 1000
"""Fields of choices and chunks that a stream may have."""

_OF_EMPTY = frozenset(
    {"stop_reason", "native_finish_reason", "matched_stop", "token_ids", "seed", "finish_details"}
    | {"content_filter_results", "content_filter_offsets", "content_filter_result", "safetyRatings", "safety_ratings"}
)
"""Fields of a choice that an empty reply may have. With others that are not understood, it may not be empty at all."""


class Companions:
    def __init__(self, writer: Writer) -> None:
        self.unknown: set[str] = set()
        """Fields of choices in which a reply could be that seems to be empty."""
        self._writer = writer
        self._seen: dict[tuple[str, str], int] = {}
        """Hashes of the values as they were last."""
        self._constants = (NONE, NONE)
        self._filters = NONE

    def of_chunk(self, chunk: Chunk) -> None:
        """Note what a chunk of the common shape has, cheaply if nothing is new. Raises :class:`NoChunk`."""
        constants = chunk.system_fingerprint, chunk.service_tier
        if constants != self._constants:
            self._constants = constants
            self._note(Rest(chunk=_loaded(system_fingerprint=constants[0], service_tier=constants[1])))

    def of_choice(self, choice: Choice) -> None:
        if choice.content_filter_results != self._filters:
            self._filters = choice.content_filter_results
            self._note(Rest(choice=_loaded(content_filter_results=self._filters)))

    def of_rest(self, rest: Rest) -> None:
        """Note what a chunk of another shape has. Raises :class:`NoChunk`."""
        self._constants, self._filters = (NONE, NONE), NONE
        self._note(rest)

    def _note(self, rest: Rest) -> None:
        others = rest.choice.items()
        self.unknown |= {name for name, value in others if value and isinstance(value, dict | list | str)} - _OF_EMPTY
        for part, fields in (("choice", rest.choice), ("chunk", rest.chunk)):
            for name, value in fields.items():
                if value in ("", [], {}) and (part, name) in self._seen:
                    continue  # Azure's last chunk has its filters without results
                text = dumps(value)
                if self._seen.get((part, name)) != hash(text):
                    self._seen[part, name] = hash(text)
                    self._writer.hold(part, name, value, len(text))
        if len(self._seen) > NAMES_LIMIT:
            raise NoChunk(f"chunks have more than {NAMES_LIMIT:,} fields")


def _loaded(**texts: Raw) -> Json:
    return {name: loads(bytes(text)) for name, text in texts.items() if bytes(text) not in (b"", b"null")}
