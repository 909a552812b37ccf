"""What a member may do: which agent types it registers, and on which topics it publishes and listens.

Pure. A role comes from a member's certificate and its token; where neither names one, from the first agent type that
the member registers.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from fleet.bus import topics
from fleet.bus.link import MESSAGE_BYTES as LARGEST
from fleet.security.tokens import MEMBERS

ANY = frozenset(MEMBERS)
"""The roles of a member of which nothing shows a role."""

MESSAGE_BYTES = LARGEST - 1024
"""Bytes of a frame that is still within the bus's limit when it is stamped, or goes on by gRPC."""

STOCK_BYTES = 4 * 1024 * 1024
"""What AutoGen's own members can receive: gRPC's default."""
STATUS_BYTES = 256 * 1024
BATCH_BYTES = 1024 * 1024
"""What a worker publishes at once stays below this, and no receiver is held up by it."""

_COMMON_NAME = "chatfleet "
"""Before the role, in the certificates that ``fleet.security`` makes."""


class Denied(Exception):
    """A member asks for what its role does not allow; the text is for that member."""


class Taken(Denied):
    """What a member asks for belongs to another member, until that has left."""


@dataclass(frozen=True)
class Rights:
    """Where a member publishes and listens: nowhere, until it has registered an agent type."""

    role: str | None = None

    def may_publish(self, topic: str) -> bool:
        """Whether such a member may publish to ``topic``."""
        return False

    def largest(self, topic: bytes) -> int:
        """Bytes of the largest event that such a member may publish to ``topic``, before it is stamped."""
        return STOCK_BYTES

    def may_listen(self, topic: str, member_id: str) -> bool:
        """Whether the member of that id may subscribe to ``topic``."""
        return False

    def may_listen_to_all(self, prefix: str) -> bool:
        """Whether such a member may subscribe to all topics that begin with ``prefix``."""
        return False


@dataclass(frozen=True)
class FleetRights(Rights):
    """Of a worker or a gateway."""

    to: str = ""
    """Before the ids of those that it publishes to."""
    to_all: str = ""
    """The topic on which it publishes to all."""
    largest_to: int = 0
    largest_to_all: int = 0
    """Bytes of a message there: far more than members send, and little enough that no receiver is held up by one."""
    own: str = ""
    """Before its own id: the topic on which no other member listens."""
    hears: tuple[str, ...] = ()
    """The further topics on which it listens."""

    def may_publish(self, topic: str) -> bool:
        return topic == self.to_all or topic.startswith(self.to)

    def largest(self, topic: bytes) -> int:
        return self.largest_to_all if topic == self.to_all.encode() else self.largest_to

    def may_listen(self, topic: str, member_id: str) -> bool:
        return topic in self.hears or topic == self.own + member_id


class OtherRights(Rights):
    """Of a member that is neither: it has topics of its own."""

    def may_publish(self, topic: str) -> bool:
        return not is_fleets(topic)

    def may_listen(self, topic: str, member_id: str) -> bool:
        return not is_fleets(topic)

    def may_listen_to_all(self, prefix: str) -> bool:
        return not any(name.startswith(prefix) or prefix.startswith(name) for name in _FLEETS)


_FLEETS = (topics.CHAT, topics.CHUNKS, topics.WORKERS.type, topics.MEMBERS.type, topics.GATEWAYS.type)
"""The fleet's topics, and what the topics of single members begin with."""

WORKER = FleetRights(
    "worker",
    to=topics.CHUNKS,
    to_all=topics.WORKERS.type,
    largest_to=BATCH_BYTES,
    largest_to_all=STATUS_BYTES,
    own=topics.CHAT,
    hears=(topics.MEMBERS.type,),
)
GATEWAY = FleetRights(
    "gateway",
    to=topics.CHAT,
    to_all=topics.GATEWAYS.type,
    largest_to=MESSAGE_BYTES,
    largest_to_all=STATUS_BYTES,
    own=topics.CHUNKS,
    hears=(topics.WORKERS.type, topics.MEMBERS.type),
)
OTHER = OtherRights()
NOTHING = Rights()
"""Of a member whose role is known, before it has registered the agent type that belongs to it."""

_BY_ROLE = {"worker": WORKER, "gateway": GATEWAY}


def is_fleets(topic: str) -> bool:
    """Whether ``topic`` is one of the fleet's own."""
    return topic in _FLEETS or topic.startswith((topics.CHAT, topics.CHUNKS))


def rights_for(agent_type: str, roles: Set[str]) -> tuple[Rights, str]:
    """The rights and the member id that registering ``agent_type`` gives to a member with ``roles``.

    Raises :class:`Denied`.
    """
    found = topics.member(agent_type)
    if found is None:
        if not roles >= ANY:
            raise Denied(f"the role of this member is {_listed(roles)}: it cannot register {agent_type[:100]!r}")
        return OTHER, ""
    role, member_id = found
    if role not in roles:
        raise Denied(f"the role of this member is {_listed(roles)}: it cannot join as a {role}")
    if not topics.is_member_id(member_id):
        raise Denied("a member's id must be 1 to 100 letters, digits, dots, dashes and underscores, and not 'host'")
    return _BY_ROLE[role], member_id


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


def _listed(roles: Set[str]) -> str:
    return " or ".join(sorted(roles)) or "host"
