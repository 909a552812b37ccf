"""The chats of this gateway: each gets attempts, one after the other until its first event, and exactly one end."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import chain, islice

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from fleet import logs
from fleet.lane import Inbox
from fleet.lane.reply import EVENT_BYTES
from gateway.chats.attempt import Attempt
from gateway.chats.chat import Chat
from gateway.chats.observer import Observer
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

SAME_ROUTE = 0.5
"""Seconds before a provider that failed is called again by the same route: as long as SDKs wait."""

PAUSE_LIMIT = 2.0
"""Longest Retry-After of a model, in seconds, that is waited for here; a longer one is passed on to the client."""

UNKNOWN_REQUESTS = 100
"""Unknown requests for which a batch is answered with cancels: the worker sends more of those that were left out."""

TERMINAL = frozenset({"done", "error", "cancelled"})

Send = Callable[[Message, str], None]


class Chats:
    """Runs chats, and delivers the workers' events to their replies. It has 13 attributes because it is given seven."""

    def __init__(
        self,
        settings: GatewaySettings,
        admission: Admission,
        breakers: Breakers,
        inbox: Inbox,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._breakers = breakers
        self._inbox = inbox
        self._send = send
        self._clock = clock
        self.observer = observer or Observer()
        self._chats: dict[str, Chat] = {}
        self._attempts_at: dict[str, dict[Attempt, None]] = {}
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self.total = 0

    def __len__(self) -> int:
        return len(self._chats)

    @contextlib.asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[Chat]:
        """Run ``chat``; its reply gets events and one end. Leaving the context cancels it, down to the model.

        The chat counts as open, and delays a drain, until then. Raises :class:`Unavailable` while this gateway drains.
        """
        if self.draining:
            raise Unavailable("draining", "this gateway is about to leave")
        assert chat.history is not None
        chat.history.reply_to = self._inbox.gateway_id
        chat.deadline = self._clock() + self._settings.request_timeout
        self._open += 1
        self._idle.clear()
        try:
            async with asyncio.TaskGroup() as group:
                driver = group.create_task(self._drive(chat))
                yield chat
                driver.cancel()
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    def cut_off(self) -> None:
        for chat in self._chats.values():
            chat.finish(Unavailable("draining", "this gateway had to leave before the reply was complete"))

    async def idle(self) -> None:
        await self._idle.wait()

    def deliver(self, worker_id: str, events: list[pb.ReplyEvent]) -> None:
        """Deliver a batch. A worker that sends events of unknown requests is told to stop them."""
        unknown: dict[tuple[str, int], None] = {}
        now = self._clock()
        for event in events:
            chat = self._chats.get(event.request_id)
            attempt = chat.reply.attempt if chat is not None else None
            kind = event.WhichOneof("event")
            if chat is None or attempt is None or not attempt.expects(worker_id, event.attempt):
                if kind not in TERMINAL:
                    unknown[event.request_id, event.attempt] = None
                continue
            attempt.heard_at = now
            try:
                _receive(chat.reply, attempt, event, kind)
            except WorkerLost as error:
                log.warning(
                    "lane broken", worker=worker_id, request=chat.request_id, code=error.code, position=event.position
                )
                attempt.end(error)
            if chat.history is not None and (attempt.started or attempt.code == ""):
                self._breakers.succeeded(worker_id)
                chat.forget_history()
                chat.first_at = now
                self.observer.first_event(chat)
        for request_id, number in islice(unknown, UNKNOWN_REQUESTS):
            self._cancel(worker_id, request_id, number, "unknown_request")

    def worker_left(self, worker_id: str) -> None:
        """A worker's connection was closed: attempts without an event fail at once, others when it does not return."""
        for attempt in self._running(worker_id):
            if not attempt.started:
                attempt.end(WorkerLost("worker_lost", "the worker left before the first token"))

    def worker_silent(self, worker_id: str) -> None:
        """A worker's statuses are overdue: attempts that it has not accepted fail at once."""
        for attempt in self._running(worker_id):
            if not attempt.accepted:
                attempt.end(WorkerLost("worker_silent", "the worker has sent no status for too long"))

    def worker_gone(self, worker_id: str) -> None:
        for attempt in self._running(worker_id):
            attempt.end(WorkerLost("worker_lost", "the worker that ran this request is gone"))
        self._inbox.forget(worker_id)
        self._breakers.forget(worker_id)

    def relinked(self) -> None:
        """The link to the host is back. What no worker has accepted may have been lost with it."""
        for attempt in self._running():
            if attempt.accepted:
                attempt.hear()  # the lane resends what was sent meanwhile
            else:
                attempt.end(Unavailable("link_lost", "the link to the fleet's host was lost"))

    def link_lost(self) -> None:
        for attempt in self._running():
            attempt.end(Unavailable("link_lost", "the fleet's host cannot be reached"))

    def lane_broken(self, worker_id: str) -> None:
        """A worker started its lane again: what it had begun to send before cannot be completed."""
        for attempt in self._running(worker_id):
            if attempt.accepted:
                attempt.end(WorkerLost("lane_broken", "the worker lost a part of this reply"))

    def _running(self, worker_id: str | None = None) -> Iterator[Attempt]:
        if worker_id is not None:
            return iter(self._attempts_at.get(worker_id, ()))
        return chain.from_iterable(self._attempts_at.values())

    async def _drive(self, chat: Chat) -> None:
        self._chats[chat.request_id] = chat
        self.total += 1
        try:
            async with asyncio.timeout(chat.deadline - self._clock()):
                await self._attempts(chat)
        except GatewayError as error:
            chat.finish(error)
        except TimeoutError:
            chat.finish(OutOfTime("deadline", "the request's deadline passed", retryable=True))
        finally:
            del self._chats[chat.request_id]

    async def _attempts(self, chat: Chat) -> None:
        claim = chat.claim
        delay = BACKOFF_FIRST
        number = 0
        failed: set[int] = set()
        """The routes by which the model was called in vain."""
        while True:
            number += 1
            with await self._admission.lease(claim) as worker:
                chat.model = chat.asked or next(iter(worker.models), "")
                chat.attempts += 1
                error = await self._attempt(chat, number, worker.id)
                self._judge(chat, worker.id, error)
                if isinstance(error, ModelFailed) and error.code == "worker_full":
                    chat.attempts -= 1
                    worker.limited.get(error.full, worker).mark_full()
                    continue
            if error is None:
                return
            last = chat.history is None or not error.is_repeatable or chat.attempts >= self._settings.max_attempts
            claim.avoid.add(worker.id)
            pause = 0.0
            if isinstance(error, ModelFailed) and error.called_model:
                chat.calls += 1
                failed.add(worker.route(chat.asked))
                pause = self._pause(chat, claim, failed, error)
            if last or pause > min(PAUSE_LIMIT, chat.deadline - self._clock()):
                raise error
            log.info("trying elsewhere", request=chat.request_id, worker=worker.id, attempt=number, code=error.code)
            await asyncio.sleep(pause + delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(delay * 2, BACKOFF_LAST)

    def _pause(self, chat: Chat, claim: Claim, failed: set[int], error: ModelFailed) -> float:
        """Seconds until another call of a model that was called in vain; endless if it is left to the client.

        Every other route is tried once. By the same route there is one more call, by another worker, or when the
        provider said when. More would multiply with the client's own retries. A Retry-After holds for every route.
        """
        others, rest = self._admission.others(claim, failed)
        if others:
            claim.avoid |= rest
            return error.retry_after or 0.0
        if chat.calls > 1:
            return math.inf
        if error.retry_after is not None:
            return error.retry_after
        if error.code == "model_rate_limited" or not rest - claim.avoid:
            return math.inf
        return SAME_ROUTE

    async def _attempt(self, chat: Chat, number: int, worker_id: str) -> GatewayError | None:
        assert chat.history is not None, "no attempt follows one that has started"
        incoming = self._inbox.open(worker_id, chat.request_id, number)
        excused = partial(self._excused, chat.reply)
        attempt = Attempt(number, worker_id, incoming, self._settings, excused, self._clock)
        chat.reply.attempt = attempt
        self._attempts_at.setdefault(worker_id, {})[attempt] = None
        chat.history.attempt = number
        chat.history.deadline.FromMilliseconds(max(1, int((chat.deadline - self._clock()) * 1000)))
        chat.worker = worker_id
        self.observer.attempt_started(chat, number, worker_id)
        self._send(chat.history, worker_id)
        try:
            await asyncio.wait((attempt.outcome,))  # leaves the outcome alone when this task is cancelled
            return attempt.outcome.result()
        finally:
            attempt.close()
            incoming.close()
            chat.reply.attempt = None
            self._forget(attempt)
            if not attempt.outcome.done():
                self._breakers.abandoned(worker_id, self._clock())
            if not attempt.ended_by_worker:
                self._cancel(worker_id, chat.request_id, number, attempt.code)
            self.observer.attempt_ended(chat, number, worker_id, attempt.code)

    def _forget(self, attempt: Attempt) -> None:
        attempts = self._attempts_at[attempt.worker_id]
        del attempts[attempt]
        if not attempts:
            del self._attempts_at[attempt.worker_id]

    def _excused(self, reply: Reply, attempt: Attempt) -> bool:
        return (attempt.accepted and not self._admission.linked) or (attempt.started and reply.unread > 0)

    def _judge(self, chat: Chat, worker_id: str, error: GatewayError | None) -> None:
        """Tell the worker's breaker of a failure; it was told of a success at the first event."""
        if isinstance(error, ModelFailed):
            self._breakers.succeeded(worker_id)  # it does what it is told, however its model does
        elif error is not None and error.blames_worker and not chat.reply.started:
            self._breakers.failed(worker_id, self._clock())

    def _cancel(self, worker_id: str, request_id: str, attempt: int, reason: str) -> None:
        cancel = pb.CancelChat(request_id=request_id, attempt=attempt, reason=reason, reply_to=self._inbox.gateway_id)
        self._send(cancel, worker_id)


def _receive(reply: Reply, attempt: Attempt, event: pb.ReplyEvent, kind: str | None) -> None:
    if kind == "accepted":
        reply.accepted = True
        attempt.accept()
    elif not attempt.is_next(event.position):
        pass  # it has come before
    elif kind is None:
        attempt.incoming.consumed(_unknown_bytes(event))
    elif kind in TERMINAL:
        _end(reply, attempt, deepcopy(event))  # what is kept of it must not keep the memory of its whole batch
    else:
        reply.push(event, kind)
        attempt.start()


def _end(reply: Reply, attempt: Attempt, event: pb.ReplyEvent) -> None:
    if event.HasField("done"):
        reply.finish(Completed(event.done.reason or event.done.finish_reason or "unknown", event.done.usage))
        attempt.end()
    elif event.HasField("error"):
        attempt.end(ModelFailed(event.error))
    else:
        attempt.end(WorkerLost("worker_stopped", "the worker stopped this request"))


def _unknown_bytes(event: pb.ReplyEvent) -> int:
    """The cost of an event of a kind that only later versions know, as its worker counts it."""
    fields = UnknownFieldSet(event)
    contents = [fields[index].data for index in range(len(fields))]
    return sum(EVENT_BYTES + len(content) for content in contents if isinstance(content, bytes))
