"""The log events that are counted from a process's start on, so that an alert sees a rise when the first one comes."""

from fleet.metrics.values import Process

Events = dict[str, tuple[str, ...]]
"""By level."""

_MEMBERS: Events = {
    "info": ("draining", "joined the host"),
    "warning": (
        "a changed token file cannot be used, going on with the old one",
        "cannot join the host, trying on",
        "changed TLS files cannot be used, going on with the old ones",
        "dropped a message in another's name",
        "dropped a message that is too large",
        "lost the host",
        "no relay, events pass by gRPC",
        "traces lost",
        "tracing is off",
        "tracing setting ignored",
    ),
    "error": ("an event was not understood", "the link failed, joining again"),
}

_GATEWAY: Events = {
    "info": (
        "connection dropped",
        "connection without a request",
        "request",
        "request refused",
        "trying elsewhere",
        "worker found",
        "worker left",
    ),
    "warning": (
        "an answer failed as its client left",
        "chats cut off by the drain timeout",
        "dropped a batch of too many events",
        "lane broken",
        "request",
        "worker gone",
    ),
    "error": ("keys not reloaded", "request failed"),
}

_WORKER: Events = {
    "info": ("gateway gone",),
    "warning": (
        "a file was replaced outside its mount",
        "agent not served",
        "an agent did not end when it was cancelled",
        "chat failed",
        "fails for everyone",
        "mcp server gone",
        "runs cut off by the drain timeout",
    ),
    "error": ("a failure was not understood", "chat failed", "not reloaded"),
}

_HOST: Events = {
    "info": ("member joined", "member left"),
    "warning": (
        "a changed token file cannot be used, going on with the old one",
        "a member's certificate and token name no role",
        "cannot accept a connection",
        "changed TLS files cannot be used, going on with the old ones",
        "dropped a connection",
        "dropped a member that reads nothing",
        "dropped a response",
        "dropped an event",
        "members are not told apart",
        "not encrypted",
        "refused a connection",
        "refused a member",
        "refused a member: its FLEET_TOKEN is missing or wrong",
        "refused a request",
    ),
    "error": ("a connection failed", "a member's stream failed", "the server has failed, so this process ends"),
}

EVENTS: dict[Process, Events] = {
    "gateway": {level: _MEMBERS[level] + events for level, events in _GATEWAY.items()},
    "worker": {level: _MEMBERS[level] + events for level, events in _WORKER.items()},
    "host": _HOST,
}

_TOKEN = {
    "token": ("a changed token file cannot be used, going on with the old one", "using a changed token file"),
}

CHANGES: dict[Process, dict[str, tuple[str, str]]] = {
    "gateway": _TOKEN | {"keys": ("keys not reloaded", "keys reloaded")},
    "worker": _TOKEN | {"models": ("not reloaded", "reloaded")},
    "host": _TOKEN
    | {"tls": ("changed TLS files cannot be used, going on with the old ones", "using changed TLS files")},
}
"""By file: what is logged of a change that cannot be used, and of one that is used."""
