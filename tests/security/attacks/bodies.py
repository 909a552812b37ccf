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
"""Few enough to be accepted where the large ones are refused."""

TOP = '{"stream":false,"model":"hostile","messages":['
USER = '{"role":"user","source":"user","content":"a"}'
HEAD = f"{TOP}{USER}]"
TOOL = f'{HEAD},"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"x":['
TOOL_END = "]}}}]}"
FORM = f'{HEAD},"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{{"x":['
FORM_END = "]}}}}"
NESTED = "[" * 100 + "]" * 100
TEXT = '{"type":"text","text":"a"}'

Unit = str | Callable[[int], str]


def call(number: int) -> str:
    return f'{{"id":"{number}","type":"function","function":{{"name":"f","arguments":""}}}}'


WIDE: dict[str, tuple[str, Unit, str]] = {
    "nested_schema": (TOOL, NESTED, TOOL_END),
    "wide_schema": (TOOL, "[]", TOOL_END),
    "many_tools": (f'{HEAD},"tools":[', '{"type":"function","function":{"name":"f"}}', "]}"),
    "nested_form": (FORM, NESTED, FORM_END),
    "wide_form": (FORM, '{"a":[]}', FORM_END),
    "unknown_lists": (f'{HEAD},"unknown":[', "[],[]", "]}"),
    "unknown_nested": (f'{HEAD},"unknown":[', NESTED, "]}"),
    "unknown_names": (f"{HEAD},", lambda number: f'"k{number}":0', "}"),
    "metadata": (f'{HEAD},"metadata":{{', lambda number: f'"k{number}":"v"', "}}"),
    "logit_bias": (f'{HEAD},"logit_bias":{{', lambda number: f'"{number}":1', "}}"),
    "stop_words": (f'{HEAD},"stop":[', '"a"', "]}"),
    "messages": (TOP, USER, "]}"),
    "text_parts": (f'{TOP}{{"role":"user","content":[', TEXT, "]}]}"),
    "parted_messages": (TOP, f'{{"role":"user","content":[{",".join([TEXT] * 1000)}]}}', "]}"),
    "tool_calls": (f'{TOP}{USER},{{"role":"assistant","content":null,"tool_calls":[', call, f"]}},{USER}]}}"),
}
"""What comes before, again and again between commas, and after."""
ON_BOTH = ("unknown_nested", "messages")
"""Those that the seed's own API knows too."""

ODD: dict[str, Callable[[], str]] = {
    "deep": lambda: f'{HEAD},"unknown":{"[" * 10**6}{"]" * 10**6}}}',
    "long_number": lambda: f'{HEAD},"seed":{"9" * SIZE}}}'[: SIZE - 1] + "}",
    "escapes": lambda: TOP + '{"role":"user","content":"' + "\\u00e9" * (SIZE // 6 - 50) + '"}]}',
}


def filled(before: str, unit: Unit, after: str, size: int) -> str:
    """As many units between two texts as there is room for."""
    one = unit(10**6) if callable(unit) else unit
    count = (size - len(before) - len(after)) // (len(one) + 1)
    return before + ",".join([unit(number) if callable(unit) else unit for number in range(count)]) + after


async def post(target: Target, path: str, body: bytes) -> int:
    """Send a body and read the whole answer; its status."""
    async with Connection(target.gateway) as connection:
        response = await connection.request("POST", path, body, JSON)
        await response.body()
        return response.status


def _attack(path: str, make: Callable[[], str]) -> Attack:
    made = functools.cache(lambda: make().encode())

    async def attack(target: Target) -> None:
        await post(target, path, made())

    return attack


for _name, _wide in WIDE.items():
    ATTACKS.add(_name, _attack(OPENAI, functools.partial(filled, *_wide, SIZE)))
    ATTACKS.add(f"small_{_name}", _attack(OPENAI, functools.partial(filled, *_wide, SMALL)))
for _name in ON_BOTH:
    ATTACKS.add(f"seed_{_name}", _attack(SEED, functools.partial(filled, *WIDE[_name], SIZE)))
for _name, _make in ODD.items():
    ATTACKS.add(_name, _attack(OPENAI, _make))
