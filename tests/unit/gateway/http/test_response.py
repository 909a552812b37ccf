"""A chat's answer: streamed and whole, to clients that read, that are slow, that stall and that leave."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from fleet.lane import CREDIT, payload_bytes
from fleet.process.turns import Turns
from gateway.chats.chat import Chat
from gateway.errors import GatewayError
from gateway.faces.encoder import Encoder
from gateway.faces.ndjson.encoder import Ndjson
from gateway.faces.ndjson.face import NdjsonFace
from gateway.faces.openai.encoder import OpenAIFormat
from gateway.faces.openai.face import OpenAIFace
from gateway.faces.openai.passed_on import Text
from gateway.http.response import PING_AFTER, SLICE, ChatResponse
from gateway.http.wire import EXTENSION
from protos import chat_pb2 as pb
from tests.harness.http import Connection
from tests.harness.virtual import virtual
from tests.harness.waiting import until
from tests.unit.gateway.chats.test_chats import Stage
from tests.unit.gateway.http.serving import BODIES, OPENAI, SEED, Gateway, asking, content_of, events_of, serving

Message = MutableMapping[str, Any]
Logged = Callable[[], list[tuple[str, str]]]
PIECE = 1000


class Client:
    """A played connection: what it was sent, whether it reads, whether it is still there."""

    def __init__(self, *, failure: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self.chunks: list[bytes] = []
        self.gone = asyncio.Event()
        self.failure = failure
        self.aborted = False
        self.fits = 0
        """Chunks until it is no longer writable; 0 for no limit."""
        self.unacknowledged: deque[int] = deque()
        """What :meth:`unsent` tells, one after the other, the last for good."""
        self.reads = asyncio.Event()
        self.reads.set()
        self.ping: Callable[[], bytes] | None = None
        self.scope = {"type": "http", "extensions": {EXTENSION: self}}

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)
        if message.get("body"):
            self.chunks.append(message["body"])

    @property
    def writable(self) -> bool:
        return self.reads.is_set()

    def probe(self, begun: bool) -> None:
        assert begun
        if self.writable and self.ping is not None:
            self.write_chunk(self.ping())

    def write_chunk(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.fits -= 1
        if self.fits == 0:
            self.reads.clear()

    async def drain(self) -> None:
        await self.reads.wait()

    def unsent(self) -> int:
        if len(self.unacknowledged) > 1:
            return self.unacknowledged.popleft()
        return self.unacknowledged[0] if self.unacknowledged else 0

    def abort(self) -> None:
        self.aborted = True

    @property
    def content(self) -> str:
        return "".join(json.loads(line)["content"] for line in b"".join(self.chunks).splitlines())

    @property
    def is_answered(self) -> bool:
        return bool(self.sent) and self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")


class Answer:
    """One chat that is answered to a played client by a played worker."""

    def __init__(
        self,
        client: Client,
        *,
        stream: bool = True,
        stall: float = 5,
        hold: float | None = 5,
        openai: bool = False,
        encoder: Encoder | None = None,
    ) -> None:
        self.client = client
        self.stage = Stage(clock=asyncio.get_running_loop().time, token_timeout=1000)
        self.chat = Chat(pb.ChatHistory(request_id="r", model="m"))
        self.done = 0
        encoder = encoder or (OpenAIFormat("r", lambda: "m", include_usage=False) if openai else Ndjson("r"))
        self.response = ChatResponse(
            self.stage.chats,
            self.chat,
            encoder,
            stream=stream,
            hold=hold,
            stall=stall,
            turns=Turns(),
            done=self._count,
        )
        self.face = OpenAIFace() if openai else NdjsonFace()
        self.task = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        connection = self.client.scope, self.client.receive, self.client.send
        try:
            await self.response(*connection)
        except GatewayError as error:  # as the application does
            self.chat.record.end(error)
            await self.face.refusal(error, "r")(*connection)

    def _count(self) -> None:
        self.done += 1
        assert not self.client.is_answered

    async def worker(self) -> None:
        """Wait for the worker to be asked; it accepts."""
        await self.stage.asked()
        self.event(accepted=pb.Accepted())

    def event(self, **event: Any) -> None:
        self.stage.chunk(self.stage.histories()[0][1], **event)

    @property
    def closed(self) -> tuple[str, int]:
        """How the request ended, and the tokens that came."""
        return self.chat.record.code, self.chat.reply.tokens


@pytest.fixture
def logged() -> Iterator[Logged]:
    """Gives the level and the event of each line that was logged."""
    with capture_logs() as lines:
        yield lambda: [(line["log_level"], line["event"]) for line in lines]


STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@STREAMED
@virtual
async def test_an_answer_is_sent_and_is_over_once(stream: bool) -> None:
    client = Client()
    answer = Answer(client, stream=stream)
    await answer.worker()
    for text in "abc":
        answer.event(text=text, tokens=1)
        await asyncio.sleep(0.1)
        assert not stream or client.content.endswith(text)
    answer.event(done=pb.Done(finish_reason="stop"))
    await answer.task
    assert client.sent[0]["status"] == 200
    assert client.content == "abc"
    assert client.is_answered
    assert (answer.done, answer.closed) == (1, ("ok", 3))


@STREAMED
@virtual
async def test_an_early_failure_gets_its_status(stream: bool) -> None:
    answer = Answer(Client(), stream=stream)
    await answer.worker()
    answer.event(error=pb.Error(code="model_rejected_request", message="no"))
    await answer.task
    assert answer.client.sent[0]["status"] == 400
    assert json.loads(answer.client.chunks[0])["error"]["code"] == "model_rejected_request"
    assert (answer.done, answer.closed) == (1, ("model_rejected_request", 0))


@virtual
async def test_the_status_line_waits_for_the_first_event_and_no_longer_than_it_may() -> None:
    answer = Answer(Client(), hold=3)
    await answer.worker()
    answer.event(text="")
    await asyncio.sleep(2.9)
    assert answer.client.sent == []
    await asyncio.sleep(0.2)
    assert answer.client.sent[0]["status"] == 200
    answer.event(error=pb.Error(code="model_failed"))
    await answer.task
    assert [json.loads(chunk)["error"]["code"] for chunk in answer.client.chunks] == ["model_failed"]
    assert answer.client.is_answered


@pytest.mark.parametrize(
    ("stream", "openai", "expected"),
    [
        (True, True, b"text/event-stream; charset=utf-8"),
        (True, False, b"application/x-ndjson"),
        (False, True, b"application/json"),
    ],
)
@virtual
async def test_the_headers_tell_the_type_and_keep_proxies_from_collecting_a_stream(
    stream: bool, openai: bool, expected: bytes
) -> None:
    answer = Answer(Client(), stream=stream, openai=openai)
    await answer.worker()
    answer.event(done=pb.Done())
    await answer.task
    headers = dict(answer.client.sent[0]["headers"])
    assert headers[b"content-type"] == expected
    assert (headers.get(b"x-accel-buffering"), headers.get(b"cache-control")) == (
        (b"no", b"no-cache") if stream else (None, None)
    )


@virtual
async def test_a_draining_gateway_refuses_in_the_formats_shape() -> None:
    answer = Answer(Client(), openai=True)
    answer.stage.chats.draining = True
    await answer.task
    assert answer.client.sent[0]["status"] == 503
    assert json.loads(answer.client.chunks[0])["error"]["type"] == "server_error"
    assert (answer.done, answer.closed, answer.stage.sent) == (1, ("draining", 0), [])


@virtual
@pytest.mark.parametrize("openai", [True, False])
async def test_silence_is_filled_with_pings_that_are_events_without_text(openai: bool) -> None:
    answer = Answer(Client(), openai=openai, hold=0.1)
    await answer.worker()
    await asyncio.sleep(PING_AFTER * 2.5)
    path = OPENAI if openai else SEED
    assert [len(events_of(path, ping)) for ping in answer.client.chunks] == [1, 1]
    assert [content_of(path, ping) for ping in answer.client.chunks] == ["", ""]
    answer.event(text="a")
    await asyncio.sleep(PING_AFTER * 0.9)
    answer.event(text="b")
    await asyncio.sleep(PING_AFTER * 0.9)
    assert len(answer.client.chunks) == 4
    await asyncio.sleep(PING_AFTER * 0.2)
    assert answer.client.chunks[4:] == answer.client.chunks[:1]
    answer.event(done=pb.Done(finish_reason="stop"))
    await answer.task
    await asyncio.sleep(PING_AFTER * 2)
    assert len(answer.client.chunks) == 6
    assert b'"stop"' in answer.client.chunks[-1] or b'"done":true' in answer.client.chunks[-1]


@virtual
async def test_no_ping_follows_the_end_of_a_body_that_the_client_was_slow_to_read() -> None:
    """It would be the beginning of the connection's next answer."""
    client = Client()
    answer = Answer(client, openai=True, stall=100)
    await answer.worker()
    answer.event(text="a")
    await asyncio.sleep(0.1)
    client.fits = 1
    answer.event(done=pb.Done())
    ended_at = asyncio.get_running_loop().time()
    asyncio.get_running_loop().call_at(ended_at + PING_AFTER, client.reads.set)
    await answer.task
    assert asyncio.get_running_loop().time() == ended_at + PING_AFTER
    assert client.chunks[-1].endswith(b"data: [DONE]\n\n")


