"""Attempts, fencing and the one end of every chat, with the workers played by the test."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from fleet.lane import Inbox, IncomingReply
from fleet.lane.reply import EVENT_BYTES
from fleet.process.breaker import THRESHOLD
from gateway.chats.chat import Chat
from gateway.chats.chats import UNKNOWN_REQUESTS, Chats
from gateway.chats.observer import Observer
from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, Unavailable
from gateway.routing.admission import Admission
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb
from tests.harness.virtual import virtual
from tests.harness.waiting import SOON, until
from tests.unit.gateway.chats.test_reply import AGENTS

AN_HOUR = 3600.0


class Noted(Observer):
    """Keeps the moments that it is told of."""

    def __init__(self) -> None:
        self.moments: list[tuple[str | int, ...]] = []

    def attempt_started(self, chat: Chat, number: int, worker_id: str) -> None:
        self.moments.append(("attempt_started", chat.request_id, number, worker_id))

    def attempt_ended(self, chat: Chat, number: int, worker_id: str, code: str) -> None:
        self.moments.append(("attempt_ended", chat.request_id, number, code))

    def first_event(self, chat: Chat) -> None:
        self.moments.append(("first_event", chat.request_id))


class CountingInbox(Inbox):
    """Counts what is reported as consumed."""

    def __init__(self, credit: dict[str, int], answer: Callable[[pb.ChunkAck, str], None]) -> None:
        super().__init__("g", answer)
        self._credit = credit

    def open(self, worker_id: str, request_id: str, attempt: int) -> IncomingReply:
        incoming = super().open(worker_id, request_id, attempt)
        report = incoming.consumed
        self._credit[request_id] = 0

        def consumed(size: int) -> None:
            self._credit[request_id] += size
            report(size)

        incoming.consumed = consumed  # type: ignore[method-assign]
        return incoming


class Stage:
    """A gateway's chats between played workers and a played client."""

    def __init__(self, workers: int = 2, clock: Callable[[], float] = time.monotonic, **settings: float) -> None:
        self.clock = clock
        self.sent: list[tuple[Message, str]] = []
        self.settings = GatewaySettings(**settings)  # type: ignore[arg-type]
        self.directory = Directory("g", 30.0)
        for number in range(workers):
            self.enter(f"w{number}")
        self.breakers = Breakers()
        self.admission = Admission(self.directory, self.breakers, 10, self.settings.queue_timeout, clock)
        self.admission.linked = True
        self.credit: dict[str, int] = {}
        """Bytes that were reported as consumed, by request."""
        self.inbox = CountingInbox(self.credit, self.record)
        self.observer = Noted()
        self.chats = Chats(self.settings, self.admission, self.breakers, self.inbox, self.record, clock, self.observer)

    def enter(self, worker_id: str, route: int = 0) -> None:
        status = pb.WorkerStatus(
            worker_id=worker_id, models=["m"], capacity=4, state=pb.WORKER_STATE_READY, routes=[route]
        )
        self.hear(status)

    def hear(self, status: pb.WorkerStatus) -> None:
        """Take a status that stays fresh: no worker falls silent because the machine stalls before the next step."""
        self.directory.heard(status, self.clock() + AN_HOUR)

    def record(self, message: Message, worker_id: str) -> None:
        copy = type(message)()
        copy.CopyFrom(message)
        self.sent.append((copy, worker_id))

    def begin(self, request_id: str = "r") -> tuple[Chat, asyncio.Task[None]]:
        """Open a chat; the task closes it when its reply has ended."""
        chat = Chat(pb.ChatHistory(request_id=request_id, model="m"))
        return chat, asyncio.create_task(self._run(chat))

    async def _run(self, chat: Chat) -> None:
        async with self.chats.open(chat):
            while chat.reply.end is None:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)

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


async def read(chat: Chat) -> tuple[str, End]:
    """Read the reply to its end, as a client that keeps up."""
    texts: list[str] = []
    chat.reply.resume(lambda event: texts.append(event.text))
    while chat.reply.end is None:
        async with asyncio.timeout(100):
            await chat.reply.changed()
    return "".join(texts), chat.reply.end


def error(code: str, *, retryable: bool) -> pb.Error:
    return pb.Error(code=code, message=code, retryable=retryable)


