"""Counts requests and attempts as they begin and end."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric as Family

from fleet.metrics.exposition import Exposition, by_label, counter, gauge
from fleet.metrics.names import Served
from fleet.metrics.values import FINISH_REASONS, OTHER, known_code
from fleet.usage import details, sane
from gateway.chats.chat import Chat, Record
from gateway.chats.observer import Observer
from gateway.chats.reply import Completed
from protos import chat_pb2 as pb


class RequestMetrics(Observer):
    """``served`` names models, and ``keys`` the API keys that are counted by. It has 19 attributes because each metric
    is one.
    """

    def __init__(self, exposition: Exposition, served: Served, keys: Served | None = None) -> None:
        self._served = served
        self._open: dict[int, Record] = {}
        """By the record's identity: the requests that are not closed."""
        self._failed: dict[str, str] = {}
        """By request, of those that are not closed: how its last attempt failed."""
        self._deltas: Counter[str] = Counter()
        """By model, of the requests that are closed."""
        self._requests = exposition.counter("chatfleet_requests_total")
        self._success = exposition.counter("chatfleet_request_success_total")
        self._queued = exposition.histogram("chatfleet_request_queue_time_seconds")
        self._first = exposition.histogram("chatfleet_time_to_first_token_seconds")
        self._per_token = exposition.histogram("chatfleet_time_per_output_token_seconds")
        self._latency = exposition.histogram("chatfleet_e2e_request_latency_seconds")
        self._attempts = exposition.counter("chatfleet_attempts_total")
        self._retries = exposition.counter("chatfleet_retries_total")
        self._tokens = [
            exposition.counter("chatfleet_prompt_tokens_total"),
            exposition.counter("chatfleet_prompt_tokens_cached_total"),
            exposition.counter("chatfleet_generation_tokens_total"),
            exposition.counter("chatfleet_generation_tokens_reasoning_total"),
        ]
        self._of_models = [
            *(self._requests, self._success, self._queued, self._first, self._per_token, self._latency),
            *(self._attempts, *self._tokens),
        ]
        self._keys = keys
        self._key_requests = exposition.counter("chatfleet_key_requests_total")
        self._key_prompt = exposition.counter("chatfleet_key_prompt_tokens_total")
        self._key_generation = exposition.counter("chatfleet_key_generation_tokens_total")
        exposition.add(self)

    # ------------------------------------------------------------ what happens

    def opened(self, record: Record) -> None:
        self._open[id(record)] = record

    def attempt_started(self, chat: Chat, number: int, worker_id: str) -> None:
        if failed := self._failed.pop(chat.request_id, ""):
            self._retries.labels(failed).inc()

    def attempt_ended(self, chat: Chat, number: int, worker_id: str, code: str) -> None:
        code = known_code(code or "ok")
        self._attempts.labels(self._served(chat.model), code).inc()
        if code not in ("ok", "client_gone") and id(chat.record) in self._open:
            self._failed[chat.request_id] = code

    def first_event(self, chat: Chat) -> None:
        assert chat.first_at is not None
        seconds = max(0.0, chat.first_at - chat.record.began)
        self._first.labels(self._served(chat.model)).observe(seconds, _exemplar(chat.record))

    def closed(self, record: Record) -> None:
        self._open.pop(id(record), None)
        chat = record.chat
        code = known_code(record.code)
        model = self._served((chat.model if chat is not None else "") or record.model)
        self._requests.labels(record.face, model, code).inc()
        if self._keys is not None and record.key:
            self._key_requests.labels(self._keys(record.key), code).inc()
        if chat is not None:
            self._failed.pop(chat.request_id, None)
            self._end(record, chat, model)

    def _end(self, record: Record, chat: Chat, model: str) -> None:
        self._queued.labels(model).observe(chat.claim.waited)
        if not chat.worker:
            return
        self._latency.labels(model).observe(record.seconds, _exemplar(record))
        reply = chat.reply
        self._deltas[model] += reply.tokens
        if record.code == "ok" and isinstance(reply.end, Completed):
            reason = reply.end.finish_reason
            self._success.labels(model, reason if reason in FINISH_REASONS else OTHER).inc()
            if chat.first_at is not None and reply.tokens > 1:
                self._per_token.labels(model).observe(max(0.0, record.ended - chat.first_at) / (reply.tokens - 1))
        counts = _counts(chat.usage, reply.tokens)
        for tokens, count in zip(self._tokens, counts, strict=True):
            if count:
                tokens.labels(model).inc(count)
        if self._keys is not None and record.key:
            key = self._keys(record.key)
            self._key_prompt.labels(key).inc(counts[0])
            self._key_generation.labels(key).inc(counts[2])

    # ------------------------------------------------------------ what is read at a scrape

    def collect(self) -> Iterator[Family]:
        self._forget()
        deltas, running = self._deltas.copy(), Counter(dict.fromkeys(self._served.names, 0))
        for record in self._open.values():
            if (chat := record.chat) is not None and chat.worker:
                model = self._served(chat.model)
                deltas[model] += chat.reply.tokens
                running[model] += chat.reply.attempt is not None
        yield counter("chatfleet_reply_deltas_total", by_label(deltas))
        yield gauge("chatfleet_num_requests_running", by_label(running))
        held = sum(record.chat.reply.unread for record in self._open.values() if record.chat is not None)
        yield gauge("chatfleet_reply_held_bytes", [((), held)])

    def _forget(self) -> None:
        """Drop the series of models that are served no more, and of keys that are gone."""
        for model in self._served.gone():
            del self._deltas[model]
            for metric in self._of_models:
                metric.remove_by_labels({"model": model})
        for key in self._keys.gone() if self._keys is not None else ():
            for metric in (self._key_requests, self._key_prompt, self._key_generation):
                metric.remove_by_labels({"key": key})


def _exemplar(record: Record) -> dict[str, str] | None:
    trace = record.fields.get("trace_id")
    return {"trace_id": trace} if isinstance(trace, str) else None


def _counts(usage: pb.Usage | None, deltas: int) -> tuple[int, int, int, int]:
    """Tokens of the prompt, those from a cache, tokens of the reply, those of reasoning."""
    if usage is None:
        return 0, 0, deltas, 0
    cached, reasoning = details(usage)
    return sane(usage.prompt_tokens), cached, sane(usage.completion_tokens) or deltas, reasoning
