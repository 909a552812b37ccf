"""Attempts, fencing and the one end of every chat, with the workers played by the test."""

import asyncio
import time
from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from fleet.lane import Inbox
from gateway.chats.chats import STRANGERS, Chat, Chats
from gateway.chats.reply import Completed, Piece
from gateway.errors import GatewayError
from gateway.routing.admission import Admission
from gateway.routing.breaker import THRESHOLD, Breakers
from gateway.routing.directory import Directory
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb
from tests.harness.virtual import virtual


class Stage:
    """A gateway's chats between played workers and a played client."""

    def __init__(self, workers: int = 2, clock: Callable[[], float] = time.monotonic, **settings: float) -> None:
        self.clock = clock
        self.sent: list[tuple[Message, str]] = []
        self.settings = GatewaySettings(**{"accept_timeout": 0.2, "queue_timeout": 1, **settings})  # type: ignore[arg-type]
        self.directory = Directory("g", 30.0)
        for number in range(workers):
            self.enter(f"w{number}")
        self.breakers = Breakers()
        self.admission = Admission(self.directory, self.breakers, 10, self.settings.queue_timeout, clock)
        self.admission.linked = True
        inbox = Inbox("g", self.record)
        self.chats = Chats(self.settings, self.admission, self.breakers, inbox, self.record, clock)

    def enter(self, worker_id: str) -> None:
        status = pb.WorkerStatus(worker_id=worker_id, models=["m"], capacity=4, state=pb.WORKER_STATE_READY)
        self.directory.heard(status, self.clock())

    def record(self, message: Message, worker_id: str) -> None:
        copy = type(message)()
        copy.CopyFrom(message)
        self.sent.append((copy, worker_id))

    def begin(self) -> tuple[Chat, asyncio.Task[None]]:
        chat = self.chats.open(pb.ChatHistory(request_id="r", model="m"))
        return chat, asyncio.create_task(self.chats.drive(chat))

    async def asked(self, times: int = 1) -> list[tuple[pb.ChatHistory, str]]:
        """Wait until that many attempts were sent; return them with the workers that got them."""
        await until(lambda: len(self.histories()) >= times)
        return self.histories()

    def histories(self) -> list[tuple[pb.ChatHistory, str]]:
        return [(message, worker) for message, worker in self.sent if isinstance(message, pb.ChatHistory)]

    def cancels(self) -> list[tuple[str, int, str]]:
        return [(w, m.attempt, m.reason) for m, w in self.sent if isinstance(m, pb.CancelChat)]

    def chunk(self, worker_id: str, attempt: int = 1, **event: object) -> None:
        chunk = pb.ReplyEvent(request_id="r", attempt=attempt, **event)  # type: ignore[arg-type]
        self.chats.deliver(worker_id, [chunk])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.001)


async def read(chat: Chat) -> tuple[str, Completed | GatewayError]:
    text = ""
    async with asyncio.timeout(5):
        while isinstance(item := await chat.reply.get(), Piece):
            text += item.text
            chat.consumed(item.size)
    assert item is not None
    return text, item


def error(code: str, *, retryable: bool) -> pb.Error:
    return pb.Error(code=code, message=code, retryable=retryable)


async def test_a_reply_comes_whole_and_gives_its_place_back() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(history, worker)] = await stage.asked()
    assert history.reply_to == "g"
    assert 0 < history.deadline.ToMilliseconds() <= stage.settings.request_timeout * 1000
    stage.chunk(worker, accepted=pb.Accepted())
    stage.chunk(worker, text="a")
    stage.chunk(worker, text="b")
    stage.chunk(worker, done=pb.Done(finish_reason="stop", usage=pb.Usage(completion_tokens=2)))
    assert await read(chat) == ("ab", Completed("stop", pb.Usage(completion_tokens=2)))
    await driver
    assert len(stage.chats) == 0
    assert [w.in_flight for w in stage.directory] == [0, 0]
    assert stage.cancels() == []


async def test_a_worker_that_refuses_is_left_for_another() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, first)] = await stage.asked()
    stage.chunk(first, error=error("worker_draining", retryable=True))
    (_, _), (history, second) = await stage.asked(2)
    assert second != first
    assert history.attempt == 2
    stage.chunk(second, attempt=2, text="a")
    stage.chunk(second, attempt=2, done=pb.Done(finish_reason="stop"))
    assert (await read(chat))[0] == "a"
    await driver


