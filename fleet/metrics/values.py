"""The values that labels may have, so that no member, model or client can make a series of its own."""

from typing import Literal

Process = Literal["gateway", "worker", "host"]

OTHER = "other"
"""Stands for everything that is not known, or is too much to name."""

NAMES = 200
"""Models, tools, agents, workers and events that are named."""

KEYS = 1000

LONGEST = 200
"""Characters of a name: a longer one, which each of its series would repeat, is :data:`OTHER`."""

CODES = frozenset(
    {
        *("ok", "cancelled", "client_gone", "client_stalled"),
        # gateway/errors.py
        *("body_timeout", "body_too_complex", "body_too_large", "chunk_invalid", "credit_ignored", "deadline"),
        *("draining", "first_token_timeout", "incomplete_body", "internal_error", "invalid_api_key"),
        *("invalid_encoding", "invalid_field", "invalid_json", "lane_broken", "link_lost", "model_not_allowed"),
        *("no_worker", "not_accepted", "not_found", "overloaded", "queue_full", "queue_timeout"),
        *("rate_limit_exceeded", "token_timeout", "unknown_model", "unsupported_encoding", "unsupported_parameter"),
        *("worker_lost", "worker_silent", "worker_stopped"),
        # worker/contract/failures.py
        *("agent_failed", "model_failed", "model_not_found", "model_quota_exhausted", "model_rate_limited"),
        *("model_rejected_request", "model_stream_broken", "model_timeout", "model_unauthorized"),
        *("model_unreachable", "tool_failed", "unsupported_request", "worker_draining", "worker_full"),
    }
)
"""Of ``code``. Workers may send any text as a code."""

FINISH_REASONS = frozenset({"stop", "length", "function_calls", "tool_calls", "content_filter", "unknown"})

STATES = ("ready", "draining", "silent")

KINDS = ("gateway", "worker", OTHER)

CAUSES = ("closed", "silent")

WAYS = ("relay", "grpc")

REFUSALS = ("token", "role", "taken", "invalid", "tls", "timeout", "flood", "exhausted")
"""Why the host refused a member or a connection."""

DROPS = ("role", "invalid", "too_large", "no_room")
"""Why the host dropped an event."""


def known_code(code: str) -> str:
    return code if code in CODES else OTHER


LABELS = {
    "agent": "an agent's name within its team; at most 200, the others are `other`",
    "by": "`relay` or `grpc`",
    "cause": "`closed`: its connection ended; `silent`: it had been silent before that",
    "certificate": "`own`, or `authority`: the one of `FLEET_TLS_CA` that ends first",
    "code": "how it ended: `ok`, `cancelled`, `client_gone`, `client_stalled` or an error's code; others are `other`",
    "event": "an event of the [log](#logs); at most 200, the others and libraries' lines are `other`",
    "face": "the API: `openai`, `ndjson`, …",
    "file": "`keys`, `token`, `tls`, or `models` for `models.yaml` and `agents.yaml`",
    "finished_reason": "`stop`, `length`, `function_calls`, `content_filter` or `unknown`; others are `other`",
    "generation": "of Python's garbage collector",
    "key": "an API key's name; at most 1,000, the others are `other`. One that is gone is dropped after 15 minutes",
    "kind": "`gateway`, `worker`, or `other` for an AutoGen program",
    "level": "`info`, `warning` or `error`",
    "member": "the member's id; empty for the host",
    "model": "the public name of a model or an agent. At most 200; names that are not served are `other`. Empty where a"
    " request named none and no default is known. A name that is no longer served is dropped after 15 minutes",
    "process": "`gateway`, `worker` or `host`",
    "reason": "`token` (missing or wrong), `role` (not allowed to its role), `taken` (its id is in use), `invalid`,"
    " `tls`, `timeout`, `flood`, `exhausted` (no file descriptors left), `too_large`, `no_room` (its receiver reads too"
    " slowly)",
    "state": "`ready`, `draining` or `silent`, as in `/fleet`",
    "tool": "a tool's name; at most 200, the others are `other`",
    "version": "of its code",
    "worker": "a worker's id; at most 200, and only while the gateway knows the worker",
}
"""By label: what it says, for the docs."""
