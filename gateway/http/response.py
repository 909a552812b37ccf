"""A chat's HTTP answer: holds the status line for the first token, streams, and notices a client that is gone.

A ``StreamingResponse`` that watches for the disconnect itself: Starlette's would only see it when it next sends.
"""

import asyncio
from collections.abc import Callable, MutableMapping

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from fleet import logs
from gateway.chats.chats import Chat, Chats
from gateway.chats.reply import Completed, End, Piece
from gateway.errors import ClientStalled, GatewayError
from gateway.faces.encoder import Encoder

log = logs.logger(__name__)


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


_LEFT = ClientGone, ClientStalled

SLICE = 64 * 1024
"""Bytes of a whole answer that are sent at a time, so that a client that reads nothing is noticed there too."""

PING_AFTER = 15.0
"""Seconds of silence after which a ping is sent, in formats that have one: proxies cut idle connections."""


class ChatResponse(StreamingResponse):
    """Streams one chat in the encoder's format, or answers with one JSON object when ``stream`` is false.

    ``hold`` is how long the status line waits for the first token, ``stall`` for how long a client may read nothing;
    both in seconds. ``done`` is called once, when the reply has its end or its client is gone.
    """

    def __init__(
        self,
        chats: Chats,
        chat: Chat,
        encoder: Encoder,
        *,
        stream: bool,
        hold: float,
        stall: float,
        done: Callable[[], None],
    ) -> None:
        super().__init__(content=(), media_type=encoder.media_type if stream else "application/json")
        self._chats = chats
        self._chat = chat
        self._encoder = encoder
        self._stream = stream
        self._done = done
        self._settled = False
        self._unsent: Callable[[], int] = lambda: 0
        self._writable: Callable[[], bool] = lambda: False
        self._write_chunk: Callable[[bytes], None] | None = None
        self._hold = hold
        self._stall = stall
        self._began = False
        self._time = asyncio.get_running_loop().time
        self._wrote_at = 0.0
        self._pinger: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. The chat is cancelled, down to the model, as soon as the client is gone or reads no more."""
        extensions = scope.get("extensions", {})
        self._unsent = extensions.get("chatfleet.unsent", self._unsent)
        self._writable = extensions.get("chatfleet.writable", self._writable)
        self._write_chunk = extensions.get("chatfleet.write")
        try:
            async with asyncio.TaskGroup() as group:
                driver = group.create_task(self._chats.drive(self._chat))
                watcher = group.create_task(_watch(receive))
                await (self._write(send) if self._stream else self._write_whole(send))
                watcher.cancel()
                driver.cancel()
        except ExceptionGroup as group:
            left, others = group.split(_LEFT)
            if left is None:
                raise
            await self._leave(scope, left, others)
        finally:
            if self._pinger is not None:
                self._pinger.cancel()
            self._chats.close()
            self._settle()

    async def _leave(self, scope: Scope, left: ExceptionGroup, others: ExceptionGroup | None) -> None:
        """The client is gone, or is let go. What else failed at the same time failed because of that."""
        if left.subgroup(ClientGone) is not None:
            log.info("client gone", request=self._chat.request_id)
        else:
            log.info("client stalled", request=self._chat.request_id)
            _abort(scope)
            await asyncio.sleep(0)  # lets the server notice, which else complains of an answer that was not completed
        if others is not None:
            kinds = ",".join(type(error).__name__ for error in others.exceptions)
            log.warning("an answer failed as its client left", request=self._chat.request_id, errors=kinds)

    def _settle(self) -> None:
        """Say once that it is over: before the client can know, whose next request must find its place free."""
        if not self._settled:
            self._settled = True
            self._done()

    async def _write(self, send: Send) -> None:
        try:
            async with asyncio.timeout(self._hold):
                item = await self._next(send)
        except TimeoutError:
            await self._begin(send)
            item = await self._next(send)
        if isinstance(item, GatewayError) and not self._began:
            await self._refuse(send, item)
            return
        if not self._began:
            await self._begin(send)
        if self._write_chunk is not None:
            self._chat.reply.attend(self._write_now)
        while isinstance(item, Piece):
            await self._send_chunk(send, self._encoder.piece(item))
            self._chat.consumed(item.size)
            item = await self._next(send)
        self._settle()
        # The end in a chunk of its own, before the end of the body: readers that take chunks see it as such.
        await self._send_chunk(send, self._encoder.end(item))
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    def _write_now(self, text: str, size: int) -> bool:
        """Write text, called by the fan-in itself: to wake a task for each piece costs more than all else."""
        if self._write_chunk is None or not self._writable():
            return False
        self._write_chunk(self._encoder.text(text))
        self._wrote_at = self._time()
        self._chat.passed_on(size)
        return True

    async def _next(self, send: Send) -> Piece | End:
        """What comes next, with pings while nothing does."""
        while (item := await self._chat.reply.get()) is None:
            await self._send_chunk(send, self._encoder.ping)
        return item

    def _watch_silence(self) -> None:
        """Have a ping sent after every silence: one timer for all pieces, which looks when it fires."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._wrote_at >= PING_AFTER:
            self._wrote_at = loop.time()
            self._chat.reply.nudge()
        self._pinger = loop.call_at(self._wrote_at + PING_AFTER, self._watch_silence)

    async def _send_chunk(self, send: Send, chunk: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        self._wrote_at = self._time()

    async def _write_whole(self, send: Send) -> None:
        pieces: list[Piece] = []
        while isinstance(item := await self._next(send), Piece):
            pieces.append(item)
            self._chat.consumed(item.size)
        if isinstance(item, GatewayError):
            await self._refuse(send, item)
        else:
            await self._answer(send, item, pieces)

    async def _answer(self, send: Send, end: Completed, pieces: list[Piece]) -> None:
        self._settle()
        body = self._encoder.whole(pieces, end)
        headers = [*self.raw_headers, (b"content-length", str(len(body)).encode())]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), SLICE):
            await self._send_chunk(send, body[start : start + SLICE])
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, send: Send, error: GatewayError) -> None:
        self._settle()
        response = self._encoder.refusal(error)
        await self._send(send, {"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
        await self._send(send, {"type": "http.response.body", "body": response.body})

    async def _begin(self, send: Send) -> None:
        self._began = True
        # For proxies that would otherwise collect the stream.
        headers = [*self.raw_headers, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": headers})
        if self._encoder.ping:
            self._wrote_at = self._time()
            self._watch_silence()

    async def _send(self, send: Send, message: MutableMapping[str, object]) -> None:
        """Send, and wait for the client as long as it reads at all.

        What was not sent when the time was up can be sent again: the server waits before it writes, never after.
        """
        if self._writable():
            await send(message)  # does not wait
            return
        try:
            await self._send_patiently(send, message)
        except (OSError, RuntimeError) as error:
            # uvloop raises both for a connection that is closed, which may be known here before its watcher is told.
            if self._writable():
                raise
            raise ClientGone from error

    async def _send_patiently(self, send: Send, message: MutableMapping[str, object]) -> None:
        while True:
            unsent = self._unsent()
            try:
                async with asyncio.timeout(self._stall):
                    await send(message)
                    return
            except TimeoutError:
                if self._unsent() >= unsent:
                    raise ClientStalled("client_stalled", f"the client read nothing for {self._stall:g} s") from None


async def _watch(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGone


def _abort(scope: Scope) -> None:
    """Drop a connection whose client reads nothing: closing it would wait for what it has not read."""
    abort = scope.get("extensions", {}).get("chatfleet.abort")
    if abort is not None:
        abort()
