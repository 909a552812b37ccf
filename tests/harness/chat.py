"""Chatting with a gateway over ``POST /chat/completions``, and what must hold of every answer."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tests.harness.http import Address, Connection, Response
from tests.schedule import Schedule, reply_text

PATH = "/chat/completions"
JSON = {"content-type": "application/json"}
PATIENCE = 60.0
"""Seconds after which a stream that neither speaks nor ends has failed its test."""

Line = dict[str, Any]
Question = Schedule | str | Sequence[Mapping[str, Any]]


def body_of(question: Question, **fields: Any) -> bytes:
    """A request's body: the question as the only user turn, or as the whole list of messages."""
    content = question.message() if isinstance(question, Schedule) else question
    messages = [{"source": "user", "content": content}] if isinstance(content, str) else list(content)
    return json.dumps({"messages": messages, "stream": True} | fields).encode()


@dataclasses.dataclass
class Reply:
    """A whole answer: its lines, or its one object."""

    status: int
    headers: Mapping[str, str]
    lines: list[Line]

    @property
    def last(self) -> Line:
        return self.lines[-1]

    @property
    def text(self) -> str:
        return "".join(line["content"] for line in self.lines)

    @property
    def error(self) -> Line:
        """The error that it ended in, of whatever status, once and well formed."""
        assert sum("error" in line for line in self.lines) == 1, self.lines[-3:]
        error: Line = self.last["error"]
        assert set(error) >= {"code", "message", "retryable", "request_id"}, error
        assert error["request_id"] == self.headers["x-request-id"]
        assert isinstance(error["retryable"], bool)
        return error


class Stream:
    """A streamed answer as it arrives, line by line."""

    def __init__(self, connection: Connection, response: Response) -> None:
        self._connection = connection
        self._chunks = response.chunks()
        self.status = response.status
        self.headers = response.headers

    async def line(self) -> Line | None:
        """The next chunk, which must be exactly one line of JSON; ``None`` at the end of the body."""
        async with asyncio.timeout(PATIENCE):
            chunk = await anext(self._chunks, None)
        return None if chunk is None else one_line(chunk)

    async def rest(self) -> list[Line]:
        """All lines from here to the end."""
        lines = []
        while (line := await self.line()) is not None:
            lines.append(line)
        return lines

    def reset(self) -> None:
        """Leave as a killed client does."""
        self._connection.reset()


def one_line(chunk: bytes) -> Line:
    """The object of an HTTP chunk that is exactly one line."""
    assert chunk.endswith(b"\n"), chunk
    assert chunk.count(b"\n") == 1, chunk
    line: Line = json.loads(chunk)
    assert isinstance(line["content"], str), line
    return line


@contextlib.asynccontextmanager
async def streaming(address: Address, question: Question, **fields: Any) -> AsyncIterator[Stream]:
    """Open a streamed answer; leaving the context closes the client's connection."""
    async with Connection(address) as connection:
        async with asyncio.timeout(PATIENCE):
            response = await connection.request("POST", PATH, body_of(question, **fields), JSON)
        assert response.status == 200, (response.status, await response.body())
        assert response.headers["content-type"].partition(";")[0] == "application/x-ndjson"
        yield Stream(connection, response)


async def ask(address: Address, question: Question, **fields: Any) -> Reply:
    """Ask over a connection of its own and read the whole answer."""
    return await send(address, body_of(question, **fields))


async def send(address: Address, body: bytes, headers: Mapping[str, str] = JSON) -> Reply:
    """Send any body at all and read the whole answer."""
    async with Connection(address) as connection:
        return await ask_over(connection, body, headers)


async def ask_over(connection: Connection, body: bytes, headers: Mapping[str, str] = JSON) -> Reply:
    """Send a body over an open connection, read the whole answer and leave the connection open."""
    async with asyncio.timeout(PATIENCE):
        response = await connection.request("POST", PATH, body, headers)
        assert response.headers["x-request-id"]
        if response.headers["content-type"].startswith("application/x-ndjson"):
            stream = Stream(connection, response)
            return Reply(response.status, response.headers, await stream.rest())
        return Reply(response.status, response.headers, [await response.json()])


def assert_complete(reply: Reply, schedule: Schedule) -> None:
    """The reply is all that the schedule said, byte for byte, and ends once and well."""
    assert reply.status == 200, reply.lines
    assert reply.text == reply_text(schedule)
    assert_ends_once(reply)
    assert reply.last.get("done") is True, reply.last
    assert reply.last["content"] == ""
    assert reply.last["finish_reason"] == schedule.finish_reason
    assert reply.last["usage"].keys() >= {"prompt_tokens", "completion_tokens"}


def assert_ends_once(reply: Reply) -> None:
    """Exactly one line ends the stream, and it is the last."""
    ends = [line for line in reply.lines if line.keys() & {"done", "error", "cancelled"}]
    assert ends == reply.lines[-1:], ends