async def test_chunks_of_an_older_attempt_are_dropped_and_their_sender_is_told_to_stop() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, first)] = await stage.asked()
    stage.chats.worker_left(first)
    (_, _), (_, second) = await stage.asked(2)
    stage.chunk(first, attempt=1, text="stale")
    stage.chunk(second, attempt=2, text="fresh")
    stage.chunk(second, attempt=2, done=pb.Done(finish_reason="stop"))
    assert (await read(chat))[0] == "fresh"
    assert (first, 1, "unknown_request") in stage.cancels()
    await driver


async def test_a_worker_that_does_not_take_it_on_is_left_for_another() -> None:
    stage = Stage(accept_timeout=0.01)
    _, driver = stage.begin()
    (_, first), (_, second) = (await stage.asked(2))[:2]
    assert first != second
    assert stage.cancels()[0] == (first, 1, "not_accepted")
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)


async def test_attempts_are_bounded_and_the_last_failure_is_told() -> None:
    stage = Stage(max_attempts=3)
    chat, driver = stage.begin()
    for number in range(1, 4):
        _, worker = (await stage.asked(number))[-1]
        stage.chunk(worker, attempt=number, error=error("model_failed", retryable=True))
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code, end.status) == ("", "model_failed", 502)
    await driver


async def test_what_cannot_be_helped_is_not_tried_again() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, error=error("model_unauthorized", retryable=False))
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert end.code == "model_unauthorized"
    await driver
    assert len(stage.histories()) == 1


async def test_after_the_first_token_a_failure_is_the_end() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, text="a")
    stage.chunk(worker, error=error("model_stream_broken", retryable=True))
    stage.chunk(worker, text="late")
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code, end.retryable) == ("a", "model_stream_broken", True)
    await driver
    assert len(stage.histories()) == 1


async def test_a_worker_that_is_gone_ends_its_streams() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, text="a")
    stage.chats.worker_left(worker)
    stage.chunk(worker, text="b")  # it has not left for good yet
    stage.chats.worker_gone(worker)
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code, end.retryable) == ("ab", "worker_lost", True)
    await driver


async def test_a_broken_lane_ends_only_what_had_begun() -> None:
    stage = Stage(workers=1)
    chat, driver = stage.begin()
    await stage.asked()
    stage.chats.lane_broken("w0")
    stage.chunk("w0", text="a")
    stage.chats.lane_broken("w0")
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code) == ("a", "lane_broken")
    await driver


async def test_a_client_that_leaves_cancels_at_the_worker() -> None:
    stage = Stage()
    _, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, accepted=pb.Accepted())
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)
    assert stage.cancels() == [(worker, 1, "client_gone")]
    assert [w.in_flight for w in stage.directory] == [0, 0]
    assert len(stage.chats) == 0


async def test_a_model_that_is_silent_before_the_first_token_is_cut_off() -> None:
    stage = Stage(first_token_timeout=0.01)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, accepted=pb.Accepted())
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, end.status) == ("first_token_timeout", 504)
    await driver
    assert stage.cancels() == [(worker, 1, "first_token_timeout")]


async def test_a_model_that_falls_silent_is_cut_off_but_a_slow_reader_is_no_silence() -> None:
    stage = Stage(token_timeout=0.05)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, text="unread")
    await asyncio.sleep(0.2)
    assert not driver.done()
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code) == ("unread", "token_timeout")
    await driver


async def test_the_deadline_ends_it_whatever_happens() -> None:
    stage = Stage(request_timeout=0.05)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, text="a")
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code, end.status) == ("a", "deadline", 504)
    await driver
    assert len(stage.cancels()) == 1


async def test_a_gateway_that_must_leave_says_so_to_every_stream() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    await stage.asked()
    stage.chats.cut_off()
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, end.retryable) == ("draining", True)
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)


async def test_a_terminal_chunk_for_nobody_is_not_answered() -> None:
    stage = Stage()
    stage.chunk("w0", done=pb.Done())
    stage.chunk("w0", text="a")
    assert stage.cancels() == [("w0", 1, "unknown_request")]


