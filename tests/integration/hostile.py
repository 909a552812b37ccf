"""Requests that nobody should send: valid ones, nearly valid ones, and hostile ones, the same for the same seed."""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from tests.harness.fleet import Address

SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
PATHS = (SEED, OPENAI)
MORE_PATHS = (
    "/v1/models",
    "/v1/models/test",
    "/v1/models/%00",
    "/v1/models/%ff%fe",
    "/v1/models/" + "a/" * 500,
    "/fleet",
)
"""Beside the chats."""
MAX_HEADERS = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Hostile:
    """One request as bytes on a connection, in pieces with a pause (in seconds) between two of them."""

    kind: str
    pieces: tuple[bytes, ...]
    pause: float = 0.0
    closes: bool = False
    """Whether the client closes its sending side at the end, because it said that more would come."""
    expected: frozenset[int] = frozenset()
    """Statuses that the answer must have, where that is known; else any below 500."""
    reply: str | None = None
    """What the answer must hold, where that is known."""


def hostile_requests(seed: int, count: int, address: Address) -> Iterator[Hostile]:
    """So many requests to ``address``."""
    draw = random.Random(seed)
    makers = [maker for maker, weight in MAKERS for _ in range(weight)]
    for _ in range(count):
        yield draw.choice(makers)(draw, "{}:{}".format(*address))


# ---------------------------------------------------------------- pieces of nonsense

NUL_AND_FRIENDS = [
    "\x00",
    "\ufeff",
    "\u202e",
    "\ufffe",
    "👩‍🚀",
    "a\r\nb",
    "é" * 50,
    "\x7f",
    "\x1b[31m",
    "${jndi:x}",
    "%s%n",
    "{0}",
]
NUMBERS = [
    "0",
    "-0",
    "-1",
    "1e400",
    "-1e400",
    "1e-400",
    "9" * 400,
    "0.1",
    "1" + "0" * 5000,
    "1E5",
    "2147483648",
    "-9223372036854775809",
]
NO_JSON = [
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "01",
    "+1",
    ".5",
    "'a'",
    "True",
    "{a:1}",
    '"\\x"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    "/*c*/1",
]
WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    {"": None},
    [{}],
    "\x00",
    "true",
    "auto",
    {"type": "text"},
]
NAMES = [
    "role",
    "content",
    "source",
    "type",
    "text",
    "name",
    "tool_calls",
    "image_url",
    "messages",
    "model",
    "n",
    "stop",
    "$ref",
    "__proto__",
]


def text(draw: random.Random) -> str:
    """Text that is valid but odd."""
    return "".join(draw.choice(["Hello ", "漢字", "?", *NUL_AND_FRIENDS]) for _ in range(draw.randrange(1, 6)))


