"""Which of a reply's tool calls a part belongs to, however its provider numbers and labels the parts.

A part with a known id belongs to that call. An index that a call with another id has is a new call's, if the part has a
name too. Parts without an index or id belong to the last call, unless they begin another. A call gets an index of its
own, and an id if its first part has none or another call's, so that the client can send it back.
"""

import re
import uuid
import zlib
from collections.abc import Iterator

from worker.contract.tool_call import ID_LIMIT, NAME_LIMIT
from worker.contract.utf8 import SurrogateJoiner
from worker.openai.chunk import NoChunk

CALLS_LIMIT = 1024
"""Tool calls of one reply, and parts of calls in one event."""

INDEX_LIMIT = 2**32

_BEGINNING = re.compile(r'\s*\{\s*"')
"""Of an object. After a brace it continues nothing, and in a string neither."""


class Call:
    """A tool call so far: its id and name, and what tells its arguments' next part from a repetition.

    Some providers send arguments more than once: again whole at the end, or in each part all that came before. Only
    the new is written. A first ``{}`` is held back, because the arguments may follow it.
    """

    __slots__ = ("_arguments", "_checksum", "_held", "_last", "_repeats", "_size", "given", "id", "index", "name")

    def __init__(self, index: int, given: str, *, is_taken: bool) -> None:
        """``given`` is the provider's id, which another call may have, too."""
        self.index = index
        self.given = given
        self.id = f"call_{uuid.uuid4().hex[:24]}" if is_taken or not given else given
        self.name = ""
        self._arguments = SurrogateJoiner()
        self._held = ""
        self._repeats = False
        self._size = self._checksum = 0
        self._last = ""
        """Of the arguments' characters, but for blanks."""

    @property
    def started(self) -> bool:
        """Whether it has arguments."""
        return bool(self._last)

    def ends_before(self, name: str, arguments: str) -> bool:
        """Whether a part with a name and no id begins the next call."""
        if self.started and name != self.name:
            return True
        if self._last != "}" or arguments.lstrip()[:1] not in ("", "{"):
            return False
        return not (self.given and self._continues(arguments))

    def ends_within(self, name: str, arguments: str) -> bool:
        """The same for a part that has this call's id, which some providers give to every call."""
        if not (self.started and name):
            return False
        begins = self._last == "}" and _BEGINNING.match(arguments) is not None
        return name != self.name or (begins and not self._continues(arguments))

    def add(self, id_: str, name: str, arguments: str) -> tuple[str, str, str]:
        """Add a part; return what it adds to the id and the name, and the arguments to write.

        Raises :class:`NoChunk` for a long id or name.
        """
        more_id, more_name = "", ""
        if not self.started and (id_ or name):  # they are repeated, alone or with what is new, or come in pieces
            if self.id == self.given and id_.startswith(self.id):
                more_id, self.id = id_[len(self.id) :], id_
                self.given = id_
            more_name = name.removeprefix(self.name)
            self.name += more_name
            if len(self.id) > ID_LIMIT:
                raise NoChunk(f"a tool call's id is longer than {ID_LIMIT:,} characters")
            if len(self.name) > NAME_LIMIT:
                raise NoChunk(f"a tool call's name is longer than {NAME_LIMIT:,} characters")
        return more_id, more_name, self._arguments.join(self._new(arguments)) if arguments else ""

    def end(self) -> str:
        return self._held + self._arguments.end()

    def _new(self, arguments: str) -> str:
        """What of ``arguments`` was not there before."""
        if self._held:
            held, self._held = self._held, ""
            if not arguments.lstrip().startswith("{"):
                arguments = held + arguments
        elif not self.started and arguments == "{}":
            self._held, self._last = arguments, "}"
            return ""
        elif self._is_repeated(arguments):
            self._repeats = True
            arguments = arguments[self._size :]
        self._size += len(arguments)
        self._checksum = _checksum(arguments, self._checksum)
        self._last = arguments.rstrip()[-1:] or self._last
        return arguments

    def _continues(self, arguments: str) -> bool:
        """Whether they say again what the call has already, or come after an empty object."""
        return bool(arguments and self._held) or self._is_repeated(arguments)

    def _is_repeated(self, arguments: str) -> bool:
        """Whether ``arguments`` begin with all that came before.

        Where a value may follow, it could also be an object like the one around it, until the call has repeated once.
        """
        if not 0 < self._size <= len(arguments) or not arguments.startswith(("{", "[")):
            return False
        if not self._repeats and self._last in (":", ",", "["):
            return False
        return _checksum(arguments[: self._size]) == self._checksum


def _checksum(text: str, so_far: int = 0) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), so_far)


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

    def find(self, index: int | None, id_: str, name: str, arguments: str = "", *, first: bool) -> tuple[Call, bool]:
        """The call of a part, and whether it is new; ``first`` says that no part came before it in its chunk.

        Raises :class:`NoChunk`.
        """
        if index is not None and not (id_ or name) and (known := self._by_index.get(index)) is not None:
            self._last = known
            return known, False
        if index is not None and not 0 <= index < INDEX_LIMIT:
            index = None
        call = self._known(index, id_, name, arguments, first)
        is_new = call is None
        if call is None:
            call = self._new(index, id_)
        if index is not None and (is_new or index in self._by_index):
            self._by_index[index] = call
        self._last = call
        return call, is_new

    def _known(self, index: int | None, id_: str, name: str, arguments: str, first: bool) -> Call | None:
        call = self._last if index is None else self._by_index.get(index)
        if call is None:  # an index that strayed
            return None if name else self._by_id.get(id_) if id_ else self._last
        if id_ and (known := call if id_ == call.given else self._by_id.get(id_)) is not None:
            return None if known.ends_within(name, arguments) else known
        if not name:
            return call
        if id_ and call.given:
            return call if not call.started and id_.startswith(call.given) and name.startswith(call.name) else None
        if index is None and not (first and name.startswith(call.name)):
            return None
        return None if call.ends_before(name, arguments) else call

    def _new(self, index: int | None, id_: str) -> Call:
        if len(self._all) >= CALLS_LIMIT:
            raise NoChunk(f"more than {CALLS_LIMIT:,} tool calls")
        if index is None or index in self._all:
            index = max(self._all, default=-1) + 1
        call = self._all[index] = Call(index, id_, is_taken=id_ in self._by_id)
        self._by_id[id_] = call
        return call
