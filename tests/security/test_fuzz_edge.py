"""The gateway's HTTP: any requests, whole or not, in any slices, get at most an answer each, their own, and an end."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.faults.crowd import Say
from tests.harness.fleet import Address, Fleet
from tests.schedule import Schedule, reply_text
from tests.security.arena import held
from tests.security.fuzz import SIZES, fuzz, sliced

HOST = "host: x\r\n"
SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
TIMEOUT = "1"
"""Seconds for a head, and for a body."""
ENDS_WITHIN = 12.0
"""Seconds until a connection on which a request is never completed has ended, however loaded the machine is."""
QUICK = 0.5
"""Seconds in which a request is sent: one that took longer, as the machine stood still, may have timed out."""
PAUSE = 0.005
LEFT = 8
"""Descriptors more than before that may be open afterwards."""
ID = re.compile(r"id-\d+-\d+-")

pytestmark = pytest.mark.timeout(400)

_connections = itertools.count()


# ---------------------------------------------------------------- what is sent


@dataclasses.dataclass
class Request:
    """A request that is complete, and whether it is good."""

    path: str = SEED
    stream: bool = True
    framing: str = "length"
    host: str = HOST
    extra: str = ""
    hides: bool = False
    """Whether its body is a request itself, which no one has sent."""
    paced: bool = False

    @property
    def is_chat(self) -> bool:
        return self.path in (SEED, OPENAI)

    @property
    def status(self) -> int:
        """What it must be answered with."""
        if self.host != HOST or (self.hides and self.is_chat):
            return 400
        return 404 if self.path == "/nowhere" else 200

    def schedule(self, name: str) -> Schedule:
        return Schedule(text=f"{name} says hello. " * 3, delay=0.002 if self.paced else 0)

    def body(self, name: str) -> bytes:
        if self.hides:
            return Request().data(f"{name}hidden-")
        said = {"role": "user", "source": "user", "content": self.schedule(name).message()}
        return json.dumps({"messages": [said], "stream": self.stream, "model": "test"}).encode()

    def data(self, name: str) -> bytes:
        if not self.is_chat:
            return f"GET {self.path} HTTP/1.1\r\n{self.host}{self.extra}\r\n".encode()
        head = f"POST {self.path} HTTP/1.1\r\n{self.host}content-type: application/json\r\n{self.extra}"
        return head.encode() + framed(self.body(name), self.framing)


EXTRAS = (
    "",
    "",
    "",
    "connection: upgrade\r\nupgrade: websocket\r\n",
    "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "upgrade: anything/1\r\n",
    "expect: 100-continue\r\n",
    "connection: close\r\n",
)
FRAMINGS = ("length", "chunks", "small_chunks", "trailers", "extension")
"""How the end of a body is told."""


def framed(body: bytes, framing: str) -> bytes:
    """The end of a head, and a body."""
    if framing == "length":
        return b"content-length: %d\r\n\r\n" % len(body) + body
    sizes = [3] if framing == "small_chunks" else [len(body) // 2 + 1]
    note = b";a=b" if framing == "extension" else b""
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), note, part) for part in sliced(body, sizes))
    trailers = b"x-a: 1\r\nx-b: 2\r\n" if framing == "trailers" else b""
    return b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"


TAILS: dict[str, bytes] = {
    "head": b"POST /chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ",
    "body": b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    "unwanted_body": b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nx",
    "chunk": b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{",
    "size": b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1",
    "trailer": b"POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: a",
    "garbage": b"\x00garbage\r\n\r\n",
    "bad_chunk": b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "bad_length": b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    "both_lengths": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
}
"""What comes last and is not completed, or is no request."""


@dataclasses.dataclass
class Script:
    """One connection: requests, perhaps a tail, and how the client sends and leaves."""

    requests: list[Request]
    tail: str | None
    noise: bytes
    """Between the requests and the tail."""
    sizes: list[int]
    takes_turns: bool
    """Whether each request is sent once those before it are answered."""
    pauses: bool
    leaves: str

    def parts(self, name: str) -> list[bytes]:
        """What is sent, request by request."""
        sent = [request.data(f"{name}{number}-") for number, request in enumerate(self.requests)]
        return [*sent, self.noise + (TAILS[self.tail] if self.tail else b"")]

    @property
    def due(self) -> int:
        """Answers that must come whole, if the client stays and is quick."""
        if self.leaves != "waits" or self.pauses:
            return 0
        for number, request in enumerate(self.requests):
            if "close" in request.extra and (self.tail or self.noise or number + 1 < len(self.requests)):
                return number  # the client sends on after it asked to close, which may reset the connection
            if not self.takes_turns or request.status == 400 or "close" in request.extra:
                return number + 1
        return len(self.requests)


REQUESTS = st.builds(
    Request,
    path=st.sampled_from([SEED, SEED, OPENAI, OPENAI, "/healthz", "/nowhere"]),
    stream=st.booleans(),
    framing=st.sampled_from(FRAMINGS),
    host=st.sampled_from([HOST, HOST, HOST, HOST, HOST, "", HOST + "host: y\r\n"]),
    extra=st.sampled_from(EXTRAS),
    hides=st.sampled_from([False, False, False, True]),
    paced=st.booleans(),
)
SCRIPTS = st.builds(
    Script,
    requests=st.lists(REQUESTS, max_size=4),
    tail=st.sampled_from([None, *TAILS]),
    noise=st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n\r\n"]) | st.binary(max_size=10),
    sizes=SIZES,
    takes_turns=st.booleans(),
    pauses=st.booleans(),
    leaves=st.sampled_from(["waits", "waits", "waits", "half", "resets"]),
)


# ---------------------------------------------------------------- what must come of it


@dataclasses.dataclass
class Answer:
    """One answer, as far as it came."""

    status: int
    headers: str
    body: bytes
    complete: bool

    @property
    def text(self) -> str:
        """What the model said in it."""
        body = self.body.decode()
        if "text/event-stream" in self.headers:
            events = [event.removeprefix("data: ") for event in body.split("\n\n") if event.endswith("}")]
            choices = [choice for event in events for choice in json.loads(event).get("choices", ())]
            return "".join(choice["delta"].get("content") or "" for choice in choices)
        lines = [json.loads(line) for line in body.splitlines(keepends=True) if self.complete or line.endswith("\n")]
        if lines and "choices" in lines[0]:
            return str(lines[0]["choices"][0]["message"]["content"])
        return "".join(line.get("content", "") for line in lines)


def answers_in(data: bytes) -> Iterator[Answer]:
    """The answers that make up all that came. Raises ``ValueError`` for what is none."""
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        if not end:
            return
        if found is None:
            raise ValueError(f"this is no answer: {head[:200]!r}")
        if found[1] == b"100":
            continue
        headers = head.decode().lower()
        if "transfer-encoding: chunked" in headers:
            body, complete, data = unchunked(data)
        else:
            length = int(headers.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            body, complete, data = data[:length], len(data) >= length, data[length:]
        yield Answer(int(found[1]), headers, body, complete)


def unchunked(data: bytes) -> tuple[bytes, bool, bytes]:
    """A body, whether it ended, and what comes after it. Raises ``ValueError``."""
    body = b""
    while True:
        size, end, rest = data.partition(b"\r\n")
        if not end:
            return body, False, b""
        length = int(size, 16)
        if len(rest) < length + 2:
            return body, False, b""
        if rest[length : length + 2] != b"\r\n":
            raise ValueError(f"this is no chunk: {rest[:200]!r}")
        body, data = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, True, data


def check(script: Script, name: str, data: bytes, due: int) -> None:
    """Each answer is its request's own, and there are no more; so many must be whole."""
    answers = list(answers_in(data))
    assert len(answers) <= len(script.requests) + (script.tail is not None or bool(script.noise)), answers
    assert sum(answer.complete for answer in answers) >= due, answers
    for number, answer in enumerate(answers):
        own = f"{name}{number}-"
        assert set(ID.findall(answer.body.decode() + answer.headers)) <= {own}, answer
        assert answer.status < 500, answer
        if number >= len(script.requests):
            continue
        request = script.requests[number]
        if number < due:
            assert answer.status == request.status, (request, answer)
        if answer.status == 200 and request.is_chat:
            said, text = reply_text(request.schedule(own)), answer.text
            assert said == text if number < due else said.startswith(text), (request, answer)


