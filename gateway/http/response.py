"""A chat's HTTP answer: holds the status line for the first event, streams, and ends when its client is gone."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, MutableMapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fleet import logs
from fleet.process.turns import Turns
from gateway.chats.chat import Chat
from gateway.chats.chats import Chats
from gateway.chats.reply import Buffer, End
from gateway.errors import GatewayError
from gateway.faces.encoder import Encoder
from gateway.http.wire import EXTENSION, Wire
from protos import chat_pb2 as pb

log = logs.logger(__name__)

SLICE = 64 * 1024
"""Bytes of a whole answer that are sent at a time, so that a client that reads nothing is noticed there too."""

PING_AFTER = 15.0
"""Seconds of silence after which a ping is sent, in formats that have one: proxies cut idle connections."""


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class ClientStalled(Exception):
    """The client read nothing for too long."""


_LEFT = ClientGone, ClientStalled


class ChatResponse(Response):
    """Streams one chat in the encoder's format, or answers with one JSON object when ``stream`` is false.

    ``hold`` and ``stall`` are seconds: until the status line is sent without an event (None: never), and for a client
    that reads nothing. ``done`` is called once, before the client can know that the reply is over: its next request
    finds room.
    """

    status_code = 200
    background = None

    def __init__(
        self,
        chats: Chats,
        chat: Chat,
        encoder: Encoder,
        *,
        stream: bool,
        hold: float | None,
        stall: float,
        turns: Turns,
        done: Callable[[], None],
    ) -> None:
        self.media_type = encoder.media_type if stream else "application/json"
        self.init_headers()
        self._chats = chats
        self._chat = chat
        self._encoder = encoder
        self._answer = self._stream if stream else functools.partial(self._send_whole, turns)
        self._hold = hold
        self._stall = stall
        self._done: Callable[[], None] | None = done
        self._wire: Wire
        self._time = asyncio.get_running_loop().time
        self._wrote_at = 0.0
        self._pinger: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, until the client is gone or reads nothing. Raises what the request is refused with."""
        try:
            self._wire = scope["extensions"][EXTENSION]
            async with self._chats.open(self._chat), asyncio.TaskGroup() as group:
                watcher = group.create_task(_watch(receive))
                refusal = await self._answer(send)
                watcher.cancel()
            if refusal is not None:
                raise refusal
        except GatewayError:
            self._finish()
            raise
        except ExceptionGroup as group:
            left, others = group.split(_LEFT)
            if left is None:
                raise
            await self._leave(left, others)
        finally:
            self._stop_pings()
            self._finish()

    async def _leave(self, left: ExceptionGroup, others: ExceptionGroup | None) -> None:
        """The client is gone or is dropped. What else failed at the same time failed because of that."""
        self._finish()
        if left.subgroup(ClientGone) is not None:
            self._chat.record.code = "client_gone"
        else:
            self._chat.record.code = "client_stalled"
            await self._abort()
        if others is not None:
            kinds = ",".join(type(error).__name__ for error in others.exceptions)
            log.warning("an answer failed as its client left", request=self._chat.request_id, errors=kinds)

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()

    async def _stream(self, send: Send) -> GatewayError | None:
        reply = self._chat.reply
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._hold):
                while not reply.is_buffered and reply.end is None:
                    await reply.changed()
        if isinstance(reply.end, GatewayError) and not reply.is_buffered:
            return reply.end
        await self._begin(send)
        end = await self._pass_on(self._write)
        self._stop_pings()  # one after the body's end would begin the connection's next answer
        last = self._encoder.end(end)
        self._finish()
        self._chat.record.end(end)
        if last:  # in a chunk of its own, before the end of the body: clients that read chunks see it as such
            self._write_chunk(last)
        elif isinstance(end, GatewayError):
            await self._abort()  # the format cannot express an error: every client finds its body incomplete
            return None
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        return None

    async def _abort(self) -> None:
        self._wire.abort()
        await asyncio.sleep(0)  # lets the server notice, or it logs that the answer was not completed

    async def _begin(self, send: Send) -> None:
        # The added headers are for proxies that would otherwise collect the stream.
        headers = [*self._answer_headers(), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": headers})
        if begin := self._encoder.begin():
            self._write_chunk(begin)
        self._wire.ping = self._encoder.ping
        self._wrote_at = self._time()
        self._ping()

    def _answer_headers(self) -> list[tuple[bytes, bytes]]:
        return [*self.raw_headers, (b"x-attempts", str(self._chat.attempts).encode())]

    async def _pass_on(self, write: Callable[[pb.ReplyEvent], None]) -> End:
        """Have the reply's events written as they come; returns how it ended once all are, or wait for the client."""
        reply = self._chat.reply
        while True:
            await self._drain()
            reply.resume(write)
            if reply.end is not None and not reply.is_buffered:
                await self._drain()
                return reply.end
            await reply.changed()

    def _write(self, event: pb.ReplyEvent) -> None:
        if chunk := self._encoder.event(event):
            self._write_chunk(chunk)

    def _write_chunk(self, chunk: bytes) -> None:
        self._wire.write_chunk(chunk)
        self._wrote_at = self._time()
        if not self._wire.writable:
            self._chat.reply.pause()

    def _ping(self) -> None:
        """Write a ping after every silence. One timer for all events, which only move ``_wrote_at``."""
        if self._time() - self._wrote_at >= PING_AFTER:
            self._wrote_at = self._time()
            self._wire.probe(begun=True)
        self._pinger = asyncio.get_running_loop().call_at(self._wrote_at + PING_AFTER, self._ping)

    def _stop_pings(self) -> None:
        if self._pinger is not None:
            self._pinger.cancel()
            self._wire.ping = None

    async def _send_whole(self, turns: Turns, send: Send) -> GatewayError | None:
        events = Buffer()
        end = await self._pass_on(events.append)
        if isinstance(end, GatewayError):
            return end
        async with turns.turn() as turn:
            body = await turn.run(self._encoder.whole(events, end))
        self._finish()
        self._chat.record.end(end)
        headers = [*self._answer_headers(), (b"content-length", str(len(body)).encode())]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), SLICE):
            part, is_last = body[start : start + SLICE], start + SLICE >= len(body)
            await self._send(send, {"type": "http.response.body", "body": part, "more_body": not is_last})
        return None

    async def _send(self, send: Send, message: MutableMapping[str, object]) -> None:
        await self._drain()
        try:
            await send(message)
        except OSError as error:  # as ASGI has it after a disconnect
            raise ClientGone from error

    async def _drain(self) -> None:
        """Wait for the client for as long as it reads at all."""
        wire = self._wire
        while not wire.writable:
            unsent = wire.unsent()
            try:
                async with asyncio.timeout(self._stall):
                    await wire.drain()
            except TimeoutError:
                if wire.unsent() >= unsent:
                    raise ClientStalled from None
            except OSError as error:
                raise ClientGone from error


async def _watch(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGone
