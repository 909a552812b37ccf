"""What a member may do: which agent types it registers, and on which topics it publishes and listens.

Pure. A role comes from a member's certificate and its token. Where neither names one, it comes from the first agent
type that the member registers.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from fleet.bus import topics
from fleet.bus.link import MESSAGE_BYTES as LARGEST
from fleet.security.tokens import MEMBERS, OTHERS, ROLES

ANY = frozenset(ROLES)
"""The roles of a member whose certificate and token name none."""

MESSAGE_BYTES = LARGEST - 1024
"""Bytes of a frame that is still within the bus's limit when it is stamped, or goes on by gRPC."""

STOCK_BYTES = 4 * 1024 * 1024
"""The largest message that AutoGen's own members can receive: gRPC's default."""
STATUS_BYTES = 256 * 1024
BATCH_BYTES = 1024 * 1024
"""Far more than workers publish at once, and little enough that no receiver is held up by it."""

_COMMON_NAME = "chatfleet "
"""Before the role, in the certificates that ``fleet.security`` makes."""

_FLEETS = (topics.CHAT, topics.CHUNKS, topics.WORKERS.type, topics.MEMBERS.type, topics.GATEWAYS.type)
"""The fleet's topics, and what the topics of single members begin with."""


class Denied(Exception):
    """A member asks for what its role does not allow; the text is for that member."""


class Taken(Denied):
    """What a member asks for belongs to another member, until that has left."""


@dataclass(frozen=True)
class Rights:
    """Where a member publishes and listens: nowhere, until it has registered an agent type."""

    role: str | None = None

    def may_publish(self, topic: str) -> bool:
        return False

    def largest(self, topic: bytes) -> int:
        """Bytes of the largest event that such a member may publish to ``topic``, before it is stamped."""
        return STOCK_BYTES - 1024

    def may_listen(self, topic: str, member_id: str) -> bool:
        return False

    def may_listen_to_all(self, prefix: str) -> bool:
        return False


@dataclass(frozen=True)
class FleetRights(Rights):
    """Of a worker or a gateway."""

    to: str = ""
    """What the topics of single members begin with to which it publishes."""
    largest_to: int = 0
    to_all: str = ""
    """The topic on which it publishes its status."""
    own: str = ""
    """What the topic begins with on which it alone listens; its id follows."""
    hears: tuple[str, ...] = ()

    def may_publish(self, topic: str) -> bool:
        return topic == self.to_all or topic.startswith(self.to)

    def largest(self, topic: bytes) -> int:
        return STATUS_BYTES if topic == self.to_all.encode() else self.largest_to

    def may_listen(self, topic: str, member_id: str) -> bool:
        return topic in self.hears or topic == self.own + member_id


class OtherRights(Rights):
    """Of a member that is neither: it has topics of its own."""

    def may_publish(self, topic: str) -> bool:
        return not is_fleets(topic)

    def may_listen(self, topic: str, member_id: str) -> bool:
        return not is_fleets(topic)

    def may_listen_to_all(self, prefix: str) -> bool:
        return not is_fleets(prefix) and not any(name.startswith(prefix) for name in _FLEETS)


WORKER = FleetRights("worker", topics.CHUNKS, BATCH_BYTES, topics.WORKERS.type, topics.CHAT, (topics.MEMBERS.type,))
GATEWAY = FleetRights(
    "gateway",
    topics.CHAT,
    MESSAGE_BYTES,
    topics.GATEWAYS.type,
    topics.CHUNKS,
    (topics.WORKERS.type, topics.GATEWAYS.type, topics.MEMBERS.type),
)
OTHER = OtherRights()
NOTHING = Rights()
"""Of a member whose role is known, before it has registered the agent type that belongs to it."""


def is_fleets(topic: str) -> bool:
    return topic in _FLEETS or topic.startswith((topics.CHAT, topics.CHUNKS))


def rights_for(agent_type: str, roles: Set[str]) -> tuple[Rights, str]:
    """The rights and the member id that registering ``agent_type`` gives to a member with ``roles``.

    Raises :class:`Denied`.
    """
    found = topics.member(agent_type)
    has = f"the role of this member is {' or '.join(sorted(roles)) or 'host'}: it cannot"
    if found is None:
        if OTHERS not in roles:
            raise Denied(f"{has} register {agent_type[:100]!r}")
        return OTHER, ""
    role, member_id = found
    if role not in roles:
        raise Denied(f"{has} join as a {role}")
    if not topics.is_member_id(member_id):
        raise Denied("a member's id must be 1 to 100 letters, digits, dots, dashes and underscores, and not 'host'")
    return (WORKER if role == "worker" else GATEWAY), member_id


def shown(metadata: Iterable[tuple[str, Any]] | None) -> str:
    """The token of a call, as an ``authorization`` header.

    AutoGen's own runtime sends no headers, but gRPC lets it add to its ``user-agent``: ``grpc.secondary_user_agent``.
    """
    fields = dict(metadata or ())
    agent = str(fields.get("user-agent", ""))
    return fields.get("authorization") or agent[agent.rfind(" Bearer ") + 1 :]


def certified(names: Mapping[str, Iterable[bytes]]) -> frozenset[str] | None:
    """The roles that a certificate gives, from gRPC's ``auth_context``; None for one that names no role.

    The fleet's own authority writes the role into the common name. Another authority's certificate has a role when
    exactly one of its names is one.
    """
    common = {name.decode("utf-8", "replace") for name in names.get("x509_common_name", ())}
    further = {name.decode("utf-8", "replace") for name in names.get("x509_subject_alternative_name", ())}
    known = {"host", *MEMBERS}
    found = {name.removeprefix(_COMMON_NAME) for name in common if name.startswith(_COMMON_NAME)} & known
    found = found or (common | further) & known
    return frozenset(found) & ANY if len(found) == 1 else None
