"""A hostile model server: how it answers is the prompt's text.

    python -m tests.security.model_server --port 0

prints its port. Every path is answered alike. ``ok`` and what it does not know get a good short answer, in the form of
the provider whose path was asked for. It reads nothing while it sends, so an answer that never ends goes on until the
worker closes the connection.
"""

import argparse
import asyncio
import contextlib
import json
import os
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
SSE = b"text/event-stream"
USAGE = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": USAGE}
ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "stop_reason": None, "stop_sequence": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
    {"type": "message_stop"},
]


def event(payload: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def delta(**fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def call_part(**fields: Any) -> bytes:
    return delta(tool_calls=[{"index": 0, "id": "", "function": {"name": "", "arguments": ""}} | fields])


TAIL = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def gzipped(unit: bytes, mib: int) -> bytes:
    """``mib`` MiB of a unit, compressed."""
    packed, block = zlib.compressobj(9, zlib.DEFLATED, 31), unit * (MIB // len(unit))
    return b"".join(packed.compress(block) for _ in range(mib)) + packed.flush()


def bomb(status: bytes, unit: bytes, mib: int) -> bytes:
    """A whole answer whose body grows a thousandfold."""
    body = gzipped(unit, mib)
    fields = b"content-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 %b\r\n%b" % (status, fields) + body


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "headers": (OK, b"x-aaaaaaaaaaaaaaaa: 1\r\n" * 2000),
    "header_value": (OK + b"x: ", b"a" * 65536),
    "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "informational_headers": (b"HTTP/1.1 103 Early\r\n", b"x-aaaaaaaaaaaaaaaa: 1\r\n" * 2000),
    "error_body": (b"HTTP/1.1 400 Bad\r\ncontent-type: text/plain\r\n\r\n", b"a" * 65536),
    "redirect_body": (b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\n\r\n", b"a" * 65536),
    "trailers": (CHUNKED + chunk(delta(content="a") + TAIL) + b"0\r\n", b"x-a: b\r\n" * 4000),
    "trailer_value": (CHUNKED + chunk(delta(content="a") + TAIL) + b"0\r\nx: ", b"a" * 65536),
    "chunk_extension": (CHUNKED + b"1;", b"a" * 65536),
    "tiny_chunks": (CHUNKED, chunk(b":") * 8000),
    "comments": (OK + b"\r\n", b": ping\n\n" * 8000),
    "data_lines": (OK + b"\r\n", b"data: a\n" * 8000),
    "late_data_lines": (OK + b"\r\n" + delta(content="a"), b"data: a\n" * 8000),
    "blank_lines": (OK + b"\r\n", b"\n" * 65536),
    "one_line": (OK + b"\r\n", b"a" * 65536),
    "empty_deltas": (OK + b"\r\n", delta(content="") * 500),
    "text": (OK + b"\r\n", delta(content="a" * 100) * 300),
    "reasoning": (OK + b"\r\n", delta(reasoning_content="a") * 500),
    "empty_call_parts": (OK + b"\r\n", call_part() * 500),
    "call_ids": (OK + b"\r\n", call_part(id="i" * 8192) * 8),
    "call_names": (OK + b"\r\n", call_part(function={"name": "n" * 8192, "arguments": ""}) * 8),
    "logprobs": (
        OK + b"\r\n",
        event({"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a", "logprob": 0}] * 100}}]}) * 10,
    ),
    "usage": (OK + b"\r\n", event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}) * 500),
}
"""What comes first, and what comes again and again."""

BOMBS: dict[str, tuple[bytes, bytes, int]] = {
    "gzip_newlines": (b"200 OK", b"\n", 64),
    "gzip_letters": (b"200 OK", b"a", 1024),
    "gzip_error": (b"400 Bad", b"a", 1024),
    "gzip_events": (b"200 OK", delta(content=""), 256),
}

