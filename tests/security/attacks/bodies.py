"""Bodies that cost much more to read than to send: wide, deep, of many small values."""

import functools
from collections.abc import Callable

from tests.harness.chat import JSON
from tests.harness.http import Connection
from tests.security.attacks import Attack, Subject, Target

ATTACKS = Subject("bodies")

SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
SIZE = 8 * 1024 * 1024 - 1024
"""Just within ``GATEWAY_MAX_BODY``."""
SMALL = 256 * 1024
USER = '{"role":"user","source":"user","content":"a"}'
HEAD = f'{{"stream":false,"messages":[{USER}]'
NESTED = "[" * 100 + "]" * 100


def filled(before: str, unit: str | Callable[[int], str], after: str, size: int = SIZE) -> bytes:
    """As many units between two texts as there is room for."""
    one = unit(10**6) if callable(unit) else unit
    count = (size - len(before) - len(after)) // (len(one) + 1)
    units = [unit(number) for number in range(count)] if callable(unit) else [unit] * count
    return (before + ",".join(units) + after).encode()


def tool(before: str, after: str) -> tuple[str, str]:
    head = f'{HEAD},"tools":[{{"type":"function","function":{{"name":"f","parameters":{before}'
    return head, f"{after}}}}}]}}"


def form(before: str, after: str) -> tuple[str, str]:
    head = f'{HEAD},"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{before}'
    return head, f"{after}}}}}}}"


def call(number: int) -> str:
    return f'{{"id":"{number}","type":"function","function":{{"name":"f","arguments":""}}}}'


def answered_calls() -> bytes:
    before = f'{{"stream":false,"messages":[{USER},{{"role":"assistant","content":null,"tool_calls":['
    return filled(before, call, f"]}},{USER}]}}")


def parted_messages() -> bytes:
    parts = ",".join(['{"type":"text","text":"a"}'] * 1000)
    message = f'{{"role":"user","content":[{parts}]}}'
    return filled('{"stream":false,"messages":[', message, "]}")


BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nested_schema": (OPENAI, lambda: filled(*wrapped(tool, '{"x":[', NESTED, "]}"))),
    "small_nested_schema": (OPENAI, lambda: filled(*wrapped(tool, '{"x":[', NESTED, "]}"), size=SMALL)),
    "wide_schema": (OPENAI, lambda: filled(*wrapped(tool, '{"x":[', "[]", "]}"))),
    "many_tools": (
        OPENAI,
        lambda: filled(f'{HEAD},"tools":[', '{"type":"function","function":{"name":"f"}}', "]}"),
    ),
    "nested_form": (OPENAI, lambda: filled(*wrapped(form, '{"x":[', NESTED, "]}"))),
    "wide_form": (OPENAI, lambda: filled(*wrapped(form, '{"x":[', '{"a":[]}', "]}"))),
    "unknown_lists": (OPENAI, lambda: filled(f'{HEAD},"unknown":[', "[],[]", "]}")),
    "unknown_names": (OPENAI, lambda: filled(f"{HEAD},", lambda number: f'"k{number}":0', "}")),
    "unknown_nested_seed": (SEED, lambda: filled(f'{HEAD},"unknown":[', NESTED, "]}")),
    "metadata": (OPENAI, lambda: filled(f'{HEAD},"metadata":{{', lambda number: f'"k{number}":"v"', "}}")),
    "logit_bias": (OPENAI, lambda: filled(f'{HEAD},"logit_bias":{{', lambda number: f'"{number}":1', "}}")),
    "stop_words": (OPENAI, lambda: filled(f'{HEAD},"stop":[', '"a"', "]}")),
    "text_parts": (
        OPENAI,
        lambda: filled('{"stream":false,"messages":[{"role":"user","content":[', '{"type":"text","text":""}', "]}]}"),
    ),
    "parted_messages": (OPENAI, parted_messages),
    "tool_calls": (OPENAI, answered_calls),
    "deep": (OPENAI, lambda: f'{HEAD},"unknown":{"[" * 10**6}{"]" * 10**6}}}'.encode()),
    "long_number": (OPENAI, lambda: f'{HEAD},"seed":{"9" * (4 * 1024 * 1024)}}}'.encode()),
    "escapes": (SEED, lambda: b'{"messages":[{"source":"u","content":"%b"}]}' % (b"\\u00e9" * (SIZE // 6 - 20))),
}


def wrapped(wrap: Callable[[str, str], tuple[str, str]], before: str, unit: str, after: str) -> tuple[str, str, str]:
    """Arguments of :func:`filled` for units inside of what ``wrap`` makes."""
    head, tail = wrap(before, after)
    return head, unit, tail


async def post(target: Target, path: str, body: bytes) -> int:
    """Send a body and read the whole answer; its status."""
    async with Connection(target.gateway) as connection:
        response = await connection.request("POST", path, body, JSON)
        await response.body()
        return response.status


def _attack(path: str, make: Callable[[], bytes]) -> Attack:
    made = functools.cache(make)

    async def attack(target: Target) -> None:
        await post(target, path, made())

    return attack


for _name, (_path, _make) in BODIES.items():
    ATTACKS.add(_name, _attack(_path, _make))
