"""What is counted of a request, whatever its client, its worker and its model say."""

from typing import Any

import pytest

from fleet.metrics.exposition import Exposition
from fleet.metrics.names import KEPT, Served
from fleet.metrics.values import KEYS
from gateway.chats.chat import Chat, Record
from gateway.chats.reply import Completed
from gateway.errors import ModelFailed
from gateway.metrics.requests import RequestMetrics
from protos import chat_pb2 as pb


class Stage:
    """A gateway's metrics, and requests that pass through."""

    def __init__(self, *, by_key: bool = False) -> None:
        self.served = ["smollm2"]
        self.now = 0.0
        self.exposition = Exposition()
        names = Served(lambda: self.served, clock=lambda: self.now)
        self.keys = ["alice"]
        keys = Served(lambda: self.keys, clock=lambda: self.now) if by_key else None
        self.metrics = RequestMetrics(self.exposition, names, keys)

    def open(self, model: str = "smollm2", **known: Any) -> Chat:
        """A request that waits for a worker."""
        record = Record(face="openai", model=model, began=1.0, ended=5.0, **known)
        self.metrics.opened(record)
        return Chat(pb.ChatHistory(request_id=f"r{id(record)}", model=model), record=record)

    def attempt(self, chat: Chat, number: int = 1, code: str | None = None) -> None:
        chat.worker = "w-1"
        chat.attempts += 1
        self.metrics.attempt_started(chat, number, "w-1")
        if code is not None:
            self.metrics.attempt_ended(chat, number, "w-1", code)

    def close(self, chat: Chat, end: Completed | ModelFailed) -> None:
        chat.reply.finish(end)
        chat.record.end(end)
        self.metrics.closed(chat.record)

    def value(self, name: str, **labels: str) -> float | None:
        return self.exposition.registry.get_sample_value(f"chatfleet_{name}", labels)

    def labels(self, name: str) -> set[str]:
        """All values of all labels of a metric."""
        families = self.exposition.registry.collect()
        samples = [sample for family in families for sample in family.samples if sample.name == f"chatfleet_{name}"]
        return {value for sample in samples for value in sample.labels.values()}


def usage(**extra: str) -> pb.Usage:
    return pb.Usage(prompt_tokens=100, completion_tokens=20, **extra)


def test_a_complete_reply_is_counted_once_in_everything_that_it_concerns() -> None:
    stage = Stage()
    chat = stage.open()
    stage.attempt(chat)
    chat.first_at = 1.5
    stage.metrics.first_event(chat)
    chat.reply.tokens = 8
    stage.metrics.attempt_ended(chat, 1, "w-1", "")
    details = '{"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 12}}'
    stage.close(chat, Completed("stop", usage(extra=details)))
    assert stage.value("requests_total", face="openai", model="smollm2", code="ok") == 1
    assert stage.value("request_success_total", model="smollm2", finished_reason="stop") == 1
    assert stage.value("attempts_total", model="smollm2", code="ok") == 1
    assert stage.value("time_to_first_token_seconds_sum", model="smollm2") == 0.5
    assert stage.value("time_per_output_token_seconds_sum", model="smollm2") == 0.5
    assert stage.value("e2e_request_latency_seconds_sum", model="smollm2") == 4.0
    counts = [
        stage.value(f"{name}_total", model="smollm2")
        for name in (
            "prompt_tokens",
            "prompt_tokens_cached",
            "generation_tokens",
            "generation_tokens_reasoning",
            "reply_deltas",
        )
    ]
    assert counts == [100, 64, 20, 12, 8]


def test_deltas_are_counted_while_the_reply_runs_and_never_fall() -> None:
    stage = Stage()
    chat = stage.open()
    stage.attempt(chat)
    seen = []
    for tokens in (1, 50):
        chat.reply.tokens = tokens
        seen.append(stage.value("reply_deltas_total", model="smollm2"))
    stage.close(chat, Completed("stop"))
    seen.append(stage.value("reply_deltas_total", model="smollm2"))
    assert seen == [1, 50, 50]
    assert stage.value("generation_tokens_total", model="smollm2") == 50, "what the model did not count"


def test_an_attempt_after_one_that_failed_is_a_retry_for_its_reason() -> None:
    stage = Stage()
    chat = stage.open()
    stage.attempt(chat, 1, "worker_lost")
    assert stage.value("retries_total", code="worker_lost") is None, "there is no other attempt yet"
    stage.attempt(chat, 2, "")
    stage.close(chat, Completed("stop"))
    assert stage.value("retries_total", code="worker_lost") == 1
    assert stage.value("attempts_total", model="smollm2", code="worker_lost") == 1
    assert not stage.metrics._failed