async def cancel(driver: asyncio.Task[None]) -> None:
    """The client leaves."""
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)


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


@virtual
async def test_a_worker_that_does_not_take_it_on_is_left_for_another() -> None:
    stage = Stage(clock=asyncio.get_running_loop().time, accept_timeout=2)
    _, driver = stage.begin()
    (_, first), (_, second) = (await stage.asked(2))[:2]
    assert first != second
    assert stage.cancels()[0] == (first, 1, "not_accepted")
    await cancel(driver)


async def test_attempts_are_bounded_and_the_last_failure_is_told() -> None:
    stage = Stage(max_attempts=3)
    chat, driver = stage.begin()
    for number in range(1, 4):
        _, worker = (await stage.asked(number))[-1]
        stage.chunk(worker, attempt=number, error=error("model_unreachable", retryable=True))
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code, end.status, end.attempts) == ("", "model_unreachable", 502, 3)
    assert "x-should-retry" not in end.headers()
    await driver


async def test_a_model_that_fails_is_called_once_more_by_another_worker_and_then_left_alone() -> None:
    stage = Stage(workers=3)
    chat, driver = stage.begin()
    for number in (1, 2):
        _, worker = (await stage.asked(number))[-1]
        stage.chunk(worker, attempt=number, error=error("model_failed", retryable=True))
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, end.attempts, end.headers()["x-should-retry"]) == ("model_failed", 2, "false")
    await driver
    assert len({worker for _, worker in stage.histories()}) == 2


@pytest.mark.parametrize("code", ["model_failed", "model_rate_limited"])
async def test_a_model_with_one_way_to_it_is_left_to_the_clients_own_retries(code: str) -> None:
    stage = Stage(workers=1 if code == "model_failed" else 3)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, error=error(code, retryable=True))
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, end.attempts) == (code, 1)
    assert "x-should-retry" not in end.headers()
    await driver


@virtual
async def test_a_provider_that_says_when_is_asked_again_then_and_not_before() -> None:
    clock = asyncio.get_running_loop().time
    stage = Stage(workers=1, clock=clock)
    chat, driver = stage.begin()
    await stage.asked()
    limited = error("model_rate_limited", retryable=True)
    limited.retry_after.FromMilliseconds(1500)
    stage.chunk("w0", error=limited)
    began = clock()
    await asyncio.sleep(1.4)
    assert len(stage.histories()) == 1
    await asyncio.sleep(0.2)
    assert len(stage.histories()) == 2
    stage.chunk("w0", attempt=2, error=limited)
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.attempts, end.retry_after, end.repeated) == (2, 1.5, True)
    assert clock() - began < 2
    await driver


async def test_no_route_is_tried_twice_because_all_have_failed_lately() -> None:
    stage = Stage(workers=0)
    routes = {"w0": 1, "w1": 2}
    for worker, route in routes.items():
        stage.enter(worker, route)
    for _ in range(5):
        chat, driver = stage.begin()
        begun = len(stage.histories())
        for number in (1, 2):
            _, worker = (await stage.asked(begun + number))[-1]
            stage.chunk(worker, attempt=number, error=error("model_failed", retryable=True))
        _, end = await read(chat)
        assert isinstance(end, GatewayError)
        assert end.attempts == 2
        await driver
        assert {worker for _, worker in stage.histories()[begun:]} == {"w0", "w1"}


@pytest.mark.parametrize("code", ["model_failed", "model_rate_limited"])
async def test_every_other_route_to_a_model_is_tried_once(code: str) -> None:
    stage = Stage(workers=0)
    routes = {"w0": 1, "w1": 1, "w2": 1, "w3": 2, "w4": 3}
    for worker, route in routes.items():
        stage.enter(worker, route)
    chat, driver = stage.begin()
    for number in (1, 2, 3):
        _, worker = (await stage.asked(number))[-1]
        stage.chunk(worker, attempt=number, error=error(code, retryable=True))
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, end.attempts) == (code, 3)
    await driver
    assert sorted(routes[worker] for _, worker in stage.histories()) == [1, 2, 3]


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


