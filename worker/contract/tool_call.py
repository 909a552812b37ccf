"""A model's tool call, or a part of one, as an event of the reply."""

from autogen_core import FunctionCall
from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from worker.contract.errors import StreamBroken
from worker.contract.utf8 import clean

NAME_LIMIT = 1024
"""Characters of a tool call's name."""

ID_LIMIT = 16 * 1024
"""Characters of a tool call's id, in which some servers put a model's signature."""


def tool_call(index: int, id: str, name: str, arguments: str) -> pb.ReplyEvent:  # noqa: A002
    """The event. Raises :class:`StreamBroken` for a long id or name; the lane cuts long arguments."""
    if len(id) > ID_LIMIT or len(name) > NAME_LIMIT:
        raise StreamBroken(
            f"a tool call's id is longer than {ID_LIMIT:,} characters, or its name than {NAME_LIMIT:,}",
            RequestUsage(0, 0),
        )
    call = pb.ToolCall(index=index, id=clean(id), name=clean(name), arguments=clean(arguments))
    return pb.ReplyEvent(tool_call=call)


def join(calls: dict[int, FunctionCall], part: pb.ToolCall) -> None:
    """Add a part to the call of its index, which it begins if there is none. An id or a name may be repeated."""
    call = calls.setdefault(part.index, FunctionCall(id="", name="", arguments=""))
    if part.id != call.id:
        call.id += part.id
    if part.name != call.name:
        call.name += part.name
    call.arguments += part.arguments
