"""The arguments of a tool call that comes back, for APIs that take them as an object."""

from typing import Any

import msgspec
import orjson

from worker.contract.errors import Unsupported

LIMIT = 4 * 1024 * 1024
"""Bytes of one call's arguments, which are checked in one step."""


class _Object(msgspec.Struct):
    """Any JSON object: what it holds is checked and not built."""


_object = msgspec.json.Decoder(_Object)


def parsed_arguments(arguments: Any, where: str) -> dict[str, Any] | orjson.Fragment:
    """What ``arguments`` say; as they were written, if they are text. Raises :class:`Unsupported`."""
    if isinstance(arguments, dict):
        return arguments
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else str(arguments)
    if not arguments.strip():
        return {}
    if len(arguments) > LIMIT:
        raise Unsupported(f"{where}: are longer than {LIMIT:,} characters")
    try:
        _object.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise Unsupported(f"{where}: are no JSON object") from None
    return orjson.Fragment(arguments)