async def test_a_worker_is_told_of_few_at_once_that_nobody_waits_for_what_it_sends() -> None:
    stage = Stage()
    stage.chats.deliver("w0", [pb.ReplyEvent(request_id=f"{number}", attempt=1) for number in range(10_000)])
    assert len(stage.cancels()) == STRANGERS


async def test_a_trial_that_gets_its_first_token_closes_the_breaker_whatever_comes_then() -> None:
    stage = Stage(workers=1)
    for _ in range(THRESHOLD):
        stage.breakers.failed(("w0", "m"), time.monotonic())
    _, driver = stage.begin()
    await stage.asked()
    stage.chunk("w0", text="a")
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)
    assert len(stage.breakers) == 0


# ---------------------------------------------------------------- time


@virtual
async def test_the_first_token_has_its_own_time_however_long_an_acceptance_may_take() -> None:
    clock = asyncio.get_running_loop().time
    stage = Stage(clock=clock, accept_timeout=20, first_token_timeout=3)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    await asyncio.sleep(1)
    stage.chunk(worker, accepted=pb.Accepted())
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert end.code == "first_token_timeout"
    assert clock() == pytest.approx(4, abs=0.1)
    await driver


@virtual
async def test_a_slow_client_lengthens_the_time_between_two_tokens_by_no_more_than_it_takes() -> None:
    clock = asyncio.get_running_loop().time
    stage = Stage(clock=clock, accept_timeout=20, first_token_timeout=120, token_timeout=3)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, accepted=pb.Accepted())
    stage.chunk(worker, text="unread")
    await asyncio.sleep(10)
    item = await chat.reply.get()
    assert isinstance(item, Piece)
    chat.consumed(item.size)
    assert isinstance(end := await chat.reply.get(), GatewayError)
    assert end.code == "token_timeout"
    assert clock() == pytest.approx(13, abs=0.1)
    await driver


@virtual
async def test_a_host_that_is_away_is_no_silence_of_the_model() -> None:
    clock = asyncio.get_running_loop().time
    stage = Stage(clock=clock, first_token_timeout=3)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, accepted=pb.Accepted())
    stage.admission.linked = False
    await asyncio.sleep(10)
    stage.admission.linked = True
    stage.chats.relinked()
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert end.code == "first_token_timeout"
    assert clock() == pytest.approx(13, abs=0.1)
    await driver


# ---------------------------------------------------------------- what is kept


async def test_a_history_is_dropped_with_the_first_token() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, first)] = await stage.asked()
    stage.chunk(first, accepted=pb.Accepted())
    kept = [chat.history]
    assert kept != [None]  # another attempt may follow
    stage.chunk(first, error=error("model_failed", retryable=True))
    _, (_, second) = await stage.asked(2)
    stage.chunk(second, attempt=2, text="a")
    kept.append(chat.history)
    assert kept[1] is None
    stage.chunk(second, attempt=2, error=error("model_failed", retryable=True))
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, chat.asked) == ("model_failed", "m")
    await driver


async def test_log_probabilities_that_are_no_list_end_their_chat_and_no_other() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    other = stage.chats.open(pb.ChatHistory(request_id="other", model="m"))
    other_driver = asyncio.create_task(stage.chats.drive(other))
    workers = {message.request_id: worker for message, worker in await stage.asked(2)}
    for odd in ("{", "5", "{}"):
        chunks = [
            pb.ReplyEvent(request_id="r", attempt=1, logprobs=odd),
            pb.ReplyEvent(request_id="other", attempt=1, text="x"),
        ]
        for worker in set(workers.values()):
            stage.chats.deliver(worker, chunks)
    assert other.reply.tokens == 0
    assert other.reply.started
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert end.code == "chunk_invalid"
    await driver
    other_driver.cancel()
    await asyncio.gather(other_driver, return_exceptions=True)


async def test_attempts_are_found_by_their_worker_and_forgotten_with_their_end() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    assert [attempt.worker_id for attempt in stage.chats._running(worker)] == [worker]
    assert list(stage.chats._running("elsewhere")) == []
    assert [attempt.worker_id for attempt in stage.chats._running()] == [worker]
    stage.chunk(worker, text="a")
    stage.chunk(worker, done=pb.Done())
    await read(chat)
    await driver
    assert stage.chats._attempts_at == {}
