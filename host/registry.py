"""Who the members are, who listens on which topic, and who gets what is published there."""

from autogen_core import TopicId
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2

from fleet import logs
from fleet.bus import topics
from fleet.security.tokens import OTHERS
from host import roles
from host.member import Member, Routes, Subscription
from host.roles import Denied, Rights, Taken

log = logs.logger(__name__)

ENTRIES = 100
"""Agent types, and subscriptions, that one member may have. The fleet's own have one and three."""

LONGEST = 1000
"""Characters of an agent type, a topic, and a subscription's id."""

ROUTES = 10_000
"""Topics whose listeners are remembered, because a member that listens to a prefix could make others of any number."""


class Registry:
    """Members by agent type, id and topic."""

    def __init__(self) -> None:
        self._owners: dict[str, Member] = {}
        """By agent type."""
        self._ids: dict[str, Member] = {}
        self._listeners: dict[str, dict[Member, None]] = {}
        """By topic."""
        self._prefixes: dict[str, dict[Member, None]] = {}
        """By what the topics begin with."""
        self.routes: Routes = {rights: {} for rights in (roles.WORKER, roles.GATEWAY, roles.OTHER, roles.NOTHING)}

    # ------------------------------------------------------------ members

    def register(self, member: Member, agent_type: str) -> None:
        """Make an agent type the member's own. Raises :class:`Denied`, and ``ValueError`` for one that is registered.

        A member of the fleet that is back on a new link takes over what its former link had.
        """
        owner = self._owners.get(agent_type)
        rights, member_id = roles.rights_for(agent_type, member.may_be)
        if owner is not None and not member_id:  # in AutoGen's words, without the other's client id: a secret here
            whom = "this client" if owner is member else "another client"
            raise ValueError(f"Agent type {agent_type} already registered with {whom}.")
        if owner is member:
            return
        if member.types and (rights is not member.rights or member_id):
            raise Denied("a connection has one role and one member id, and this one has another")
        if len(agent_type) > LONGEST:
            raise Denied(f"an agent type may have {LONGEST} characters")
        if len(member.types) >= ENTRIES:
            raise Denied(f"a member may register {ENTRIES} agent types")
        former = self._ids.get(member_id)
        if former is not None:
            if not member.is_same(former):
                raise Taken("another member has this id and is still connected")
            self.withdraw(former)  # before it closes, so that no one is told that the member left
            former.close()
        member.types.add(agent_type)
        self._owners[agent_type] = member
        if member_id:
            self._ids[member_id] = member
        member.become(rights, member_id)
        self._forget_routes()
        if rights.role is not None:
            log.info("member joined", kind=rights.role, member=member_id)
        else:
            member.was_seen = True
            log.info("member joined", kind=OTHERS, member=member.name, agent_type=agent_type)

    def owner(self, agent_type: str) -> Member | None:
        return self._owners.get(agent_type)

    def withdraw(self, member: Member) -> tuple[Rights, str]:
        """Remove all that a member has; returns the rights and the id that it had."""
        was = member.rights, member.id
        for subscription_id in list(member.subscriptions):
            self.unsubscribe(member, subscription_id)
        for agent_type in member.types:
            del self._owners[agent_type]
        member.types.clear()
        if member.id:
            del self._ids[member.id]
        member.become(roles.NOTHING, "")
        return was

    # ------------------------------------------------------------ subscriptions

    def subscribe(self, member: Member, request: agent_worker_pb2.Subscription) -> None:
        """Let a member listen. Raises :class:`Denied`, and ``ValueError`` for a subscription that is not valid."""
        wanted = Subscription.parse(request)
        if len(wanted.topic) > LONGEST or len(request.id) > LONGEST:
            raise ValueError(f"a topic, and a subscription's id, may have {LONGEST} characters")
        if wanted.agent_type not in member.types:
            raise Denied("a member can subscribe for its own agent types only")
        rights, topic = member.rights, wanted.topic
        if not (rights.may_listen_to_all(topic) if wanted.is_prefix else rights.may_listen(topic, member.id)):
            raise Denied(f"the role of this member does not allow it to listen to {wanted.topic[:100]!r}")
        if len(member.subscriptions) >= ENTRIES:
            raise Denied(f"a member may have {ENTRIES} subscriptions")
        if request.id in member.subscriptions or wanted in member.subscriptions.values():
            raise ValueError("Subscription already exists")  # AutoGen's words
        member.subscriptions[request.id] = wanted
        self._table(wanted).setdefault(wanted.topic, {})[member] = None
        self._forget_routes()

    def unsubscribe(self, member: Member, subscription_id: str) -> None:
        """Remove a subscription. Raises ``KeyError``."""
        gone = member.subscriptions.pop(subscription_id)
        if not any(kept[:2] == gone[:2] for kept in member.subscriptions.values()):
            table = self._table(gone)
            del table[gone.topic][member]
            if not table[gone.topic]:
                del table[gone.topic]
        self._forget_routes()

    def _table(self, subscription: Subscription) -> dict[str, dict[Member, None]]:
        return self._prefixes if subscription.is_prefix else self._listeners

    # ------------------------------------------------------------ routes

    def route(self, sender: Member, topic: bytes) -> list[Member]:
        """The members that get what ``sender`` publishes to a topic; they are remembered in ``sender.routes``.

        Raises :class:`Denied` when the sender may not publish there.
        """
        try:
            name = TopicId(type=topic.decode(), source=topics.SOURCE).type
        except ValueError:
            raise Denied("its topic is not valid") from None
        if not sender.rights.may_publish(name):
            raise Denied("the role of the sender does not allow it to publish there")
        found = self.listeners(name)
        if found and len(sender.routes) < ROUTES:
            sender.routes[topic] = found
        return found

    def _forget_routes(self) -> None:
        for routes in self.routes.values():
            routes.clear()

    def listeners(self, topic: str) -> list[Member]:
        found = dict(self._listeners.get(topic, ()))
        if not roles.is_fleets(topic):
            for prefix, members in self._prefixes.items():
                if topic.startswith(prefix):
                    found.update(members)
        return list(found)