@pytest.mark.parametrize("full", ["m", ""])
async def test_a_worker_that_is_full_for_one_model_has_room_for_the_others(full: str) -> None:
    stage = Stage(workers=0)
    status = pb.WorkerStatus(worker_id="w", models=["m", "n"], capacity=4, state=pb.WORKER_STATE_READY)
    status.details["m"].concurrency = 2
    stage.hear(status)
    chat, task = stage.begin()
    await stage.asked()
    stage.chunk("w", error=pb.Error(code="worker_full", retryable=True, full=full))
    [worker] = stage.directory
    await until(lambda: stage.admission.waiting == 1)
    assert (worker.has_room, worker.limited["m"].has_room) == (full == "m", full == "")
    stage.hear(status)
    stage.admission.dispatch()
    await stage.asked(2)
    stage.chunk("w", 2, done=pb.Done(finish_reason="stop"))
    await task
    assert (chat.attempts, worker.in_flight, worker.limited["m"].in_flight) == (1, 0, 0)


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
    await cancel(driver)
    assert stage.cancels() == [(worker, 1, "client_gone")]
    assert [w.in_flight for w in stage.directory] == [0, 0]
    assert len(stage.chats) == 0


@virtual
async def test_a_model_that_is_silent_before_the_first_token_is_cut_off() -> None:
    stage = Stage(clock=asyncio.get_running_loop().time, first_token_timeout=2)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, accepted=pb.Accepted())
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (end.code, end.status) == ("first_token_timeout", 504)
    await driver
    assert stage.cancels() == [(worker, 1, "first_token_timeout")]


@virtual
async def test_a_model_that_falls_silent_is_cut_off_but_a_slow_reader_is_no_silence() -> None:
    stage = Stage(clock=asyncio.get_running_loop().time, token_timeout=2)
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, text="unread")
    await asyncio.sleep(8)
    assert not driver.done()
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code) == ("unread", "token_timeout")
    await driver


@virtual
async def test_the_deadline_ends_it_whatever_happens() -> None:
    stage = Stage(clock=asyncio.get_running_loop().time, request_timeout=2)
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
    await cancel(driver)


async def test_a_terminal_chunk_for_nobody_is_not_answered() -> None:
    stage = Stage()
    stage.chunk("w0", done=pb.Done())
    stage.chunk("w0", text="a")
    assert stage.cancels() == [("w0", 1, "unknown_request")]


async def test_a_worker_is_told_of_few_at_once_that_nobody_waits_for_what_it_sends() -> None:
    stage = Stage()
    stage.chats.deliver("w0", [pb.ReplyEvent(request_id=f"{number}", attempt=1) for number in range(10_000)])
    assert len(stage.cancels()) == UNKNOWN_REQUESTS


async def test_a_trial_that_gets_its_first_token_closes_the_breaker_whatever_comes_then() -> None:
    stage = Stage(workers=1)
    for _ in range(THRESHOLD):
        stage.breakers.failed("w0", time.monotonic())
    _, driver = stage.begin()
    await stage.asked()
    stage.chunk("w0", text="a")
    await cancel(driver)
    assert len(stage.breakers) == 0


async def test_a_model_that_fails_is_no_fault_of_its_workers() -> None:
    stage = Stage(workers=1)
    for _ in range(THRESHOLD):
        stage.breakers.failed("w0", 0.0)
    chat, driver = stage.begin()
    await stage.asked()
    stage.chunk("w0", error=pb.Error(code="model_failed"))
    await read(chat)
    await driver
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
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code) == ("unread", "token_timeout")
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
    other, other_driver = stage.begin("other")
    workers = {message.request_id: worker for message, worker in await stage.asked(2)}
    stage.chunk(workers["r"], text="a")
    for odd in ("{", "5", "{}"):
        events = [
            pb.ReplyEvent(request_id="r", attempt=1, logprobs=odd),
            pb.ReplyEvent(request_id="other", attempt=1, text="x"),
        ]
        for worker in set(workers.values()):
            stage.chats.deliver(worker, events)
    assert other.reply.started
    _, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert end.code == "chunk_invalid"
    await driver
    assert not other_driver.done()
    await cancel(other_driver)


