"""Tools, and whether they must be used, as the Messages API takes them."""

from collections.abc import Sequence
from typing import Any

from fleet.process.turns import Turn
from worker.claude.shapes import listed, mapped
from worker.contract.errors import Unsupported

Json = dict[str, Any]

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


async def declared(tools: Any, turn: Turn) -> list[Json]:
    """Function tools with their schemas as they are. Tools of Claude's own kinds go as they came.

    Raises :class:`Unsupported`.
    """
    found = []
    for index, tool in enumerate(listed(tools, "tools")):
        await turn.pause()
        found.append(_declared(tool, f"tools[{index}]"))
    return found


def _declared(given: object, where: str) -> Json:
    tool = mapped(given, where)
    if tool.get("type") == "custom" and "custom" in tool:
        raise Unsupported(f"{where}: Claude has no tools that take free text")
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict):
        return tool
    parameters = mapped(function.get("parameters"), f"{where}.function.parameters")
    made = {name: value for name, value in function.items() if name != "parameters" and value is not None}
    if not made.get("strict"):
        made.pop("strict", None)
    rest = {name: value for name, value in tool.items() if name not in ("type", "function")}
    return {**made, "input_schema": {"type": "object", **parameters}, **rest}


def named_in(turns: Sequence[Json]) -> list[Json]:
    """A tool for each that the conversation calls: Claude refuses calls in a request without tools."""
    blocks = (block for turn in turns for block in turn["content"] if block.get("type") == "tool_use")
    names = dict.fromkeys(str(block.get("name")) for block in blocks)
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def choice(asked: Any, *, parallel: bool) -> Json | None:
    """``tool_choice``; None if nothing was said. Claude's own words go as they came. Raises :class:`Unsupported`."""
    match asked:
        case None if parallel:
            return None
        case None:
            made: Json = {"type": "auto"}
        case str():
            made = {"type": _CHOICES.get(asked, asked)}
        case {"type": "function", "function": {"name": name}}:
            made = {"type": "tool", "name": name}
        case {"type": "allowed_tools" | "custom"}:
            raise Unsupported(f"tool_choice: Claude has no {asked['type']}")
        case dict():
            made = dict(asked)
        case _:
            raise Unsupported("tool_choice: must be text or an object")
    if not parallel and made.get("type") != "none":
        made["disable_parallel_tool_use"] = True
    return made
