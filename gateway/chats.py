"""The chats of this gateway: each gets its attempts, one after the other until the first token, and exactly one end."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import Message

from fleet import logs
from fleet.lane import Inbox
from gateway.admission import Admission
from gateway.breaker import Breakers
from gateway.errors import GatewayError, ModelFailed, OutOfTime, Unavailable, WorkerLost
from gateway.reply import Completed, Reply
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb

log = logs.logger(__name__)

BACKOFF_FIRST = 0.05
BACKOFF_LAST = 1.0
"""Seconds between two attempts: doubled from first to last, each shortened by chance by up to half."""

PAUSE_LIMIT = 2.0
"""Seconds of a model's Retry-After that are waited here; a longer one is the client's to wait, with its real status."""

Send = Callable[[Message, str], None]
"""Publishes a message to a worker id, or loses it."""


@dataclass(eq=False)
class Attempt:
    """One try at a request on one worker. ``outcome`` is None for an end that reached the reply, else why it failed."""

    number: int
    worker_id: str
    outcome: asyncio.Future[GatewayError | None]
    accepted: bool = False
    started: bool = False
    heard_at: float = field(default_factory=time.monotonic)

    def end(self, error: GatewayError | None = None) -> None:
        """Decide the outcome; only the first word counts."""
        if not self.outcome.done():
            self.outcome.set_result(error)

    @property
    def ended_by_worker(self) -> bool:
        """Whether the worker itself reported the end, and so runs this no more."""
        return self.outcome.done() and isinstance(self.outcome.result(), ModelFailed | None)

    def why(self) -> str:
        """Why it ended, in a word; without an outcome its client has left."""
        error = self.outcome.result() if self.outcome.done() else None
        return error.code if error is not None else "client_gone"


class Chat:
    """One request: what is asked, and the queue that its reply goes to."""

    def __init__(self, history: pb.ChatHistory, deadline: float) -> None:
        self.history = history
        self.deadline = deadline
        self.model = history.model
        """The model that answers; known at the latest when a worker is."""
        self.reply = Reply()
        self.attempt: Attempt | None = None
        self.let_go: Callable[[], None] = lambda: None
        """Called when the history is needed no more."""
        self._incoming: Callable[[int], None] | None = None

    @property
    def request_id(self) -> str:
        """The request's id, here and in every answer."""
        return self.history.request_id

    def consumed(self, size: int) -> None:
        """``size`` bytes of the reply are with the client: the worker may send as much again."""
        self.reply.unread -= size
        if self.attempt is not None:
            self.attempt.heard_at = time.monotonic()
        if self._incoming is not None:
            self._incoming(size)

    def passed_on(self, size: int) -> None:
        """As :meth:`consumed`, for what was never unread here."""
        if self._incoming is not None:
            self._incoming(size)

    def credit_to(self, incoming: Callable[[int], None] | None) -> None:
        """Where :meth:`consumed` is reported, for the present attempt."""
        self._incoming = incoming