async def test_a_first_event_that_is_not_valid_counts_against_its_worker_and_another_is_tried() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, first)] = await stage.asked()
    stage.chunk(first, logprobs="{")
    assert not chat.reply.started
    second = (await stage.asked(2))[1][1]
    assert second != first
    assert len(stage.breakers) == 1
    stage.chunk(second, attempt=2, text="a")
    stage.chunk(second, attempt=2, done=pb.Done(finish_reason="stop"))
    assert await read(chat) == ("a", Completed("stop"))
    await driver


async def test_a_worker_that_is_lost_after_a_chat_was_cut_off_gets_no_successor() -> None:
    """The client may still be reading: the chat is open until its response leaves."""
    stage = Stage()
    chat = Chat(pb.ChatHistory(request_id="r", model="m"))
    async with stage.chats.open(chat):
        [(_, worker)] = await stage.asked()
        stage.chats.cut_off()
        stage.chunk(worker, text="late")
        stage.chats.worker_gone(worker)
        await until(lambda: not len(stage.chats))
    assert isinstance(chat.reply.end, Unavailable)
    assert len(stage.histories()) == 1


@pytest.mark.parametrize("field", ["done", "error"])
async def test_an_end_does_not_keep_its_batch(field: str) -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    kind = {"done": pb.Done, "error": pb.Error}[field]
    end: dict[str, Any] = {field: kind(usage=pb.Usage(prompt_tokens=1))}
    batch = pb.ChunkBatch(events=[pb.ReplyEvent(request_id="r", attempt=1, **end)])
    stage.chats.deliver(worker, list(batch.events))
    getattr(batch.events[0], field).usage.prompt_tokens = 2
    _, ended = await read(chat)
    assert ended.usage == pb.Usage(prompt_tokens=1)
    await driver


async def test_an_acceptance_after_a_cut_off_is_no_success_of_its_worker() -> None:
    stage = Stage(workers=1)
    chat = Chat(pb.ChatHistory(request_id="r", model="m"))
    async with stage.chats.open(chat):
        [(_, worker)] = await stage.asked()
        stage.breakers.failed(worker, stage.clock())
        stage.chats.cut_off()
        stage.chunk(worker, accepted=pb.Accepted())
        assert len(stage.breakers) == 1


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


# ---------------------------------------------------------------- open and closed


async def test_a_draining_gateway_opens_no_chat() -> None:
    stage = Stage()
    stage.chats.draining = True
    with pytest.raises(Unavailable, match="about to leave"):
        async with stage.chats.open(Chat(pb.ChatHistory(request_id="r"))):
            pytest.fail("opened")
    await stage.chats.idle()
    assert stage.sent == []


async def test_a_gateway_is_idle_when_its_last_chat_is_closed_and_not_when_its_reply_has_ended() -> None:
    stage = Stage()
    chat = Chat(pb.ChatHistory(request_id="r", model="m"))
    async with stage.chats.open(chat):
        [(_, worker)] = await stage.asked()
        stage.chunk(worker, done=pb.Done(finish_reason="stop"))
        await until(lambda: len(stage.chats) == 0)
        idle = asyncio.create_task(stage.chats.idle())
        await asyncio.sleep(0)
        assert not idle.done()
    async with asyncio.timeout(SOON):
        await idle


async def test_what_goes_wrong_in_the_body_cancels_the_chat_and_is_raised() -> None:
    stage = Stage()

    async def fail() -> None:
        async with stage.chats.open(Chat(pb.ChatHistory(request_id="r", model="m"))):
            await stage.asked()
            raise LookupError

    with pytest.raises(ExceptionGroup) as raised:
        await fail()
    assert raised.group_contains(LookupError)
    assert [reason for _, _, reason in stage.cancels()] == ["client_gone"]
    assert len(stage.chats) == 0


async def test_a_defect_of_the_chat_ends_the_body() -> None:
    stage = Stage()

    def broken(*_: object) -> None:
        raise LookupError

    stage.admission.lease = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(SOON), stage.chats.open(Chat(pb.ChatHistory(request_id="r", model="m"))):
            await asyncio.Event().wait()
    assert raised.group_contains(LookupError)
    await stage.chats.idle()


