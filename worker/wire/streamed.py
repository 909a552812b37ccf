"""A streamed response to a request that an SDK (OpenAI's, Anthropic's) sends through our transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Protocol
from urllib.request import getproxies

import httpx2
import openai

from protos import chat_pb2 as pb
from worker.contract.sink import Sink
from worker.wire.answers import Bounded, bound
from worker.wire.connection import READ, Consumer
from worker.wire.pacer import Pacer
from worker.wire.proxied import Proxied
from worker.wire.transport import BODY, Body, Transport

STREAMED = {"X-Stainless-Raw-Response": "stream"}
"""Makes the SDK return a response before its body was read."""

_SENT = httpx2.Request("POST", "")
"""Takes the place of a request that was sent, which would keep the conversation for as long as its reply takes."""


class Reply(Consumer, Protocol):
    """Consumes a response's body and writes it into a sink."""

    is_whole: bool
    """Whether the content is complete, and only the end of the response is missing."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be written."""

    async def end(self) -> pb.Done:
        """Wait for the end. Raises what went wrong."""


async def receive(
    response: httpx2.Response,
    consumer: Callable[[Callable[[], None] | None], Reply],
    sink: Sink,
    pacer: Pacer | None,
) -> pb.Done:
    """Have ``consumer``'s reply take the body of ``response``, which is closed then, whatever happens.

    ``consumer`` is called with what the reply calls at its first delta.
    """
    response.request = _SENT
    try:
        body: Body | None = response.extensions.get(BODY)
        if body is None:  # it is decompressed, or came through a proxy
            reply = consumer(None)
            await _pump(response.aiter_bytes(), reply, sink)
            return await reply.end()
        reply = consumer(partial(body.pace, pacer) if pacer is not None else None)
        body.deliver_to(reply)
        sink.attach(body)
        try:
            return await reply.end()
        finally:
            sink.attach(None)
            if reply.is_whole:
                body.content_ended()
    finally:
        await response.aclose()


async def _pump(pieces: AsyncIterator[bytes], reply: Reply, sink: Sink) -> None:
    """Feed a body that cannot be pushed."""
    async for piece in pieces:
        for start in range(0, len(piece), READ):
            reply.data_received(piece[start : start + READ])
            if reply.is_over:
                return
            await asyncio.sleep(0)
        await sink.ready()
    reply.eof_received()


def http_client() -> httpx2.AsyncClient:
    """What the SDK sends its requests with: where the environment has proxies, aiohttp, which uses them."""
    if {"http", "https", "all"} & getproxies().keys():
        client: httpx2.AsyncClient = openai.DefaultAioHttpClient()
        bound(client, lambda inner: Bounded(Proxied(inner)))
    else:
        client = openai.DefaultAsyncHttpxClient(transport=Transport())
        bound(client, Bounded)
    return client