def test_nothing_is_kept_of_a_chat_that_is_no_request() -> None:
    """Such as a deep probe's, which nobody closes."""
    stage = Stage()
    chat = Chat(pb.ChatHistory(request_id="probe", model="smollm2"))
    stage.attempt(chat, 1, "model_failed")
    assert not stage.metrics._failed
    assert not stage.metrics._open


def test_a_request_that_no_worker_had_has_no_duration() -> None:
    stage = Stage()
    chat = stage.open()
    stage.close(chat, ModelFailed(pb.Error(code="queue_timeout")))
    assert stage.value("requests_total", face="openai", model="smollm2", code="queue_timeout") == 1
    assert stage.value("request_queue_time_seconds_count", model="smollm2") == 1
    assert stage.value("e2e_request_latency_seconds_count", model="smollm2") is None


@pytest.mark.parametrize("text", ["Tell me about my password hunter2", "x" * 10_000, "\n", "🦜"])
def test_what_others_say_names_no_series(text: str) -> None:
    stage = Stage()
    chat = stage.open(model=text)
    stage.attempt(chat, 1, text)
    stage.close(chat, ModelFailed(pb.Error(code=text)))
    chat = stage.open()
    stage.attempt(chat, 1, "")
    stage.close(chat, Completed(text))
    assert stage.labels("requests_total") == {"openai", "smollm2", "other", "ok"}
    assert stage.labels("attempts_total") == {"smollm2", "other", "ok"}
    assert stage.labels("request_success_total") == {"smollm2", "other"}


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "[]",
        "{",
        '{"prompt_tokens_details": 7}',
        '{"prompt_tokens_details": {"cached_tokens": -5}}',
        '{"prompt_tokens_details": {"cached_tokens": "many"}}',
        '{"prompt_tokens_details": {"cached_tokens": 1e300}}',
        '{"prompt_tokens_details": {"cached_tokens": true}}',
    ],
)
def test_a_usage_that_makes_no_sense_counts_as_far_as_it_does(extra: str) -> None:
    stage = Stage()
    chat = stage.open()
    stage.attempt(chat)
    stage.close(chat, Completed("stop", usage(extra=extra)))
    assert stage.value("prompt_tokens_total", model="smollm2") == 100
    assert stage.value("prompt_tokens_cached_total", model="smollm2") is None


def test_a_count_beyond_all_reason_is_none() -> None:
    stage = Stage()
    chat = stage.open()
    stage.attempt(chat)
    stage.close(chat, Completed("stop", pb.Usage(prompt_tokens=2**63, completion_tokens=2**64 - 1)))
    assert stage.value("prompt_tokens_total", model="smollm2") is None
    assert stage.value("generation_tokens_total", model="smollm2") is None


def test_the_series_of_a_model_that_is_gone_are_dropped() -> None:
    stage = Stage()
    chat = stage.open()
    stage.attempt(chat)
    chat.reply.tokens = 3
    stage.close(chat, Completed("stop", usage()))
    stage.served = ["qwen"]
    stage.now += KEPT + 1
    list(stage.exposition.registry.collect())
    left = [
        sample.name
        for family in stage.exposition.registry.collect()
        for sample in family.samples
        if sample.labels.get("model") == "smollm2"
    ]
    assert left == []


@pytest.mark.parametrize("by_key", [True, False])
def test_keys_are_named_only_if_it_was_asked_for(by_key: bool) -> None:
    stage = Stage(by_key=by_key)
    chat = stage.open(key="alice")
    stage.attempt(chat)
    stage.close(chat, Completed("stop", usage()))
    expected = [1, 100, 20] if by_key else [None, None, None]
    assert [
        stage.value("key_requests_total", key="alice", code="ok"),
        stage.value("key_prompt_tokens_total", key="alice"),
        stage.value("key_generation_tokens_total", key="alice"),
    ] == expected


def test_keys_come_and_go_without_using_up_the_names() -> None:
    """As where keys are replaced each night."""
    stage = Stage(by_key=True)
    for night in range(KEYS + 1):
        stage.keys = [f"key-{night}"]
        stage.now += 86_400
        list(stage.metrics.collect())
        chat = stage.open(key=f"key-{night}")
        stage.close(chat, ModelFailed(pb.Error(code="model_failed")))
    assert stage.value("key_requests_total", key=f"key-{KEYS}", code="model_failed") == 1
    stage.now += KEPT + 1
    assert stage.labels("key_requests_total") == {f"key-{KEYS}", "model_failed"}


def test_the_trace_is_an_exemplar() -> None:
    stage = Stage()
    chat = stage.open(fields={"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    stage.attempt(chat)
    chat.first_at = 1.5
    stage.metrics.first_event(chat)
    stage.close(chat, Completed("stop"))
    exemplars = {
        sample.name: sample.exemplar.labels
        for family in stage.exposition.registry.collect()
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == {
        f"chatfleet_{name}_seconds_bucket": {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
        for name in ("time_to_first_token", "e2e_request_latency")
    }