async def test_the_body_of_a_request_is_released_once_with_the_history() -> None:
    stage = Stage()
    released = 0

    def release() -> None:
        nonlocal released
        released += 1

    chat = Chat(pb.ChatHistory(request_id="r", model="m"), release)
    async with stage.chats.open(chat):
        [(_, worker)] = await stage.asked()
        stage.chunk(worker, accepted=pb.Accepted())
        assert released == 0
        for text in "ab":
            stage.chunk(worker, text=text)
            assert released == 1


# ---------------------------------------------------------------- positions


async def test_events_that_come_again_are_dropped() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, accepted=pb.Accepted())
    for position, text in ((1, "a"), (2, "b"), (1, "a"), (2, "b"), (3, "c"), (3, "c")):
        stage.chunk(worker, text=text, position=position)
    stage.chunk(worker, done=pb.Done(finish_reason="stop"), position=4)
    assert await read(chat) == ("abc", Completed("stop"))
    await driver
    assert stage.cancels() == []


@pytest.mark.parametrize("late", [{"text": "c"}, {"done": pb.Done()}, {"error": pb.Error()}, {}])
async def test_a_missing_event_ends_what_has_begun(late: dict[str, Any]) -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    stage.chunk(worker, text="a", position=1)
    stage.chunk(worker, position=3, **late)
    stage.chunk(worker, text="d", position=4)
    text, end = await read(chat)
    assert isinstance(end, GatewayError)
    assert (text, end.code, end.retryable) == ("a", "lane_broken", True)
    await driver
    assert stage.cancels()[-1] == (worker, 1, "lane_broken")


async def test_a_missing_first_event_means_another_attempt_whose_events_count_from_one() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, first)] = await stage.asked()
    stage.chunk(first, text="b", position=2)
    _, (_, second) = await stage.asked(2)
    stage.chunk(second, attempt=2, text="a", position=1)
    stage.chunk(second, attempt=2, done=pb.Done(finish_reason="stop"), position=2)
    assert (await read(chat))[0] == "a"
    await driver


async def test_an_event_of_a_later_version_counts_and_is_ignored() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    unknown = pb.ReplyEvent(request_id="r", attempt=1, position=1).SerializeToString() + b"\xfa\x01\x01x"
    stage.chats.deliver(worker, [pb.ReplyEvent.FromString(unknown)])
    assert not chat.reply.started
    assert stage.credit["r"] == EVENT_BYTES + 1  # as its worker counts it
    stage.chunk(worker, text="a", position=2)
    stage.chunk(worker, done=pb.Done(finish_reason="stop"), position=3)
    assert await read(chat) == ("a", Completed("stop"))
    await driver


@pytest.mark.parametrize(
    "event",
    AGENTS,
    ids=lambda event: next(iter(event)),
)
async def test_every_kind_of_event_is_delivered_in_order(event: dict[str, Any]) -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    kinds: list[str | None] = []
    stage.chunk(worker, position=1, **event)
    stage.chunk(worker, text="a", position=2)
    chat.reply.resume(lambda event: kinds.append(event.WhichOneof("event")))
    stage.chunk(worker, position=3, **event)
    stage.chunk(worker, done=pb.Done(finish_reason="stop"), position=4)
    assert kinds == [*event, "text", *event]
    await driver


# ---------------------------------------------------------------- what is observed


async def test_an_observer_is_told_of_each_attempt_and_of_the_first_event() -> None:
    stage = Stage()
    chat, driver = stage.begin()
    [(_, first)] = await stage.asked()
    stage.chunk(first, error=error("worker_draining", retryable=True))
    _, (_, second) = await stage.asked(2)
    stage.chunk(second, attempt=2, accepted=pb.Accepted())
    for text in "ab":
        stage.chunk(second, attempt=2, text=text)
    stage.chunk(second, attempt=2, done=pb.Done(finish_reason="stop"))
    await read(chat)
    await driver
    assert stage.observer.moments == [
        ("attempt_started", "r", 1, first),
        ("attempt_ended", "r", 1, "worker_draining"),
        ("attempt_started", "r", 2, second),
        ("first_event", "r"),
        ("attempt_ended", "r", 2, ""),
    ]


async def test_an_observer_is_told_of_a_client_that_leaves() -> None:
    stage = Stage()
    _, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    await cancel(driver)
    assert stage.observer.moments == [("attempt_started", "r", 1, worker), ("attempt_ended", "r", 1, "client_gone")]
