"""What a field of a request must be, so that it can be translated."""

from typing import Any

from worker.contract.errors import Unsupported

Json = dict[str, Any]


def listed(value: object, where: str) -> list[Any]:
    """``value`` as a list; null is an empty one. Raises :class:`Unsupported`."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unsupported(f"{where}: must be a list")
    return value


def mapped(value: object, where: str) -> Json:
    """``value`` as an object; null is an empty one. Raises :class:`Unsupported`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unsupported(f"{where}: must be an object")
    return value
