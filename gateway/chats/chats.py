"""The chats of this gateway: each gets its attempts, one after the other until the first token, and exactly one end."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice

from google.protobuf.message import Message

from fleet import logs
from fleet.lane import Inbox
from gateway.chats.attempt import Attempt
from gateway.chats.reply import Completed, Reply
from gateway.errors import GatewayError, ModelFailed, OutOfTime, Unavailable, WorkerLost
from gateway.routing.admission import Admission, Claim
from gateway.routing.breaker import Breakers
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb

log = logs.logger(__name__)

BACKOFF_FIRST = 0.05
BACKOFF_LAST = 1.0
"""Seconds between two attempts: doubled from first to last, each shortened by chance by up to half."""

PAUSE_LIMIT = 2.0
"""Seconds of a model's Retry-After that are waited here; a longer one is the client's to wait, with its real status."""

STRANGERS = 100
"""Replies that nobody waits for of which a worker is told at once: it sends on what it was not told of."""

Send = Callable[[Message, str], None]
"""Publishes a message to a worker id, or loses it."""


class Chat:
    """One request: what is asked, and the queue that its reply goes to."""

    def __init__(self, history: pb.ChatHistory, deadline: float) -> None:
        self.request_id = history.request_id
        self.asked = history.model
        """The model that the request names; empty for a worker's default."""
        self.history: pb.ChatHistory | None = history
        """None from the first token on, when no other attempt can follow."""
        self.deadline = deadline
        self.model = self.asked
        """The model that answers; known at the latest when a worker is."""
        self.reply = Reply()
        self.attempt: Attempt | None = None
        self.on_forget: Callable[[], None] = lambda: None
        """Called when the history is no longer needed."""
        self._incoming: Callable[[int], None] | None = None

    def forget_history(self) -> None:
        """Free the memory of what was asked: no other attempt can follow."""
        self.history = None
        self.on_forget()

    def consumed(self, size: int) -> None:
        """``size`` bytes of the reply are with the client: the worker may send as much again."""
        self.reply.unread -= size
        if self.attempt is not None:
            self.attempt.hear()
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
        self,
        settings: GatewaySettings,
        admission: Admission,
        breakers: Breakers,
        inbox: Inbox,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._breakers = breakers
        self._inbox = inbox
        self._send = send
        self._clock = clock
        self._chats: dict[str, Chat] = {}
        self._attempts_at: dict[str, dict[Attempt, None]] = {}
        """The attempts that run, by worker."""
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
        return Chat(history, self._clock() + self._settings.request_timeout)

    def close(self) -> None:
        """A chat that was opened is answered: what its client takes of it has been written."""
        self._answering -= 1
        if not self._answering:
            self._idle.set()

    async def drive(self, chat: Chat) -> None:
        """See a chat to its end, which its reply then holds. Cancel this to cancel the chat, down to the model."""
        self._chats[chat.request_id] = chat
        self.total += 1
        deadline = asyncio.timeout(chat.deadline - self._clock())
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

    def deliver(self, worker_id: str, chunks: list[pb.ReplyEvent]) -> None:
        """Fan a batch in. A worker that runs what nobody waits for is told to stop."""
        strangers: dict[tuple[str, int], None] = {}
        now = self._clock()
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
                self._breakers.succeeded((worker_id, chat.asked))
                chat.forget_history()
        for request_id, number in islice(strangers, STRANGERS):
            self._cancel(worker_id, request_id, number, "unknown_request")

    def worker_left(self, worker_id: str) -> None:
        """A worker's connection was closed: what has no token yet goes elsewhere at once, the rest waits a moment."""
        for attempt in self._running(worker_id):
            if not attempt.started:
                attempt.end(WorkerLost("worker_lost", "the worker left before the first token"))

    def worker_silent(self, worker_id: str) -> None:
        """A worker misses its statuses: what it has not taken on goes elsewhere at once."""
        for attempt in self._running(worker_id):
            if not attempt.accepted:
                attempt.end(WorkerLost("worker_silent", "the worker stands still"))

    def worker_gone(self, worker_id: str) -> None:
        """A worker is gone for good: everything that it ran has ended."""
        for attempt in self._running(worker_id):
            attempt.end(WorkerLost("worker_lost", "the worker that ran this request is gone"))
        self._inbox.forget(worker_id)
        self._breakers.forget(worker_id)

    def relinked(self) -> None:
        """The host is back: whether it had passed on what no worker has taken on, nobody knows."""
        for attempt in self._running():
            if attempt.accepted:
                attempt.hear()  # what it sent meanwhile is sent again
            else:
                attempt.end(Unavailable("link_lost", "the host of the fleet was away"))

    def link_lost(self) -> None:
        """The host has been away for too long: what runs on workers cannot be waited for any more."""
        for attempt in self._running():
            attempt.end(Unavailable("link_lost", "the host of the fleet cannot be reached"))

    def lane_broken(self, worker_id: str) -> None:
        """A worker began its lane anew: what it had begun to send before cannot be completed."""
        for attempt in self._running(worker_id):
            if attempt.accepted:
                attempt.end(WorkerLost("lane_broken", "the worker lost a part of this reply"))

    def _running(self, worker_id: str | None = None) -> Iterator[Attempt]:
        """The attempts at that worker, or all."""
        if worker_id is not None:
            return iter(self._attempts_at.get(worker_id, ()))
        return chain.from_iterable(self._attempts_at.values())

    async def _attempts(self, chat: Chat) -> None:
        claim = Claim(chat.asked)
        delay = BACKOFF_FIRST
        number = tried = 0
        while True:
            number += 1
            with await self._admission.lease(claim) as worker:
                chat.model = chat.asked or next(iter(worker.models), "")
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
            left = chat.deadline - self._clock()
            last = tried == self._settings.max_attempts or pause > min(PAUSE_LIMIT, left)
            if chat.reply.started or not error.retryable or last:
                raise error
            log.info("trying elsewhere", request=chat.request_id, worker=worker.id, attempt=number, code=error.code)
            claim.avoid.add(worker.id)
            await asyncio.sleep(max(pause, delay * random.uniform(0.5, 1)))  # noqa: S311
            delay = min(delay * 2, BACKOFF_LAST)

    async def _attempt(self, chat: Chat, number: int, worker_id: str) -> GatewayError | None:
        assert chat.history is not None, "an attempt follows none that gave a token"
        attempt = Attempt(number, worker_id, self._settings, partial(self._excused, chat), self._clock)
        incoming = self._inbox.open(worker_id, chat.request_id, number)
        chat.attempt = attempt
        self._attempts_at.setdefault(worker_id, {})[attempt] = None
        chat.credit_to(incoming.consumed)
        chat.history.attempt = number
        chat.history.deadline.FromMilliseconds(max(1, int((chat.deadline - self._clock()) * 1000)))
        self._send(chat.history, worker_id)
        try:
            await asyncio.wait((attempt.outcome,))  # which a cancel of this leaves alone
            return attempt.outcome.result()
        finally:
            attempt.close()
            chat.attempt = None
            self._forget(attempt)
            chat.credit_to(None)
            incoming.close()
            if not attempt.outcome.done():
                self._breakers.abandoned((worker_id, chat.asked), self._clock())
            if not attempt.ended_by_worker:
                self._cancel(worker_id, chat.request_id, number, attempt.why())

    def _forget(self, attempt: Attempt) -> None:
        attempts = self._attempts_at[attempt.worker_id]
        del attempts[attempt]
        if not attempts:
            del self._attempts_at[attempt.worker_id]

    def _excused(self, chat: Chat, attempt: Attempt) -> bool:
        """Whether a silence is not the worker's: its host is away, or its client is behind."""
        return (attempt.accepted and not self._admission.linked) or (attempt.started and chat.reply.unread > 0)

    def _judge(self, chat: Chat, worker_id: str, error: GatewayError | None) -> None:
        """Let the breaker know of a failure; of a success it knows since the first token."""
        if error is not None and error.blames_worker and not chat.reply.started:
            key = worker_id, chat.asked
            self._breakers.failed(key, self._clock(), error.retry_after or 0.0)

    def _cancel(self, worker_id: str, request_id: str, attempt: int, reason: str) -> None:
        cancel = pb.CancelChat(request_id=request_id, attempt=attempt, reason=reason, reply_to=self._inbox.gateway_id)
        self._send(cancel, worker_id)


def _is_from(chunk: pb.ReplyEvent, worker_id: str, attempt: Attempt) -> bool:
    return chunk.attempt == attempt.number and worker_id == attempt.worker_id and not attempt.outcome.done()


def _take(chat: Chat, attempt: Attempt, chunk: pb.ReplyEvent) -> None:
    match chunk.WhichOneof("event"):
        case "text" if attempt.started:
            if not chat.reply.push_text(chunk.text, chunk.tokens):
                attempt.end(WorkerLost("credit_ignored", "the worker sent more than it may"))
        case "accepted":
            chat.reply.accepted = True
            attempt.accept()
        case "text" | "reasoning" | "tool_call" | "logprobs":
            attempt.start()
            try:
                within_limit = chat.reply.push(chunk)
            except ValueError:
                attempt.end(WorkerLost("chunk_invalid", "the worker sent log probabilities that are no JSON list"))
                return
            if not within_limit:
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
