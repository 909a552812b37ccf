"""Every metric of the fleet: name, type, labels and meaning, as data. Dashboards, alerts and the docs are made of it.

Names follow Prometheus' rules. Where vLLM has a metric of the same meaning, its name follows ``chatfleet_``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fleet.metrics.values import Process

FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
DURATION = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    163.84,
    327.68,
    655.36,
)
"""These three are OpenTelemetry's for GenAI, and longer where requests here may take longer."""
QUEUED = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
CALL = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True)
class Metric:
    """``name`` is what queries use: a counter's ends in ``_total``; a histogram has ``_bucket``, ``_sum``, ``_count``.

    ``members`` are the processes that have it.
    """

    kind: Literal["counter", "gauge", "histogram"]
    members: tuple[Process, ...]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """Its name without ``_total``, as OpenMetrics has it."""
        return self.name.removesuffix("_total")

    @property
    def unit(self) -> str:
        """Its base unit; empty for plain numbers."""
        last = self.family.rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


def _counter(members: tuple[Process, ...], name: str, help_: str, *labels: str) -> Metric:
    return Metric("counter", members, name, help_, labels)


def _gauge(members: tuple[Process, ...], name: str, help_: str, *labels: str) -> Metric:
    return Metric("gauge", members, name, help_, labels)


def _histogram(members: tuple[Process, ...], name: str, buckets: tuple[float, ...], help_: str, *labels: str) -> Metric:
    return Metric("histogram", members, name, help_, labels, buckets)


GATEWAY: tuple[Process, ...] = ("gateway",)
WORKER: tuple[Process, ...] = ("worker",)
HOST: tuple[Process, ...] = ("host",)
MEMBERS = GATEWAY + WORKER
ALL = GATEWAY + WORKER + HOST