class Client(asyncio.Protocol):
    """Collects what comes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = asyncio.Event()
        self.came = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()
        self.came.set()


async def play(address: Address, script: Script) -> None:
    name = f"id-{next(_connections)}-"
    transport: Any
    loop, due = asyncio.get_running_loop(), script.due
    transport, client = await loop.create_connection(Client, *address)
    try:
        for number, part in enumerate(script.parts(name)):
            if script.takes_turns:
                await answered(client, number)
            began = loop.time()
            for data in sliced(part, script.sizes):
                if not client.ended.is_set():
                    transport.write(data)
                await asyncio.sleep(PAUSE if script.pauses else 0)
            if loop.time() - began > QUICK:
                due = min(due, number)
        if script.leaves == "resets":
            return
        if script.leaves == "half" and not client.ended.is_set():
            transport.write_eof()
        await answered(client, len(script.requests))
        if script.tail is not None or script.leaves == "half":
            async with asyncio.timeout(ENDS_WITHIN):
                await client.ended.wait()
        check(script, name, bytes(client.data), due)
    finally:
        transport.abort()


async def answered(client: Client, count: int) -> None:
    """Wait until so many answers are complete, or the connection has ended, or it has been long enough."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDS_WITHIN):
            while not client.ended.is_set():
                client.came.clear()
                if sum(answer.complete for answer in answers_in(bytes(client.data))) >= count:
                    return
                await client.came.wait()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(workers=1, settings={"GATEWAY_HEADER_TIMEOUT": TIMEOUT, "GATEWAY_BODY_TIMEOUT": TIMEOUT}) as fleet:
        yield fleet


def test_each_request_gets_its_own_answer_or_none_and_every_connection_ends(fleet: Fleet, figures: Say) -> None:
    before = held(fleet.gateway)

    async def examine(scripts: list[Script]) -> None:
        async with asyncio.TaskGroup() as group:
            for script in scripts:
                group.create_task(play(fleet.address, script))

    fuzz(examine, st.lists(SCRIPTS, min_size=24, max_size=48), figures)
    assert "level=error" not in fleet.gateway.log()
    figures(f"{next(_connections)} connections")
    asyncio.run(settles(fleet, before.descriptors))


async def settles(fleet: Fleet, descriptors: int) -> None:
    """Until nothing is left of what was sent."""
    async with asyncio.timeout(ENDS_WITHIN):
        while fleet.status()["gateway"]["in_flight"] or held(fleet.gateway).descriptors > descriptors + LEFT:
            await asyncio.sleep(0.1)