@virtual
async def test_a_client_that_reads_slowly_is_waited_for_and_gets_no_pings() -> None:
    client = Client()
    answer = Answer(client, openai=True, stall=2)
    await answer.worker()
    answer.event(text="a")
    await asyncio.sleep(0.1)
    client.reads.clear()
    client.unacknowledged.extend(range(100, 0, -1))
    for text in "bc":
        answer.event(text=text)
    await asyncio.sleep(2 * PING_AFTER)
    before = len(client.chunks)
    answer.event(text="d")
    client.reads.set()
    await asyncio.sleep(0.1)
    assert len(client.chunks) == before + 1
    assert [event["choices"][0]["delta"]["content"] for event in events_of(OPENAI, client.chunks[-1])] == ["cd"]
    answer.event(done=pb.Done())
    await answer.task
    assert answer.closed[0] == "ok"


@STREAMED
@virtual
async def test_a_client_that_reads_nothing_is_dropped(stream: bool, logged: Logged) -> None:
    client = Client()
    answer = Answer(client, stream=stream, stall=2)
    await answer.worker()
    answer.event(text="a")
    await asyncio.sleep(0.1)
    client.reads.clear()
    for event in ({"text": "b"}, {"text": "c"}, {"done": pb.Done()}):
        answer.event(**event)
    await answer.task
    assert client.aborted
    assert (answer.done, answer.closed[0], logged()) == (1, "client_stalled", [])
    assert asyncio.get_running_loop().time() < 5


