"""Names on the bus: member ids, agent types and topics.

AutoGen keeps one agent and one cached topic per topic *source* for ever, so the source is one constant and what varies
with a request travels in the payload. Its rule of one client per agent type is met by giving every member a type of its
own, ``<kind>.<member id>``, and ids that are new at every start.
"""

import functools
import re
import secrets
import socket

from autogen_core import TopicId

from fleet.process import container

SOURCE = "fleet"
WORKERS = TopicId("workers", SOURCE)
MEMBERS = TopicId("members", SOURCE)
GATEWAYS = TopicId("gateways", SOURCE)

WORKER = "my_agent"
GATEWAY = "gateway"
_KINDS = {WORKER: "worker", GATEWAY: "gateway"}

HOST = "host"
"""The id under which the host publishes; no member may have it."""
_MEMBER_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")

NAME = 63
"""Characters of a member's name in its id."""

CHAT = "chat."
CHUNKS = "chunks."


def new_member_id(kind: str, name: str = "") -> str:
    """``<name>-<8 hex digits>``: new at every start, safe in agent types and topics.

    ``kind`` is :data:`WORKER` or :data:`GATEWAY`. Without a ``name`` it is the container's, the pod's or the machine's,
    after the kind unless that is a part of it.
    """
    if not name:
        hostname = socket.gethostname()
        found = (container.name(hostname) if container.is_id(hostname) else "") or hostname
        name = found if _KINDS[kind] in found else f"{_KINDS[kind]}-{found}"
    return f"{re.sub('[^A-Za-z0-9.-]', '-', name)[:NAME].strip('-.')}-{secrets.token_hex(4)}"


def agent_type(prefix: str, member_id: str) -> str:
    """The agent type of one member; ``prefix`` is :data:`WORKER` or :data:`GATEWAY`."""
    return f"{prefix}.{member_id}"


def member(agent_type: str) -> tuple[str, str] | None:
    """``(kind, member id)`` of an agent type made by :func:`agent_type`; None for any other type."""
    prefix, dot, member_id = agent_type.partition(".")
    if not dot or not member_id or prefix not in _KINDS:
        return None
    return _KINDS[prefix], member_id


def is_member_id(text: str) -> bool:
    """Whether a member may have this id: short enough for a frame and a stamp, and not the host's."""
    return text != HOST and _MEMBER_ID.fullmatch(text) is not None


@functools.lru_cache(1024)  # AutoGen checks each one's spelling, which costs more than to send a batch
def chat(worker_id: str) -> TopicId:
    """Where one worker takes ``ChatHistory``, ``CancelChat`` and ``ChunkAck``."""
    return TopicId(CHAT + worker_id, SOURCE)


@functools.lru_cache(1024)
def chunks(gateway_id: str) -> TopicId:
    """Where one gateway takes ``ChunkBatch``."""
    return TopicId(CHUNKS + gateway_id, SOURCE)