def junk(draw: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = draw.randrange(6 if depth < 4 else 3)
    if kind == 0:
        return draw.choice(WRONG)
    if kind == 1:
        return text(draw)
    if kind == 2:
        return draw.choice([1e300, -1e-300, 2**63, -(2**63) - 1, 2**31, 10**200, 0.1])
    if kind == 3:
        return [junk(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice([*NAMES, text(draw)]): junk(draw, depth + 1) for _ in range(draw.randrange(4))}


# ---------------------------------------------------------------- valid bodies

Json = dict[str, Any]


def openai_turn(draw: random.Random) -> Json:
    """A turn that is valid wherever it stands."""
    parts = [{"type": "text", "text": text(draw)}]
    image = {
        "type": "image_url",
        "image_url": {"url": draw.choice(["https://x.example/é", "data:image/png;base64,AAA"])},
    }
    call = {"id": f"c{draw.randrange(99)}", "type": "function", "function": {"name": "f", "arguments": text(draw)}}
    kinds: list[Json] = [
        {"role": "system", "content": text(draw)},
        {"role": "developer", "content": parts},
        {"role": "user", "content": [*parts, image]},
        {"role": "user", "content": text(draw), "name": text(draw)},
        {"role": "assistant", "content": text(draw), "refusal": None},
        {"role": "assistant", "content": draw.choice([None, text(draw)]), "tool_calls": [call] * draw.randrange(1, 3)},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": text(draw)}]},
        {"role": "tool", "content": draw.choice([text(draw), parts]), "tool_call_id": f"c{draw.randrange(99)}"},
    ]
    return draw.choice(kinds)


def options(draw: random.Random) -> Json:
    """Valid fields beside the messages."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": junk(draw)}}}
    every: Json = {
        "temperature": draw.choice([0, 2, 0.5]),
        "top_p": draw.random(),
        "max_tokens": draw.choice([1, 2**63 - 1]),
        "max_completion_tokens": 5,
        "stop": draw.choice(["x", ["a", "b"], []]),
        "seed": draw.choice([0, -(2**63), 2**63 - 1]),
        "presence_penalty": -2,
        "frequency_penalty": 1.5,
        "logit_bias": {"5": -100},
        "logprobs": True,
        "top_logprobs": draw.randrange(21),
        "tools": draw.choice([[], [tool], [tool, tool]]),
        "tool_choice": draw.choice(["none", "auto"]),
        "parallel_tool_calls": draw.choice([True, False]),
        "response_format": draw.choice(
            [
                {"type": "text"},
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "n", "x": junk(draw)}},
            ]
        ),
        "reasoning_effort": "low",
        "user": text(draw),
        "metadata": {text(draw): text(draw)},
        "n": 1,
        "store": junk(draw),
        "stream_options": {"include_usage": draw.choice([True, False, None])},
        draw.choice(NUL_AND_FRIENDS): junk(draw),
    }
    return {name: every[name] for name in draw.sample(sorted(every), draw.randrange(6))}


def valid_body(draw: random.Random, path: str) -> tuple[Json, str]:
    """A body, and what the backend's echo will say to it."""
    said = text(draw)
    if path == SEED:
        turns = [
            {"source": draw.choice(["user", "system", text(draw)]), "content": text(draw)}
            for _ in range(draw.randrange(4))
        ]
        turns.append({"source": "user", "content": said})
        body: Json = {"messages": turns, "stream": draw.choice([True, False]), "extra": junk(draw)}
    else:
        turns = [openai_turn(draw) for _ in range(draw.randrange(4))]
        turns.append({"role": "user", "content": said})
        body = {"model": "test", "messages": turns, "stream": draw.choice([True, False, None])} | options(draw)
    return body, f"You said: {said}"


# ---------------------------------------------------------------- requests

Maker = Callable[[random.Random, str], Hostile]


def head(method: str, path: str, host: str, *fields: str) -> bytes:
    """A request's head, with the fields as they are."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {host}", "connection: close", *fields, "", ""]).encode(
        "latin-1"
    )


def post(path: str, host: str, body: bytes) -> bytes:
    """A whole request."""
    return head("POST", path, host, "content-type: application/json", f"content-length: {len(body)}") + body


def valid(draw: random.Random, host: str) -> Hostile:
    path = draw.choice(PATHS)
    body, reply = valid_body(draw, path)
    encoded = json.dumps(body, ensure_ascii=draw.choice([True, False])).encode()
    return Hostile("valid", (post(path, host, encoded),), expected=frozenset({200}), reply=reply)


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a body: its container, and its key or index there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from spots(value[key])


def nearly_valid(draw: random.Random, host: str) -> Hostile:
    """One place of a valid body is another value, gone, or twice there."""
    path = draw.choice(PATHS)
    body, _ = valid_body(draw, path)
    container, key = draw.choice(list(spots(body)))
    change = draw.randrange(5)
    if change == 0:
        del container[key]
    elif change == 1 and isinstance(container, dict):
        container[draw.choice(NAMES)] = container.pop(key)
    else:
        # A copy: a later draw may change what was put in, and what is drawn from must stay as it is.
        container[key] = deepcopy(draw.choice([*WRONG, junk(draw), "@"]))
    encoded = json.dumps(body)
    odd = draw.choice([*NO_JSON, *NUMBERS, "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300])
    return Hostile("nearly valid", (post(path, host, encoded.replace('"@"', odd).encode()),))


def any_json(draw: random.Random, host: str) -> Hostile:
    return Hostile("any JSON", (post(draw.choice(PATHS), host, json.dumps(junk(draw)).encode()),))


def duplicate_keys(draw: random.Random, host: str) -> Hostile:
    path = draw.choice(PATHS)
    first, second = (json.dumps(valid_body(draw, path)[0]) for _ in range(2))
    return Hostile(
        "duplicate keys", (post(path, host, (first[:-1] + "," + second[1:]).encode()),), expected=frozenset({200})
    )


def broken_bytes(draw: random.Random, host: str) -> Hostile:
    """A valid body with some of its bytes changed, cut off or added."""
    path = draw.choice(PATHS)
    body = bytearray(json.dumps(valid_body(draw, path)[0], ensure_ascii=draw.choice([True, False])).encode())
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(body))
        change = draw.randrange(4)
        if change == 0:
            body[at] = draw.randrange(256)
        elif change == 1:
            body[at:at] = draw.choice(
                [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8", b"\x00", b"\xef\xbb\xbf", b'"', b"}"]
            )
        elif change == 2:
            del body[at:]
            body += b" "
        else:
            body[at:] = body[at:] * 2
    return Hostile("broken bytes", (post(path, host, bytes(body)),))


def deep(draw: random.Random, host: str) -> Hostile:
    depth = draw.choice([100, 127, 128, 129, 200, 201, 1000, 50_000])
    path = draw.choice(PATHS)
    opening, closing = draw.choice([("[", "]"), ('{"a":', "}"), ('{"messages":', "}"), ('[{"content":', "}]")])
    nested = opening * depth + "1" + closing * depth
    field = draw.choice(["messages", "tools", "metadata", "unknown", "response_format", "logit_bias"])
    whole = draw.choice(
        [nested, f'{{"messages":[{{"role":"user","source":"user","content":"a"}}],"{field}":{nested}}}']
    )
    return Hostile("deep", (post(path, host, whole.encode()),))


def deep_schema(draw: random.Random, host: str) -> Hostile:
    """Nesting where any JSON is allowed and goes on to the model."""
    depth = draw.choice([10, 90, 100, 150, 190, 198, 250])
    nested: Any = 1
    for _ in range(depth):
        nested = {"a": nested}
    function = {"type": "function", "function": {"name": "f", "parameters": nested}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": nested}}
    where: Json = draw.choice([{"tools": [function]}, {"response_format": form}])
    body = {"messages": [{"role": "user", "content": "a"}], **where}
    return Hostile("deep schema", (post(OPENAI, host, json.dumps(body).encode()),))


def many_messages(draw: random.Random, host: str) -> Hostile:
    path = draw.choice(PATHS)
    turn = '{"source":"user","role":"user","content":"a"}'
    body = f'{{"messages":[{",".join([turn] * draw.choice([100, 300, 1000]))}]}}'
    return Hostile("many messages", (post(path, host, body.encode()),), expected=frozenset({200}), reply="You said: a")


def chunked(draw: random.Random, host: str) -> Hostile:
    """A valid body in chunks, some of them announced wrongly."""
    path = draw.choice(PATHS)
    body, reply = valid_body(draw, path)
    encoded = json.dumps(body).encode()
    framed, at = bytearray(), 0
    while at < len(encoded):
        part = encoded[at : at + draw.choice([1, 7, 100, 4096])]
        framed += f"{len(part):x}{draw.choice(['', ';x=y'])}\r\n".encode() + part + b"\r\n"
        at += len(part)
    start = head("POST", path, host, "transfer-encoding: chunked", "content-type: application/json")
    if draw.randrange(2):
        return Hostile("chunked", (start, bytes(framed), b"0\r\n\r\n"), expected=frozenset({200}), reply=reply)
    bad = draw.choice(
        [
            b"zz\r\nab\r\n0\r\n\r\n",
            b"-5\r\nabc\r\n",
            b"ffffffffffffffffff\r\na",
            b"5\r\nabcdefgh\r\n0\r\n\r\n",
            b"3\r\nab",
        ]
    )
    return Hostile("bad chunks", (start, bytes(framed) + bad), closes=True)


def slow(draw: random.Random, host: str) -> Hostile:
    """A valid request that comes in drops."""
    path = draw.choice(PATHS)
    body, reply = valid_body(draw, path)
    request = post(path, host, json.dumps(body).encode())
    cuts = sorted(draw.sample(range(1, len(request)), 4))
    pieces = tuple(request[start:end] for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True))
    return Hostile("slow", pieces, pause=0.03, expected=frozenset({200}), reply=reply)


def never_complete(draw: random.Random, host: str) -> Hostile:
    """The body is shorter than was said; the client waits, or ends its side."""
    path = draw.choice(PATHS)
    body = json.dumps(valid_body(draw, path)[0]).encode()
    start = head("POST", path, host, f"content-length: {len(body) + draw.choice([1, 1000, 10**7])}")
    return Hostile("too short", (start + body,), closes=draw.randrange(10) > 0, expected=frozenset({400, 408, 413}))


def too_long(draw: random.Random, host: str) -> Hostile:
    """More body than was said: the rest is no request."""
    path = draw.choice(PATHS)
    body = json.dumps(valid_body(draw, path)[0]).encode()
    start = head("POST", path, host, f"content-length: {draw.randrange(len(body))}")
    return Hostile("too long", (start + body,), closes=True)


def bad_framing(draw: random.Random, host: str) -> Hostile:
    """Heads that contradict themselves, or are none."""
    fields = draw.choice(
        [
            ("content-length: -1",),
            ("content-length: 5", "content-length: 6"),
            ("content-length: 99999999999999999999999",),
            ("content-length: 5", "transfer-encoding: chunked"),
            ("transfer-encoding: chunked, identity",),
            ("transfer-encoding: gzip",),
            ("content-length: 1e3",),
            ("content-length: 2", "expect: 100-continue"),
            ("content-length: 2", "connection: upgrade", "upgrade: websocket"),
            ("content-length: 2", "connection: upgrade, http2-settings", "upgrade: h2c"),
            (": no name",),
            ("no colon",),
            ("a\x00b: c",),
            ("x: \x01\x7f",),
            ("content-type: \xff\xfe", "content-length: 2"),
            ("content-encoding: gzip", "content-length: 2"),
        ]
    )
    return Hostile("bad framing", (head("POST", draw.choice(PATHS), host, *fields) + b"{}\r\n\r\n",), closes=True)


LINES = [
    *(
        b"GET",
        b"GET /",
        b"PRI * HTTP/2.0",
        b"GET / HTTP/9.9",
        b"\x00" * 99,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ),
    *(b"CONNECT elsewhere.example:443 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"TRACE / HTTP/1.1", b"G\xc3\x8bT / HTTP/1.1"),
    *(b"GET http://elsewhere.example/v1/models HTTP/1.1", b"GET /v1/models/\xff\xfe HTTP/1.1", b"GET /%zz HTTP/1.1"),
    *(
        b"GET //v1//models HTTP/1.1",
        b"GET /../etc/passwd HTTP/1.1",
        b"GET /docs-static/../../gateway/app.py HTTP/1.1",
    ),
    *(b"GET /docs-static/%2e%2e/app.py HTTP/1.1", b"POST /v1/chat/completions?" + b"a=b&" * 1000 + b" HTTP/1.1"),
]


def bad_line(draw: random.Random, host: str) -> Hostile:
    line = draw.choice(LINES)
    expected = frozenset({505}) if line.endswith(b"HTTP/2.0") else frozenset[int]()
    return Hostile("bad line", (line + b"\r\nhost: " + host.encode() + b"\r\n\r\n",), closes=True, expected=expected)


def other_paths(draw: random.Random, host: str) -> Hostile:
    method = draw.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "X" * 30])
    path = draw.choice([*MORE_PATHS, *PATHS, "/docs", "/openapi.json", "/nothing"])
    fields = draw.choice(
        [
            (),
            ("range: bytes=0-99999999999",),
            ("accept: x/y;q=9",),
            ("cookie: " + "a=b;" * 500,),
            ("x-request-id: \x7f'\"",),
        ]
    )
    return Hostile("other paths", (head(method, path, host, *fields, "content-length: 0"),), closes=True)


def huge_headers(draw: random.Random, host: str) -> Hostile:
    size = MAX_HEADERS + draw.choice([1, 1000, 200_000])
    fields = draw.choice(
        [
            [f"x-big: {'a' * size}"],
            [f"{'n' * size}: a"],
            [f"x-{number}: {'a' * 90}" for number in range(size // 90)],
            [f"authorization: Bearer {'a' * size}"],
        ]
    )
    return Hostile("huge headers", (head("GET", "/v1/models", host, *fields),), expected=frozenset({431}))


MAKERS: tuple[tuple[Maker, int], ...] = (
    (valid, 15),
    (nearly_valid, 30),
    (any_json, 6),
    (duplicate_keys, 3),
    (broken_bytes, 12),
    (deep, 4),
    (deep_schema, 2),
    (many_messages, 1),
    (chunked, 6),
    (slow, 3),
    (never_complete, 3),
    (too_long, 3),
    (bad_framing, 4),
    (bad_line, 3),
    (other_paths, 4),
    (huge_headers, 1),
)
"""Each kind, and how often it comes."""