METRICS: tuple[Metric, ...] = (
    # ------------------------------------------------------------ every process
    _gauge(ALL, "chatfleet_build_info", "Always 1", "process", "member", "version"),
    _gauge(ALL, "chatfleet_ready", "1 if its /readyz answers 200, else 0"),
    _histogram(ALL, "chatfleet_event_loop_lag_seconds", LAG, "How late a timer fires that is due ten times a second"),
    _counter(ALL, "chatfleet_log_events_total", "Lines in its log, without those at level debug", "level", "event"),
    _gauge(
        ALL,
        "chatfleet_certificate_expiry_timestamp_seconds",
        "When a certificate in FLEET_TLS_* ends, in seconds since 1970",
        "certificate",
    ),
    _gauge(ALL, "chatfleet_memory_limit_bytes", "Memory that its container may use; absent where there is no limit"),
    _gauge(ALL, "chatfleet_file_unusable", "1 while a changed file cannot be used, and its old content is", "file"),
    # ------------------------------------------------------------ gateways and workers
    _gauge(MEMBERS, "chatfleet_draining", "1 once it was told to stop"),
    _gauge(MEMBERS, "chatfleet_linked", "1 while it has a link to the host"),
    _gauge(MEMBERS, "chatfleet_relay_open", "1 while its events pass by the relay; by gRPC they cost more"),
    _counter(MEMBERS, "chatfleet_link_losses_total", "How often it lost its link to the host"),
    # ------------------------------------------------------------ the gateway: requests
    _counter(
        GATEWAY,
        "chatfleet_requests_total",
        "Requests for chats, completions and embeddings that ended, with those that were refused",
        "face",
        "model",
        "code",
    ),
    _counter(GATEWAY, "chatfleet_request_success_total", "Replies that are complete", "model", "finished_reason"),
    _gauge(GATEWAY, "chatfleet_num_requests_running", "Requests that are at a worker", "model"),
    _gauge(GATEWAY, "chatfleet_num_requests_waiting", "Requests in the queue for a worker", "model"),
    _gauge(GATEWAY, "chatfleet_queue_limit", "GATEWAY_QUEUE_LIMIT"),
    _gauge(GATEWAY, "chatfleet_queue_oldest_seconds", "How long the oldest request in the queue has waited"),
    _histogram(
        GATEWAY,
        "chatfleet_request_queue_time_seconds",
        QUEUED,
        "A request's time in the queue, over all its attempts",
        "model",
    ),
    _histogram(
        GATEWAY,
        "chatfleet_time_to_first_token_seconds",
        FIRST_TOKEN,
        "From a request's arrival to its reply's first event",
        "model",
    ),
    _histogram(
        GATEWAY,
        "chatfleet_time_per_output_token_seconds",
        PER_TOKEN,
        "Mean time between two tokens of a complete reply",
        "model",
    ),
    _histogram(
        GATEWAY,
        "chatfleet_e2e_request_latency_seconds",
        DURATION,
        "From a request's arrival to the end of its answer, without requests that no worker had",
        "model",
    ),
    _counter(GATEWAY, "chatfleet_prompt_tokens_total", "Tokens of prompts, as models counted them", "model"),
    _counter(
        GATEWAY, "chatfleet_prompt_tokens_cached_total", "Those of them that came from a provider's cache", "model"
    ),
    _counter(
        GATEWAY,
        "chatfleet_generation_tokens_total",
        "Tokens of replies that ended, as models counted them, or deltas where they did not",
        "model",
    ),
    _counter(
        GATEWAY,
        "chatfleet_generation_tokens_reasoning_total",
        "Those of them that were reasoning, where the model says so",
        "model",
    ),
    _counter(
        GATEWAY,
        "chatfleet_reply_deltas_total",
        "Deltas of replies, about one a token, counted while they run",
        "model",
    ),
    _counter(GATEWAY, "chatfleet_attempts_total", "Attempts that ended", "model", "code"),
    _counter(GATEWAY, "chatfleet_retries_total", "Attempts that followed one that ended with this code", "code"),
    _gauge(GATEWAY, "chatfleet_reply_held_bytes", "Bytes of replies that wait for their clients to read"),
    _gauge(GATEWAY, "chatfleet_body_memory_bytes", "Bytes of requests' bodies that are held"),
    _gauge(GATEWAY, "chatfleet_body_memory_limit_bytes", "GATEWAY_BODIES_MEMORY"),
    _gauge(GATEWAY, "chatfleet_http_connections", "Clients' open connections"),
    _counter(
        GATEWAY, "chatfleet_key_requests_total", "Requests that ended, if GATEWAY_METRICS_KEYS is set", "key", "code"
    ),
    _counter(
        GATEWAY,
        "chatfleet_key_prompt_tokens_total",
        "As chatfleet_prompt_tokens_total, if GATEWAY_METRICS_KEYS is set",
        "key",
    ),
    _counter(
        GATEWAY,
        "chatfleet_key_generation_tokens_total",
        "As chatfleet_generation_tokens_total, if GATEWAY_METRICS_KEYS is set",
        "key",
    ),
    # ------------------------------------------------------------ the gateway: workers and models
    _gauge(GATEWAY, "chatfleet_workers", "Workers that it knows", "state"),
    _gauge(GATEWAY, "chatfleet_worker_capacity", "Runs that the worker takes at once", "worker"),
    _gauge(GATEWAY, "chatfleet_worker_active", "Runs on the worker, of all gateways", "worker"),
    _gauge(
        GATEWAY,
        "chatfleet_worker_status_age_seconds",
        "Time since the worker's last status; it sends one a second",
        "worker",
    ),
    _gauge(GATEWAY, "chatfleet_model_workers", "Ready workers that serve it", "model"),
    _gauge(GATEWAY, "chatfleet_model_capacity", "Runs of it that the ready workers take at once", "model"),
    _gauge(GATEWAY, "chatfleet_model_active", "Runs of it on the ready workers, if it has a concurrency", "model"),
    _gauge(GATEWAY, "chatfleet_load_ratio", "load.ratio of /fleet; absent while no worker is ready"),
    _gauge(GATEWAY, "chatfleet_load_workers_ratio", "load.workers_ratio of /fleet; absent while no worker is ready"),
    _gauge(GATEWAY, "chatfleet_breakers_open", "Ready workers that are avoided for it, as it failed there", "model"),
    _counter(GATEWAY, "chatfleet_lanes_broken_total", "How often events of a worker were lost for good"),
    # ------------------------------------------------------------ the worker
    _counter(WORKER, "chatfleet_runs_total", "Runs that ended", "model", "code"),
    _counter(WORKER, "chatfleet_runs_refused_total", "Requests that it did not run", "code"),
    _gauge(WORKER, "chatfleet_runs_active", "Runs now", "model"),
    _gauge(WORKER, "chatfleet_run_capacity", "Runs that it takes at once"),
    _gauge(WORKER, "chatfleet_run_concurrency", "Runs of it that it takes at once, if it has a concurrency", "model"),
    _histogram(
        WORKER,
        "chatfleet_run_time_to_first_token_seconds",
        FIRST_TOKEN,
        "From a run's start to its reply's first event",
        "model",
    ),
    _histogram(WORKER, "chatfleet_run_duration_seconds", DURATION, "Duration of a run", "model"),
    _counter(WORKER, "chatfleet_model_calls_total", "Calls of a model that ended, by runs and agents", "model", "code"),
    _gauge(WORKER, "chatfleet_model_calls_active", "Calls of a model now", "model"),
    _histogram(WORKER, "chatfleet_model_call_duration_seconds", DURATION, "Duration of a model's call", "model"),
    _counter(WORKER, "chatfleet_agent_turns_total", "Agents' turns that ended", "agent", "code"),
    _histogram(WORKER, "chatfleet_agent_turn_duration_seconds", CALL, "Duration of an agent's turn", "agent"),
    _counter(WORKER, "chatfleet_tool_calls_total", "Calls of agents' tools that ended", "tool", "code"),
    _histogram(WORKER, "chatfleet_tool_call_duration_seconds", CALL, "Duration of a tool's call", "tool"),
    _gauge(WORKER, "chatfleet_lanes", "Lanes, one to each gateway"),
    _gauge(WORKER, "chatfleet_lane_unacknowledged_batches", "Batches of events that no gateway has acknowledged"),
    _counter(WORKER, "chatfleet_lane_batches_total", "Batches of events, each counted once"),
    _counter(WORKER, "chatfleet_lane_resent_batches_total", "Batches that were sent again"),
    _gauge(WORKER, "chatfleet_lane_held_bytes", "Bytes of replies that are not acknowledged, or wait for credit"),
    _gauge(WORKER, "chatfleet_lane_blocked_replies", "Replies that wait for credit, because their clients do not read"),
    # ------------------------------------------------------------ the host
    _gauge(HOST, "chatfleet_host_members", "Connected members, by what carries their events", "kind", "by"),
    _counter(HOST, "chatfleet_host_members_left_total", "Members that left", "kind", "cause"),
    _counter(HOST, "chatfleet_host_members_dropped_total", "Members that were cut off because they read nothing"),
    _counter(HOST, "chatfleet_host_refusals_total", "Members and connections that were refused", "reason"),
    _counter(HOST, "chatfleet_host_events_total", "Events that came from members", "by"),
    _counter(HOST, "chatfleet_host_events_dropped_total", "Events that were not passed on", "reason"),
    _gauge(HOST, "chatfleet_host_backlog_bytes", "Bytes that wait for members to read"),
    _gauge(HOST, "chatfleet_host_pending_connections", "Connections that have not authenticated"),
)

LIBRARY: tuple[Metric, ...] = (
    _counter(ALL, "process_cpu_seconds_total", "CPU time"),
    _gauge(ALL, "process_resident_memory_bytes", "Memory"),
    _gauge(ALL, "process_virtual_memory_bytes", "Address space"),
    _gauge(ALL, "process_start_time_seconds", "When it started, in seconds since 1970"),
    _gauge(ALL, "process_open_fds", "Open file descriptors"),
    _gauge(ALL, "process_max_fds", "File descriptors that it may open"),
    _counter(ALL, "python_gc_objects_collected_total", "Objects that collections freed", "generation"),
    _counter(ALL, "python_gc_objects_uncollectable_total", "Objects that no collection could free", "generation"),
    _counter(ALL, "python_gc_collections_total", "Garbage collections", "generation"),
)
"""What prometheus-client adds to every process, on Linux."""

_BY_NAME = {metric.name: metric for metric in (*METRICS, *LIBRARY)}


def named(name: str) -> Metric:
    """Raises ``KeyError``."""
    return _BY_NAME[name]


def of(process: Process) -> Iterator[Metric]:
    """The metrics of one kind of process."""
    return (metric for metric in _BY_NAME.values() if process in metric.members)
