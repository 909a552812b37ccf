"""What a model's server may send: no byte of one answer reaches the next request, and every error is the model's."""

import asyncio
import contextlib
import dataclasses
import gzip
import re
import secrets
from collections.abc import AsyncIterator

import pytest
from autogen_core.models import CreateResult, ModelInfo, UserMessage
from hypothesis import strategies as st

from tests.faults.crowd import Say
from tests.harness.scripted import listening, read_request
from tests.security.fuzz import SIZES, fuzz, sliced
from tests.security.model_server import CHUNKED, ODD_CHUNKS, OK, TAIL, chunk, delta, prompt
from worker.contract.failures import failure
from worker.openai.client import StreamingOpenAIClient
from worker.wire.pacer import Pacer

INFO = ModelInfo(vision=False, function_calling=True, json_output=True, structured_output=True, family="unknown")
READ_TIMEOUT = 10.0
ANSWER = b"ANSWER"
"""Noise that stands for a whole answer, which no request has asked for."""
NUMBER = re.compile(r"<([0-9a-f]{16})[> ]")
"""Of a request: long, so that noise makes none of another."""

pytestmark = pytest.mark.timeout(400)


def said(number: str, times: int = 2) -> bytes:
    """A good body that names its request."""
    return b"".join(delta(content=f"<{number}>") for _ in range(times)) + TAIL


def sized(body: bytes, fields: bytes = b"") -> bytes:
    return OK + fields + b"content-length: %d\r\n\r\n" % len(body) + body


GOOD = {
    "length": lambda number: sized(said(number)),
    "chunks": lambda number: CHUNKED + chunk(said(number)) + b"0\r\n\r\n",
    "small_chunks": lambda number: CHUNKED + b"".join(map(chunk, sliced(said(number), [7]))) + b"0\r\n\r\n",
    "trailers": lambda number: CHUNKED + chunk(said(number)) + b"0\r\nx-a: 1\r\ncontent-length: 99\r\n\r\n",
    "extension": lambda number: CHUNKED + b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(said(number)), said(number)),
    "gzip": lambda number: sized(gzip.compress(said(number)), b"content-encoding: gzip\r\n"),
    "informational": lambda number: b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n" * 3 + sized(said(number)),
    "until_closed": lambda number: OK + b"\r\n" + said(number),
    "last": lambda number: sized(said(number), b"connection: close\r\n"),
}
"""Answers that must be understood."""

BAD = {
    "short_length": lambda number: OK + b"content-length: 20\r\n\r\n" + said(number),
    "long_length": lambda number: OK + b"content-length: %d\r\n\r\n" % (len(said(number)) + 99) + said(number),
    "two_lengths": lambda number: OK + b"content-length: 20\r\ncontent-length: 900\r\n\r\n" + said(number),
    "negative_length": lambda number: OK + b"content-length: -5\r\n\r\n" + said(number),
    "both_lengths": lambda number: (
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(said(number))
    ),
    "bad_chunk": lambda number: CHUNKED + b"zz\r\n" + said(number),
    "huge_chunk": lambda number: CHUNKED + b"ffffffffffffffff\r\n" + said(number),
    "no_finish": lambda number: sized(delta(content=f"<{number}>")),
    "no_content": lambda number: b"HTTP/1.1 204 No Content\r\n\r\n",
    "not_modified": lambda number: b"HTTP/1.1 304 Not Modified\r\ncontent-length: 50\r\n\r\n",
    "switching": lambda number: b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "refused": lambda number: b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\n{}",
    "failed": lambda number: b"HTTP/1.1 503 Bad\r\nretry-after: x\r\ncontent-length: 2\r\n\r\n[]",
    "odd_status": lambda number: b"HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n",
    "moved": lambda number: b"HTTP/1.1 307 Moved\r\nlocation: http://[\r\ncontent-length: 0\r\n\r\n",
    "not_gzip": lambda number: sized(said(number), b"content-encoding: gzip\r\n"),
    "garbage": lambda number: b"\x00\x01what\r\n\r\n",
    "nothing": lambda number: b"",
}


@dataclasses.dataclass
class Answer:
    """How one request is answered."""

    kind: str
    sizes: list[int]
    odd: str | None = None
    """An odd chunk before the good ones."""
    noise: bytes = b""
    at: int = 0
    """Where in the answer the noise is, from its end; 0 is behind it."""
    closes: bool = False

    @property
    def is_good(self) -> bool:
        return self.kind in GOOD and self.odd is None and (not self.noise or not self.at)

    def data(self, number: str) -> bytes:
        if self.odd is not None:
            event = b"data: " + ODD_CHUNKS[self.odd] + b"\n\n"
            made = sized(delta(content=f"<{number}>") + event + TAIL)
        else:
            made = (GOOD | BAD)[self.kind](number)
        cut = max(0, len(made) - self.at)
        noise = sized(said(f"{number} noise")) if self.noise == ANSWER else self.noise
        return made[:cut] + noise + made[cut:]


ANSWERS = st.builds(
    Answer,
    kind=st.sampled_from([*GOOD, *GOOD, *BAD]),
    sizes=SIZES,
    odd=st.sampled_from([None, None, None, None, None, *ODD_CHUNKS]),
    noise=st.sampled_from([b"", b"", b"", ANSWER, b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"junk"])
    | st.binary(max_size=20),
    at=st.one_of(st.just(0), st.integers(0, 400)),
    closes=st.booleans(),
)


class Server:
    """Answers each request as the answer says that its prompt names."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.answering = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                number = prompt((await read_request(reader)).partition(b"\r\n\r\n")[2])
                answer = self.answers[number]
                self.answering += 1
                try:
                    for data in sliced(answer.data(number), answer.sizes):
                        writer.write(data)
                        await writer.drain()
                        await asyncio.sleep(0)
                finally:
                    self.answering -= 1
                if answer.closes or answer.kind in ("until_closed", "last") or not answer.is_good:
                    break
        writer.close()


async def texts(client: StreamingOpenAIClient, number: str) -> AsyncIterator[str]:
    async for piece in client.create_stream([UserMessage(content=number, source="u")]):
        if not isinstance(piece, CreateResult):
            yield piece


def test_no_answer_reaches_another_request(figures: Say) -> None:
    server = Server()

    async def ask(client: StreamingOpenAIClient, answer: Answer) -> None:
        number = secrets.token_hex(8)
        server.answers[number] = answer
        text, code = "", None
        try:
            async with asyncio.timeout(60):
                async for piece in texts(client, number):
                    text += piece
        except Exception as error:
            code = failure(error, started=bool(text)).code
            if code == "internal_error":
                raise
        finally:
            del server.answers[number]
        assert set(NUMBER.findall(text)) <= {number}, text
        if answer.is_good:
            assert (text, code) == (f"<{number}>" * 2, None)
        while server.answering:  # what is sent after the next request no client can tell from its answer
            await asyncio.sleep(0)

    async def examine(case: tuple[bool, list[Answer]]) -> None:
        paced, answers = case
        async with listening(server.serve) as url:
            client = StreamingOpenAIClient(
                model="m", base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=READ_TIMEOUT, model_info=INFO
            )
            if paced:
                client.read_by(Pacer(0.005))
            try:
                for answer in answers:
                    await ask(client, answer)
            finally:
                await client.close()

    fuzz(examine, st.tuples(st.booleans(), st.lists(ANSWERS, min_size=1, max_size=6)), figures)