class Chats:
    """Runs chats and fans the workers' chunks into their queues."""

    def __init__(
        self, settings: GatewaySettings, admission: Admission, breakers: Breakers, inbox: Inbox, send: Send
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._breakers = breakers
        self._inbox = inbox
        self._send = send
        self._chats: dict[str, Chat] = {}
        self._answering = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self.total = 0

    def __len__(self) -> int:
        return len(self._chats)

    def open(self, history: pb.ChatHistory) -> Chat:
        """A new chat; :meth:`drive` must follow. Raises :class:`Unavailable` while this gateway drains."""
        if self.draining:
            raise Unavailable("draining", "this gateway is about to leave")
        history.reply_to = self._inbox.gateway_id
        self._answering += 1
        self._idle.clear()
        return Chat(history, time.monotonic() + self._settings.request_timeout)

    def close(self) -> None:
        """A chat that was opened is answered: what its client takes of it has been written."""
        self._answering -= 1
        if not self._answering:
            self._idle.set()

    async def drive(self, chat: Chat) -> None:
        """See a chat to its end, which its reply then holds. Cancel this to cancel the chat, down to the model."""
        self._chats[chat.request_id] = chat
        self.total += 1
        deadline = asyncio.timeout(chat.deadline - time.monotonic())
        try:
            async with deadline:
                await self._attempts(chat)
        except GatewayError as error:
            error.count(chat.reply.tokens)
            chat.reply.finish(error)
        except TimeoutError:
            overdue = OutOfTime("deadline", "the request's deadline passed", retryable=True)
            overdue.count(chat.reply.tokens)
            chat.reply.finish(overdue)
        finally:
            del self._chats[chat.request_id]

    def cut_off(self) -> None:
        """End every chat now, with an error that says why."""
        for chat in self._chats.values():
            chat.reply.finish(Unavailable("draining", "this gateway had to leave before the reply was complete"))

    async def idle(self) -> None:
        """Return when no chat runs."""
        await self._idle.wait()

    def deliver(self, worker_id: str, chunks: list[pb.ChatChunk]) -> None:
        """Fan a batch in. A worker that runs what nobody waits for is told to stop."""
        strangers: dict[tuple[str, int], None] = {}
        now = time.monotonic()
        for chunk in chunks:
            chat = self._chats.get(chunk.request_id)
            attempt = chat.attempt if chat is not None else None
            if chat is None or attempt is None or not _is_from(chunk, worker_id, attempt):
                if chunk.WhichOneof("event") not in ("done", "error", "cancelled"):
                    strangers[chunk.request_id, chunk.attempt] = None
                continue
            attempt.heard_at = now
            if attempt.started:
                _take(chat, attempt, chunk)
                continue
            _take(chat, attempt, chunk)
            if attempt.started or chat.reply.end is not None:
                self._breakers.succeeded((worker_id, chat.history.model))
                chat.let_go()
        for request_id, number in strangers:
            self._cancel(worker_id, request_id, number, "unknown_request")

    def worker_left(self, worker_id: str) -> None:
        """A worker's connection was closed: what has no token yet goes elsewhere at once, the rest waits a moment."""
        for attempt in self._attempts_at(worker_id):
            if not attempt.started:
                attempt.end(WorkerLost("worker_lost", "the worker left before the first token"))

    def worker_silent(self, worker_id: str) -> None:
        """A worker misses its statuses: what it has not taken on goes elsewhere at once."""
        for attempt in self._attempts_at(worker_id):
            if not attempt.accepted:
                attempt.end(WorkerLost("worker_silent", "the worker stands still"))

    def worker_gone(self, worker_id: str) -> None:
        """A worker is gone for good: everything that it ran has ended."""
        for attempt in self._attempts_at(worker_id):
            attempt.end(WorkerLost("worker_lost", "the worker that ran this request is gone"))
        self._inbox.forget(worker_id)
        self._breakers.forget(worker_id)

    def relinked(self) -> None:
        """The host is back: whether it had passed on what no worker has taken on, nobody knows."""
        for chat in self._chats.values():
            if chat.attempt is None:
                continue
            if chat.attempt.accepted:
                chat.attempt.heard_at = time.monotonic()  # what it sent meanwhile is sent again
            else:
                chat.attempt.end(Unavailable("link_lost", "the host of the fleet was away"))

    def link_lost(self) -> None:
        """The host has been away for too long: what runs on workers cannot be waited for any more."""
        for chat in self._chats.values():
            if chat.attempt is not None:
                chat.attempt.end(Unavailable("link_lost", "the host of the fleet cannot be reached"))

    def lane_broken(self, worker_id: str) -> None:
        """A worker began its lane anew: what it had begun to send before cannot be completed."""
        for attempt in self._attempts_at(worker_id):
            if attempt.accepted:
                attempt.end(WorkerLost("lane_broken", "the worker lost a part of this reply"))

    def _attempts_at(self, worker_id: str) -> list[Attempt]:
        attempts = [chat.attempt for chat in self._chats.values() if chat.attempt is not None]
        return [attempt for attempt in attempts if attempt.worker_id == worker_id]

    async def _attempts(self, chat: Chat) -> None:
        avoid: set[str] = set()
        delay = BACKOFF_FIRST
        number = tried = 0
        while True:
            number += 1
            lease = await self._admission.lease(chat.history.model, avoid, again=number > 1)
            with lease as worker:
                chat.model = chat.history.model or next(iter(worker.models), "")
                error = await self._attempt(chat, number, worker.id)
                self._judge(chat, worker.id, error)
                if error is not None and error.code == "worker_full":
                    # Other gateways were faster; until its next status it counts as full, and this waits on.
                    worker.others = max(worker.others, worker.capacity - worker.in_flight + 1)
                    continue
            if error is None:
                return
            tried += 1
            pause = error.retry_after or 0.0
            left = chat.deadline - time.monotonic()
            last = tried == self._settings.max_attempts or pause > min(PAUSE_LIMIT, left)
            if chat.reply.started or not error.retryable or last:
                raise error
            log.info("trying elsewhere", request=chat.request_id, worker=worker.id, attempt=number, code=error.code)
            avoid.add(worker.id)
            await asyncio.sleep(max(pause, delay * random.uniform(0.5, 1)))  # noqa: S311
            delay = min(delay * 2, BACKOFF_LAST)

    async def _attempt(self, chat: Chat, number: int, worker_id: str) -> GatewayError | None:
        attempt = Attempt(number, worker_id, asyncio.get_running_loop().create_future())
        incoming = self._inbox.open(worker_id, chat.request_id, number)
        chat.attempt = attempt
        chat.credit_to(incoming.consumed)
        chat.history.attempt = number
        chat.history.deadline.FromMilliseconds(max(1, int((chat.deadline - time.monotonic()) * 1000)))
        self._send(chat.history, worker_id)
        try:
            return await self._outcome(chat, attempt)
        finally:
            chat.attempt = None
            chat.credit_to(None)
            incoming.close()
            if not attempt.outcome.done():
                self._breakers.abandoned((worker_id, chat.history.model), time.monotonic())
            if not attempt.ended_by_worker:
                self._cancel(worker_id, chat.request_id, number, attempt.why())

    async def _outcome(self, chat: Chat, attempt: Attempt) -> GatewayError | None:
        """Wait for the attempt's end, or for one of its time limits to pass without a sign of life."""
        while True:
            limit = self._limit(chat, attempt)
            wait = attempt.heard_at + limit - time.monotonic()
            if wait <= 0:
                attempt.end(_overdue(attempt, limit))
            await asyncio.wait({attempt.outcome}, timeout=max(0, wait))
            if attempt.outcome.done():
                return attempt.outcome.result()

    def _judge(self, chat: Chat, worker_id: str, error: GatewayError | None) -> None:
        """Let the breaker know of a failure; of a success it knows since the first token."""
        if error is not None and error.blames_worker and not chat.reply.started:
            key = worker_id, chat.history.model
            self._breakers.failed(key, time.monotonic(), error.retry_after or 0.0)

    def _limit(self, chat: Chat, attempt: Attempt) -> float:
        if not attempt.accepted:
            return self._settings.accept_timeout
        if not self._admission.linked:
            attempt.heard_at = time.monotonic()  # the host is away; the model may well go on
        if not attempt.started:
            return self._settings.first_token_timeout
        if chat.reply.unread:
            attempt.heard_at = time.monotonic()  # the client is behind, not the model
        return self._settings.token_timeout

    def _cancel(self, worker_id: str, request_id: str, attempt: int, reason: str) -> None:
        cancel = pb.CancelChat(request_id=request_id, attempt=attempt, reason=reason, reply_to=self._inbox.gateway_id)
        self._send(cancel, worker_id)


def _is_from(chunk: pb.ChatChunk, worker_id: str, attempt: Attempt) -> bool:
    return chunk.attempt == attempt.number and worker_id == attempt.worker_id and not attempt.outcome.done()


def _take(chat: Chat, attempt: Attempt, chunk: pb.ChatChunk) -> None:
    match chunk.WhichOneof("event"):
        case "text" if attempt.started:
            if not chat.reply.push_text(chunk.text, chunk.tokens):
                attempt.end(WorkerLost("credit_ignored", "the worker sent more than it may"))
        case "accepted":
            attempt.accepted = True
        case "text" | "reasoning" | "tool_call" | "logprobs":
            attempt.accepted = attempt.started = True
            if not chat.reply.push(chunk):
                attempt.end(WorkerLost("credit_ignored", "the worker sent more than it may"))
        case "done":
            chat.reply.finish(Completed(chunk.done.finish_reason or "unknown", chunk.done.usage))
            attempt.end()
        case "error":
            attempt.end(ModelFailed(chunk.error))
        case "cancelled":
            attempt.end(WorkerLost("worker_stopped", "the worker stopped this request"))
        case _:  # an event of a later version
            pass


def _overdue(attempt: Attempt, limit: float) -> GatewayError:
    if not attempt.accepted:
        return OutOfTime("not_accepted", f"the worker did not take the request on within {limit:g} s", retryable=True)
    if not attempt.started:
        return OutOfTime("first_token_timeout", f"the model gave no token within {limit:g} s", retryable=False)
    return OutOfTime("token_timeout", f"the model gave no further token within {limit:g} s", retryable=True)