ODD_CHUNKS: dict[str, bytes] = {
    "infinite_usage": b'{"choices":[],"usage":{"prompt_tokens":1e999,"completion_tokens":1}}',
    "long_usage": b'{"choices":[],"usage":{"prompt_tokens":' + b"9" * 4000 + b"}}",
    "negative_index": b'{"choices":[{"delta":{"tool_calls":[{"index":-1,"function":{"name":"a","arguments":""}}]}}]}',
    "large_index": b'{"choices":[{"delta":{"tool_calls":[{"index":99999999999,"function":{"name":"a"}}]}}]}',
    "text_index": b'{"choices":[{"delta":{"tool_calls":[{"index":"a","function":{"name":"a"}}]}}]}',
    "half_surrogate": b'{"choices":[{"delta":{"content":"\\ud83d"}}]}',
    "half_surrogate_logprob": b'{"choices":[{"delta":{},"logprobs":{"content":[{"token":"\\ud83d","logprob":-1}]}}]}',
    "deep_logprob": b'{"choices":[{"delta":{},"logprobs":{"content":[' + b"[" * 900 + b"]" * 900 + b"]}}]}",
    "deep": b"[" * 200_000,
    "deep_field": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"choices":[]}',
    "not_an_object": b"[1]",
    "not_a_number": b'{"choices":[{"delta":{"content":NaN}}]}',
    "number_reason": b'{"choices":[{"delta":{},"finish_reason":5}]}',
    "list_calls": b'{"choices":[{"delta":{"tool_calls":{"a":1}}}]}',
    "object_arguments": b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":{"a":1}}}]}}]}',
    "text_choices": b'{"choices":"abc"}',
    "not_utf8": b'{"choices":[{"delta":{"content":"\xff\xfe"}}]}',
}

ENDLESS = (*FLOODS, *BOMBS)
ODD = tuple(ODD_CHUNKS)


class HostileModel:
    """Answers each request as its prompt says."""

    def __init__(self) -> None:
        self._bombs: dict[str, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                path = head.split(b" ", 2)[1].decode()
                await self._answer(writer, path, prompt(await reader.readexactly(length)))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, kind: str) -> None:
        if kind in FLOODS:
            first, more = FLOODS[kind]
            writer.write(first)
            while True:
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0)
        if kind in BOMBS:
            answer = self._bombs.get(kind) or self._bombs.setdefault(kind, bomb(*BOMBS[kind]))
        elif kind in ODD_CHUNKS:
            answer = CHUNKED + chunk(delta(content="a")) + chunk(b"data: " + ODD_CHUNKS[kind] + b"\n\n" + TAIL)
            answer += b"0\r\n\r\n"
        else:
            answer = good(path)
        writer.write(answer)
        await writer.drain()


def prompt(body: bytes) -> str:
    """The text of the last message."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        content = json.loads(body)["messages"][-1]["content"]
        return content if isinstance(content, str) else content[0]["text"]
    return "ok"


def good(path: str) -> bytes:
    """A short answer of the provider whose path this is."""
    if path.startswith("/api/"):  # Ollama's
        said = {"model": "m", "message": {"role": "assistant", "content": "ok"}, "done": True, "done_reason": "stop"}
        body, kind = json.dumps(said).encode() + b"\n", b"application/x-ndjson"
    elif path.endswith("/messages"):  # Anthropic's
        body, kind = b"".join(b"event: %b\n" % said["type"].encode() + event(said) for said in ANTHROPIC), SSE
    else:
        body, kind = delta(content="ok") + TAIL, SSE
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body)


async def serve(port: int, announce: Callable[[int], Awaitable[None] | None]) -> None:
    """Serve until cancelled."""
    server = await asyncio.start_server(HostileModel().serve, "127.0.0.1", port, limit=64 * MIB, backlog=512)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A hostile model server.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    os.nice(10)  # as every attacker: it has a machine of its own
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve(parser.parse_args().port, lambda port: print(port, flush=True)))


if __name__ == "__main__":
    main()
