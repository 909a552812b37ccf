"""AutoGen's private parts that we build on: one of these fails, clearly, when a later AutoGen changes one."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from autogen_core import PROTOBUF_DATA_CONTENT_TYPE
from autogen_core._runtime_impl_helpers import SubscriptionManager
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient, CreateParams, _add_usage
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost, _constants
from autogen_ext.runtimes.grpc._worker_runtime import HostConnection, QueueAsyncIterable
from autogen_ext.runtimes.grpc._worker_runtime_host_servicer import (
    ChannelConnection,
    GrpcWorkerAgentRuntimeHostServicer,
)


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
        (
            BaseOpenAIChatCompletionClient._process_create_args,
            ["self", "messages", "tools", "tool_choice", "json_output", "extra_create_args"],
        ),
        (_add_usage, ["usage1", "usage2"]),
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


def test_the_model_client_prepares_its_request_as_ours_expects() -> None:
    assert [field for field in CreateParams.__dataclass_fields__] == [  # noqa: C416
        "messages",
        "tools",
        "response_format",
        "create_args",
    ]
    source = inspect.getsource(BaseOpenAIChatCompletionClient)
    for name in ("_client", "_total_usage", "_actual_usage"):
        assert f"self.{name}" in source, name