@virtual
async def test_a_large_whole_answer_is_sent_in_slices() -> None:
    answer = Answer(Client(), stream=False)
    await answer.worker()
    for _ in range(100):
        answer.event(text="x" * PIECE * 10)
    answer.event(done=pb.Done())
    await answer.task
    assert max(map(len, answer.client.chunks)) == SLICE
    body = b"".join(answer.client.chunks)
    assert (b"content-length", str(len(body)).encode()) in answer.client.sent[0]["headers"]
    assert len(json.loads(body)["content"]) == 1000 * PIECE


@STREAMED
@virtual
async def test_a_client_that_leaves_ends_the_chat_quietly(stream: bool, logged: Logged) -> None:
    answer = Answer(Client(), stream=stream)
    await answer.worker()
    answer.event(text="a", tokens=1)
    answer.client.gone.set()
    await answer.task
    assert (answer.done, answer.chat.reply.end, answer.closed) == (1, None, ("client_gone", 1))
    assert (answer.closed[0], logged()) == ("client_gone", [])
    assert [reason for _, _, reason in answer.stage.cancels()] == ["client_gone"]


@STREAMED
@virtual
async def test_a_connection_that_fails_is_a_client_that_left(stream: bool, logged: Logged) -> None:
    answer = Answer(Client(failure=BrokenPipeError(32, "broken")), stream=stream)
    await answer.worker()
    answer.event(text="a")
    answer.event(done=pb.Done())
    await answer.task
    assert answer.done == 1
    assert (answer.closed[0], logged()) == ("client_gone", [])


