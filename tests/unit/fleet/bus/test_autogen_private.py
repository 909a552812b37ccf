"""Private parts of AutoGen, OpenAI's SDK, uvicorn and httptools that we build on: a change of one fails a test here."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httptools
import openai
import pytest
import uvicorn
from autogen_core import PROTOBUF_DATA_CONTENT_TYPE
from autogen_core._runtime_impl_helpers import SubscriptionManager
from autogen_ext.models.anthropic._anthropic_client import BaseAnthropicChatCompletionClient
from autogen_ext.models.ollama._ollama_client import BaseOllamaChatCompletionClient
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient, _add_usage
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost, _constants
from autogen_ext.runtimes.grpc._worker_runtime import HostConnection, QueueAsyncIterable
from autogen_ext.runtimes.grpc._worker_runtime_host_servicer import (
    ChannelConnection,
    GrpcWorkerAgentRuntimeHostServicer,
)
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from worker.wire.answers import Bounded
from worker.wire.streamed import http_client
from worker.wire.transport import Transport


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


async def test_the_members_runtime_has_the_attributes_that_ours_replaces() -> None:
    runtime = GrpcWorkerAgentRuntime("127.0.0.1:1", payload_serialization_format=PROTOBUF_DATA_CONTENT_TYPE)
    for name in (
        "_host_address",
        "_host_connection",
        "_running",
        "_background_tasks",
        "_agent_factories",
        "_subscription_manager",
        "_serialization_registry",
    ):
        assert hasattr(runtime, name), name


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (GrpcWorkerAgentRuntime._process_event, ["self", "event"]),
        (GrpcWorkerAgentRuntime._register_agent_type, ["self", "agent_type"]),
        (GrpcWorkerAgentRuntime.register_factory, ["self", "type", "agent_factory", "expected_class"]),
        (GrpcWorkerAgentRuntime.add_subscription, ["self", "subscription"]),
        (HostConnection.__init__, ["self", "channel", "stub"]),
        (HostConnection.send, ["self", "message"]),
        (QueueAsyncIterable.__init__, ["self", "queue"]),
        (SubscriptionManager.add_subscription, ["self", "subscription"]),
        (GrpcWorkerAgentRuntimeHost.stop, ["self", "grace"]),
        (ChannelConnection.__init__, ["self", "request_iterator", "client_id"]),
        (ChannelConnection._receive_messages, ["self", "client_id", "request_iterator"]),
        (GrpcWorkerAgentRuntimeHostServicer._on_client_disconnect, ["self", "client_id"]),
        (_add_usage, ["usage1", "usage2"]),
        (BaseAnthropicChatCompletionClient.__init__, ["self", "client", "create_args", "model_info"]),
    ],
)
def test_what_we_call_or_override_takes_what_we_give(function: Callable[..., Any], names: list[str]) -> None:
    assert parameters(function) == names


async def test_a_connection_has_a_queue_to_send_from_and_an_id() -> None:
    connection = HostConnection(None, None)  # type: ignore[arg-type]
    assert connection._send_queue.empty()
    assert connection._client_id


async def test_the_host_has_the_attributes_that_ours_sets_and_its_start_uses_them() -> None:
    source = inspect.getsource(GrpcWorkerAgentRuntimeHost)
    for name in ("_server", "_servicer", "_address", "_serve_task"):
        assert f"self.{name}" in source, name


def test_the_servicer_keeps_its_members_where_ours_looks() -> None:
    servicer = GrpcWorkerAgentRuntimeHostServicer()
    assert servicer._data_connections == {}
    assert servicer._agent_type_to_client_id == {}
    assert servicer._client_id_to_subscription_id_mapping == {}
    assert list(servicer._subscription_manager.subscriptions) == []


def test_the_events_attributes_have_their_names() -> None:
    for name in ("DATA_CONTENT_TYPE", "DATA_SCHEMA", "AGENT_SENDER_TYPE", "AGENT_SENDER_KEY", "MESSAGE_KIND"):
        assert isinstance(getattr(_constants, f"{name}_ATTR"), str)


def test_openais_client_has_the_attributes_that_ours_uses() -> None:
    source = inspect.getsource(BaseOpenAIChatCompletionClient)
    for name in (
        "_client",
        "_total_usage",
        "_actual_usage",
        "_create_args",
        "_add_name_prefixes",
        "_include_name_in_message",
    ):
        assert f"self.{name}" in source, name


def test_ollamas_client_has_the_attributes_that_ours_uses() -> None:
    source = inspect.getsource(BaseOllamaChatCompletionClient)
    for name in ("_total_usage", "_actual_usage"):
        assert f"self.{name}" in source, name
    assert parameters(BaseOllamaChatCompletionClient.__init__)[1:] == [
        "client",
        "create_args",
        "model_capabilities",
        "model_info",
    ]


def test_the_client_for_claude_has_the_attributes_that_ours_uses() -> None:
    source = inspect.getsource(BaseAnthropicChatCompletionClient)
    for name in ("_client", "_total_usage", "_actual_usage"):
        assert f"self.{name}" in source, name


async def test_the_sdk_keeps_its_transport_where_ours_looks() -> None:
    client = openai.AsyncOpenAI(api_key="k", http_client=http_client())
    assert isinstance(client._client._transport, Bounded)
    assert isinstance(client._client._transport.inner, Transport)
    await client.close()


class Wire(asyncio.Transport):
    """What uvicorn writes to, and what it asks of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def in_two_chunks(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def protocol() -> HttpToolsProtocol:
    config = uvicorn.Config(in_two_chunks, http=HttpToolsProtocol, ws="none", lifespan="off", log_config=None)
    made = HttpToolsProtocol(config, ServerState(), {})
    made.connection_made(Wire())
    return made


async def test_uvicorns_protocol_says_whether_writing_would_wait() -> None:
    made = protocol()
    said = [made.flow.write_paused]
    for change in (made.pause_writing, made.resume_writing):
        change()
        said.append(made.flow.write_paused)
    assert said == [False, True, False]
    assert STATUS_LINE[404] == b"HTTP/1.1 404 Not Found\r\n"


class Narrow:
    """All that uvicorn's request cycle may ask of a transport: gateway/http/protocol.py gives it no more."""

    def __init__(self, made: HttpToolsProtocol) -> None:
        self.done: list[object] = []
        self._made = made

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("close")
        self.done.append(self._made.server_state.total_requests)

    def is_closing(self) -> bool:
        return False


async def test_uvicorn_asks_to_close_before_it_reports_an_answer_complete() -> None:
    made = protocol()
    narrow = Narrow(made)
    made.transport = narrow  # type: ignore[assignment]
    made.data_received(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 1\r\n\r\na")
    assert made.cycle.keep_alive is made.cycle.disconnected is False
    await asyncio.gather(*made.tasks)
    assert narrow.done[-2:] == ["close", 0]
    assert made.server_state.total_requests == 1


async def test_uvicorn_writes_nothing_for_a_client_that_has_gone() -> None:
    made = protocol()
    made.data_received(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n")
    made.cycle.disconnected = True
    made.cycle.message_event.set()
    assert await made.cycle.receive() == {"type": "http.disconnect"}
    await asyncio.gather(*made.tasks)
    assert made.transport.written == b""  # type: ignore[attr-defined]
    made.connection_lost(None)


async def test_uvicorns_flow_control_says_whether_reading_is_paused() -> None:
    made = protocol()
    said = [made.flow.read_paused]
    for change in (made.flow.pause_reading, made.flow.resume_reading):
        change()
        said.append(made.flow.read_paused)
    assert said == [False, True, False]


class Calls:
    """What httptools calls, by name."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def on_message_begin(self) -> None:
        if "on_message_complete" in self.made:
            raise LookupError("the second request")
        self.made.append("on_message_begin")

    def on_headers_complete(self) -> None:
        self.made.append("on_headers_complete")

    def on_body(self, _: bytes) -> None:
        self.made.append("on_body")

    def on_message_complete(self) -> None:
        self.made.append("on_message_complete")


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: a\r\n", b"CONNECT a:1 HTTP/1.1\r\n"]
)
def test_httptools_stops_after_headers_that_ask_for_an_upgrade_and_says_where(head: bytes) -> None:
    calls = Calls()
    parser = httptools.HttpRequestParser(calls)
    head += b"content-length: 3\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as stopped:
        parser.feed_data(head + b"abcGET / HTTP/1.1\r\n\r\n")
    assert stopped.value.args == (len(head),)
    assert parser.should_upgrade()
    assert calls.made == ["on_message_begin", "on_headers_complete", "on_message_complete"]


@pytest.mark.parametrize("behind", [b"GET / HTTP/1.1\r\n\r\n", b"\x00"])
def test_httptools_shows_what_a_callback_raised(behind: bytes) -> None:
    """A request begins with whatever is not an empty line."""
    parser = httptools.HttpRequestParser(Calls())
    parser.feed_data(b"GET / HTTP/1.1\r\n\r\n\r\n")
    with pytest.raises(httptools.HttpParserCallbackError) as failed:
        parser.feed_data(behind)
    assert isinstance(failed.value.__context__, LookupError)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_uvicorn_sends_an_answer_of_unknown_length_in_chunks_whatever_the_client_speaks(version: bytes) -> None:
    made = protocol()
    made.data_received(b"POST / HTTP/%b\r\ncontent-length: 0\r\n\r\n" % version)
    assert made.cycle.response_started is made.cycle.response_complete is False
    await asyncio.gather(*made.tasks)
    head, _, body = made.transport.written.partition(b"\r\n\r\n")  # type: ignore[attr-defined]
    assert b"transfer-encoding: chunked" in head
    assert body == b"2\r\nab\r\n0\r\n\r\n"
    made.connection_lost(None)
