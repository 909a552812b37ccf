"""What the scripts of Python SDKs share: the task, which comes as JSON on standard input, and the report.

They run in environments that ``tests/clients/tools.py`` makes, so only the standard library is imported here.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

task: dict[str, Any] = json.load(sys.stdin)


def report(*flows: Callable[[], Any], ask: Callable[..., Any]) -> None:
    """Run every flow and print, as one JSON object, what each gave or threw.

    ``ask(name, model=…, url=…)`` puts one question of the task. Those that are refused are reported too.
    """
    named = {flow.__name__: flow for flow in flows} | {
        "too_long": lambda: failure(lambda: ask("too_long")),
        "filtered": lambda: failure(lambda: ask("filtered")),
        "limited": lambda: failure(lambda: ask("limited")),
        "unauthorized": lambda: failure(lambda: ask("object", url="keyed_url")),
        "unknown_model": lambda: failure(lambda: ask("object", model="no-such")),
    }
    said: dict[str, Any] = {}
    for name, flow in named.items():
        try:
            said[name] = flow()
        except Exception:
            said[name] = {"raised": traceback.format_exc()}
    json.dump(said, sys.stdout)


def failure(flow: Callable[[], Any]) -> Any:
    """What a flow that must fail raises: its kinds and those of its causes, and what the SDK kept of the answer."""
    try:
        given = flow()
    except Exception as error:  # what kind it is, is what the test asks
        chain = list(_chain(error))
        kinds = [kind.__name__ for each in chain for kind in type(each).__mro__]
        code = next((each.code for each in chain if getattr(each, "code", None)), None)
        response = next((each.response for each in chain if getattr(each, "response", None) is not None), None)
        retry_after = response.headers.get("retry-after") if response is not None else None
        return {"kinds": kinds, "message": str(error), "code": code, "retry_after": retry_after}
    return {"kinds": [], "message": f"nothing was raised: {given!r}"}


def _chain(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
