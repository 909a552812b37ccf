"""Which of a reply's tool calls a part belongs to, however its provider numbers and labels the parts.

A part with a known id belongs to that call. An index that a call with another id has is a new call's, if the part has a
name too. Parts without an index or id belong to the last call, unless they begin another. A call gets an index of its
own, and an id if its first part has none, so that the client can send it back.
"""

import uuid
from collections.abc import Iterator

from worker.contract.tool_call import ID_LIMIT, NAME_LIMIT
from worker.contract.utf8 import SurrogateJoiner
from worker.openai.chunk import NoChunk

CALLS_LIMIT = 1024
"""Tool calls of one reply, and parts of calls in one event."""

INDEX_LIMIT = 2**32


class Call:
    """A tool call so far: its id and name, and half a character of its arguments."""

    __slots__ = ("_arguments", "ended", "id", "index", "is_made", "name", "started")

    def __init__(self, index: int, id_: str) -> None:
        self.index = index
        self.id = id_ or f"call_{uuid.uuid4().hex[:24]}"
        self.is_made = not id_
        self.name = ""
        self.started = self.ended = False
        """Whether it has arguments, and whether they may be complete: the last part ended with a brace."""
        self._arguments = SurrogateJoiner()

    def add(self, id_: str, name: str, arguments: str) -> tuple[str, str, str]:
        """Add a part; return what it adds to the id and the name, and the arguments to write.

        Raises :class:`NoChunk` for a long id or name.
        """
        more_id, more_name = "", ""
        if not self.started and (id_ or name):  # they are repeated, alone or with what is new, or come in pieces
            if not self.is_made and id_.startswith(self.id):
                more_id, self.id = id_[len(self.id) :], id_
            more_name = name.removeprefix(self.name)
            self.name += more_name
            if len(self.id) > ID_LIMIT:
                raise NoChunk(f"a tool call's id is longer than {ID_LIMIT:,} characters")
            if len(self.name) > NAME_LIMIT:
                raise NoChunk(f"a tool call's name is longer than {NAME_LIMIT:,} characters")
        if arguments:
            self.started, self.ended = True, arguments.endswith("}")
        return more_id, more_name, self._arguments.join(arguments)

    def end(self) -> str:
        return self._arguments.end()


class Calls:
    def __init__(self) -> None:
        self._by_index: dict[int, Call] = {}
        """The latest call of each index of the provider's."""
        self._by_id: dict[str, Call] = {}
        self._all: dict[int, Call] = {}
        self._last: Call | None = None

    def __iter__(self) -> Iterator[Call]:
        return iter(self._all.values())

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, index: int | None, id_: str, name: str, *, first: bool) -> tuple[Call, bool]:
        """The call of a part, and whether it is new; ``first`` says that no part came before it in its chunk.

        Raises :class:`NoChunk`.
        """
        if index is not None and not (id_ or name) and (known := self._by_index.get(index)) is not None:
            self._last = known
            return known, False
        if index is not None and not 0 <= index < INDEX_LIMIT:
            raise NoChunk("a tool call's index is no whole number from 0 to 4,294,967,295")
        call = self._known(index, id_, name, first)
        is_new = call is None
        if call is None:
            call = self._new(index, id_)
        if index is not None:
            self._by_index[index] = call
        self._last = call
        return call, is_new

    def _known(self, index: int | None, id_: str, name: str, first: bool) -> Call | None:
        call = self._last if index is None else self._by_index.get(index)
        if call is None or id_ == call.id:
            return call
        if id_ in self._by_id:
            return self._by_id[id_]
        if not name:
            return call
        if id_ and not call.is_made:
            return call if not call.started and id_.startswith(call.id) and name.startswith(call.name) else None
        if index is None and not (first and name.startswith(call.name)):
            return None
        return None if call.ended or (call.started and name != call.name) else call

    def _new(self, index: int | None, id_: str) -> Call:
        if len(self._all) >= CALLS_LIMIT:
            raise NoChunk(f"more than {CALLS_LIMIT:,} tool calls")
        if index is None or index in self._all:
            index = max(self._all, default=-1) + 1
        call = self._all[index] = Call(index, id_)
        self._by_id[call.id] = call
        return call
