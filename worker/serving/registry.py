"""The chats that run on this worker: taken on while there is room, ended when nobody waits for them any more."""

import asyncio

from fleet import logs
from fleet.lane import Outbox
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract.images import Images
from worker.serving.catalog import Model
from worker.serving.chat import Chat

log = logs.logger(__name__)

REQUEST_ID = 128
"""Characters of a request's id, which stands in every chunk of its reply; gateways' have 32."""

HISTORIES = 64 * 1024 * 1024
"""Bytes of all requests whose model has not answered yet. A further one is refused, so that its gateway keeps it; one
alone may be larger. Each takes about three times as much while it is prepared."""


class Desk:
    """Takes chats on, up to ``capacity`` at once, each in a task of ``group``."""

    def __init__(
        self,
        models: dict[str, Model],
        images: Images,
        outbox: Outbox,
        capacity: int,
        group: asyncio.TaskGroup,
        turns: Turns,
    ) -> None:
        self.models = models
        self.capacity = capacity
        self.draining = False
        self.started_total = 0
        self._images = images
        self._outbox = outbox
        self._group = group
        self._turns = turns
        self._chats: dict[tuple[str, str], tuple[Chat, asyncio.Task[None]]] = {}
        """By gateway and request: no gateway touches another's."""
        self._waiting: dict[Chat, int] = {}
        """Bytes of the histories of chats whose model has not answered yet."""
        self._waiting_bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active(self) -> int:
        """Chats that run now."""
        return len(self._chats)

    def active_by_gateway(self) -> dict[str, int]:
        """Chats that run now, by the gateway that waits for them."""
        counts: dict[str, int] = {}
        for chat, _ in self._chats.values():
            counts[chat.gateway_id] = counts.get(chat.gateway_id, 0) + 1
        return counts

    def take(self, history: pb.ChatHistory) -> None:
        """Begin a chat, or refuse it with a terminal error. A newer attempt at the same request replaces the older.

        One with an id of more than :data:`REQUEST_ID` is ignored.
        """
        if len(history.request_id) > REQUEST_ID:
            return
        running = self._chats.get((history.reply_to, history.request_id))
        if running is not None:
            if running[0].attempt >= history.attempt:
                return
            self.cancel(history.reply_to, history.request_id, 0, "superseded")
        reply = self._outbox.open(history.reply_to, history.request_id, history.attempt)
        size = history.ByteSize()
        model = self._model(history.model, size, replaces=running is not None)
        if isinstance(model, pb.Error):
            reply.finish(model)
            return
        chat = Chat(history, model, reply, self._turns, self._images, lambda: self._sent(chat))
        self._waiting[chat] = size
        self._waiting_bytes += size
        task = self._group.create_task(chat.run())
        self._chats[history.reply_to, history.request_id] = chat, task
        self._idle.clear()
        self.started_total += 1

        def ended(_: asyncio.Task[None]) -> None:
            reply.finish(pb.Cancelled(reason=chat.reason))  # for a task that was cancelled before its first step
            self._sent(chat)
            self._forget(chat)

        task.add_done_callback(ended)

    def cancel(self, gateway_id: str, request_id: str, attempt: int, reason: str) -> None:
        """End a chat of that gateway; ``attempt`` 0 means whichever runs.

        One that is not here is no error: it may just have ended.
        """
        found = self._chats.get((gateway_id, request_id))
        if found is not None and attempt in (0, found[0].attempt):
            chat, task = found
            chat.reason = reason
            task.cancel()

    def keep_only(self, gateway_id: str, wanted: set[tuple[str, int]]) -> None:
        """End the chats that their gateway does not wait for any more: it named all that it does wait for."""
        for chat, _ in list(self._chats.values()):
            if chat.gateway_id == gateway_id and (chat.request_id, chat.attempt) not in wanted:
                self.cancel(chat.gateway_id, chat.request_id, chat.attempt, "unknown_request")

    def cancel_gateway(self, gateway_id: str) -> int:
        """End every chat of a gateway that is gone, and say how many there were."""
        gone = [chat for chat, _ in self._chats.values() if chat.gateway_id == gateway_id]
        for chat in gone:
            self.cancel(chat.gateway_id, chat.request_id, chat.attempt, "gateway_gone")
        return len(gone)

    def cancel_all(self, reason: str) -> None:
        """End every chat."""
        for chat, _ in list(self._chats.values()):
            self.cancel(chat.gateway_id, chat.request_id, chat.attempt, reason)

    async def idle(self) -> None:
        """Return when no chat runs."""
        await self._idle.wait()

    def _model(self, name: str, size: int, replaces: bool) -> Model | pb.Error:
        """The model for a new chat, or why there is none. One that ``replaces`` an older attempt has its place."""
        if self.draining:
            return pb.Error(code="worker_draining", message="the worker is about to leave", retryable=True)
        if self.active >= self.capacity and not replaces:
            return pb.Error(code="worker_full", message="the worker is at its capacity", retryable=True)
        if self._waiting and self._waiting_bytes + size > HISTORIES:
            return pb.Error(code="worker_full", message="the worker has too many large requests", retryable=True)
        model = self.models.get(name) if name else next(iter(self.models.values()))
        return model or pb.Error(code="unknown_model", message="the worker does not serve this model", retryable=True)

    def _sent(self, chat: Chat) -> None:
        self._waiting_bytes -= self._waiting.pop(chat, 0)

    def _forget(self, chat: Chat) -> None:
        key = chat.gateway_id, chat.request_id
        found = self._chats.get(key)
        if found is not None and found[0] is chat:
            del self._chats[key]
        if not self._chats:
            self._idle.set()