@virtual
async def test_what_fails_as_a_client_leaves_is_no_error(logged: Logged) -> None:
    answer = Answer(Client())
    await answer.worker()

    def broken(*_: object) -> None:
        raise LookupError("secret")

    answer.stage.admission.dispatch = broken  # type: ignore[method-assign]
    answer.client.gone.set()
    await answer.task
    assert answer.done == 1
    assert logged() == [("warning", "an answer failed as its client left")]


@pytest.mark.parametrize("part", ["event", "end", "whole"])
@virtual
async def test_a_defect_of_an_encoder_is_an_error_of_its_answer(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise LookupError("defect")

    monkeypatch.setattr(Ndjson, part, broken)
    answer = Answer(Client(), stream=part != "whole")
    await answer.worker()
    for event in ({"text": "a"}, {"text": "b"}, {"done": pb.Done()}):
        answer.event(**event)
    with pytest.raises(ExceptionGroup) as raised:
        await answer.task
    assert raised.group_contains(LookupError)
    assert not answer.client.is_answered
    assert answer.done == 1
    assert len(answer.stage.chats) == 0


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving() as made:
        yield made


TEXTS: list[dict[str, Any]] = [{"text": "é"}, {"reasoning": "é"}, {"tool_call": pb.ToolCall(arguments="é")}]


@pytest.mark.parametrize(
    ("path", "event"),
    [*((path, event) for path in (SEED, OPENAI) for event in TEXTS), (OPENAI, {"logprobs": "[1]"})],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_every_event_is_a_chunk_as_soon_as_it_comes(gateway: Gateway, path: str, event: dict[str, Any]) -> None:
    """Each kind takes the same way, and its credit is given back at once."""
    size = payload_bytes(pb.ReplyEvent(**event))
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        connection.send("POST", path, json.dumps(BODIES[path]).encode())
        worker = await gateway.asked()
        chunks = None
        for number in range(1, 20):
            worker.event(position=number, **event)
            if chunks is None:
                chunks = (await connection.answer()).chunks()
            assert len(events_of(path, await anext(chunks))) == 1
            assert worker.consumed == number * size
        worker.done()
        assert chunks is not None
        rest = [chunk async for chunk in chunks]
    assert len(rest) == 1
    assert content_of(path, rest[0]) == ""


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_a_client_that_stops_reading_for_a_moment_gets_every_byte_in_order(gateway: Gateway, path: str) -> None:
    async with asyncio.timeout(20), Connection(gateway.address, limit=1024, receive_buffer=4096) as connection:
        connection.send("POST", path, json.dumps(BODIES[path]).encode())
        worker = await gateway.asked()
        sent: list[str] = []
        got: list[str] = []

        def speak() -> None:
            sent.append(f"{len(sent):0{PIECE}}")
            worker.text(sent[-1])

        async def fill() -> None:
            while worker.unread < CREDIT:
                speak()
                if len(sent) % 10 == 0:
                    await asyncio.sleep(0)

        speak()
        chunks = (await connection.answer()).chunks()
        for _ in range(3):
            await fill()
            assert worker.consumed == worker.pushed - worker.unread
            while len("".join(got)) < PIECE * (len(sent) - 20):
                got.append(content_of(path, await anext(chunks)))
            await until(lambda: worker.unread == 0)
            for _ in range(5):
                speak()
        worker.done()
        got.extend([content_of(path, chunk) async for chunk in chunks])
    assert "".join(got) == "".join(sent)


async def test_an_old_client_gets_the_same_without_chunks(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection(*gateway.address)
    async with asyncio.timeout(10):
        writer.write(asking(SEED, version="1.0"))
        worker = await gateway.asked()
        worker.text("a")
        head = await reader.readuntil(b"\r\n\r\n")
        worker.text("b")
        await until(lambda: worker.unread == 0)
        worker.text("c")
        worker.done()
        body = await reader.read()
    writer.close()
    assert b"transfer-encoding" not in head
    assert b"connection: close\r\n" in head
    assert "".join(json.loads(line)["content"] for line in body.splitlines()) == "abc"


async def test_a_request_in_a_row_with_another_is_not_served(gateway: Gateway) -> None:
    """The second is sent before the first is answered: that answer is whole, says that it is the last, and is."""
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        connection._writer.write(asking(SEED) + asking(OPENAI))
        worker = await gateway.asked()
        worker.text("a")
        response = await connection.answer()
        for text in "bcd":
            worker.text(text)
            await asyncio.sleep(0)
        worker.done()
        got = [content_of(SEED, chunk) async for chunk in response.chunks()]
        assert "".join(got) == "abcd"
        assert response.headers["connection"] == "close"
        assert await connection.at_end()
    assert len(gateway.stage.histories()) == 1


async def test_a_request_after_each_answer_is_served(gateway: Gateway) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        for count, path in enumerate((SEED, OPENAI, SEED), 1):
            connection._writer.write(asking(path))
            worker = await gateway.asked(count)
            for text in "abcd":
                worker.text(text)
            worker.done()
            got = [content_of(path, chunk) async for chunk in (await connection.answer()).chunks()]
            assert "".join(got) == "abcd"


async def test_one_chat_that_goes_wrong_takes_no_other_with_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as good, Connection(gateway.address) as bad:
        good.send("POST", SEED, json.dumps(BODIES[SEED]).encode())
        first = await gateway.asked(1)
        bad.send("POST", OPENAI, json.dumps(BODIES[OPENAI]).encode())
        second = await gateway.asked(2)
        for worker in (first, second):
            worker.text("a")
        response = await good.answer()
        assert (await bad.answer()).status == 200

        def broken(*_: object) -> bytes:
            raise LookupError

        monkeypatch.setattr(OpenAIFormat, "event", broken)
        second.text("b")
        first.text("b")
        await until(lambda: not second.runs)
        first.text("c")
        first.done()
        got = [content_of(SEED, chunk) async for chunk in response.chunks()]
        assert "".join(got) == "abc"
        assert not (await bad._reader.read()).endswith(b"0\r\n\r\n")
    assert [reason for _, _, reason in gateway.stage.cancels()] == ["client_gone"]


@pytest.mark.parametrize("behind", [b"", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", b"\x00"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_in_the_middle_ends_its_chat(gateway: Gateway, reset: bool, behind: bytes) -> None:
    """Also if it has sent more than its request."""
    async with asyncio.timeout(10):
        async with Connection(gateway.address) as connection:
            connection.send("POST", SEED, json.dumps(BODIES[SEED]).encode())
            worker = await gateway.asked()
            worker.text("a")
            await connection.answer()
            worker.text("b")
            connection._writer.write(behind)
            if reset:
                connection.reset()
        while worker.runs:
            worker.text("c")
            await asyncio.sleep(0.001)
    assert gateway.stage.cancels()[0][2] == "client_gone"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_a_silent_chat_ends_it(gateway: Gateway, stream: bool, reset: bool) -> None:
    async with asyncio.timeout(10):
        async with Connection(gateway.address) as connection:
            connection._writer.write(asking(SEED, stream=stream) + asking(SEED))
            worker = await gateway.asked()
            if reset:
                connection.reset()
        await until(lambda: not worker.runs)
    assert [reason for _, _, reason in gateway.stage.cancels()] == ["client_gone"]


@virtual
async def test_an_error_that_a_format_cannot_express_cuts_the_answer() -> None:
    client = Client()
    answer = Answer(client, hold=None, encoder=Text())
    await answer.worker()
    await asyncio.sleep(30)
    assert client.sent == [], "the status line waits for the first event"
    answer.event(custom=pb.Custom(kind="answer", json="{"))
    await asyncio.sleep(0.1)
    assert (client.sent[0]["status"], client.chunks) == (200, [b"{"])
    answer.event(error=pb.Error(code="model_failed"))
    await answer.task
    assert client.aborted
    assert not client.is_answered
    assert client.chunks == [b"{"]
    assert (answer.done, answer.closed) == (1, ("model_failed", 0))
    assert answer.chat.record.is_failure


@virtual
async def test_a_format_that_has_no_more_to_say_ends_well() -> None:
    client = Client()
    answer = Answer(client, hold=None, encoder=Text())
    await answer.worker()
    answer.event(custom=pb.Custom(kind="answer", json="{}"))
    answer.event(done=pb.Done())
    await answer.task
    assert client.chunks == [b"{}"]
    assert client.is_answered
    assert not client.aborted
