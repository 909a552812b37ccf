"""Who has which agent type and id, who listens where, and who gets what is published."""

from collections.abc import AsyncIterator

import pytest
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2 as rpc

from host import registry as module
from host import roles
from host.member import Member
from host.registry import Registry
from host.roles import Denied, Taken


class Members:
    """Makes members of one registry."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._made: list[Member] = []

    def new(self, *types: str, key: str = "", may_be: frozenset[str] = roles.ANY) -> Member:
        member = Member(may_be, key, self.registry.routes, lambda: None)
        self._made.append(member)
        for agent_type in types:
            self.registry.register(member, agent_type)
        return member

    def subscribe(self, member: Member, topic: str, agent_type: str, prefix: bool = False) -> str:
        subscription = rpc.Subscription(id=f"{agent_type}:{topic}:{prefix}")
        if prefix:
            subscription.typePrefixSubscription.topic_type_prefix = topic
            subscription.typePrefixSubscription.agent_type = agent_type
        else:
            subscription.typeSubscription.topic_type = topic
            subscription.typeSubscription.agent_type = agent_type
        self.registry.subscribe(member, subscription)
        return subscription.id

    def end(self) -> None:
        for member in self._made:
            member.ended()


@pytest.fixture
async def members() -> AsyncIterator[Members]:
    members = Members()
    yield members
    members.end()


async def test_an_agent_type_and_an_id_belong_to_one_member(members: Members) -> None:
    worker = members.new("my_agent.w", key="secret")
    members.registry.register(worker, "my_agent.w")
    assert (worker.rights, worker.id) == (roles.WORKER, "w")
    for key in ("", "another"):
        with pytest.raises(Taken):
            members.new("my_agent.w", key=key)
    with pytest.raises(Denied, match="one role and one member id"):
        members.registry.register(worker, "my_agent.v")


async def test_a_member_that_is_back_takes_over_what_it_had(members: Members) -> None:
    former = members.new("my_agent.w", key="secret")
    members.subscribe(former, "chat.w", "my_agent.w")
    gateway = members.new("gateway.g")
    assert members.registry.route(gateway, b"chat.w") == [former]
    back = members.new("my_agent.w", key="secret")
    assert former.is_closed
    assert not back.is_closed
    assert (former.rights, former.id, former.types) == (roles.NOTHING, "", set())
    assert members.registry.route(gateway, b"chat.w") == []
    members.subscribe(back, "chat.w", "my_agent.w")
    assert members.registry.route(gateway, b"chat.w") == [back]


async def test_all_that_a_member_had_is_free_once_it_is_withdrawn(members: Members) -> None:
    worker = members.new("my_agent.w")
    members.subscribe(worker, "chat.w", "my_agent.w")
    assert members.registry.withdraw(worker) == (roles.WORKER, "w")
    assert members.registry.withdraw(worker) == (roles.NOTHING, "")
    assert members.new("my_agent.w").id == "w"
    assert members.registry.listeners("chat.w") == []
    assert not members.registry._listeners


@pytest.mark.parametrize(
    ("topic", "agent_type", "prefix", "error", "words"),
    [
        ("workers", "my_agent.w", False, Denied, "does not allow it to listen"),
        ("chat.v", "my_agent.w", False, Denied, "does not allow it to listen"),
        ("chat.", "my_agent.w", True, Denied, "does not allow it to listen"),
        ("chat.w", "my_agent.v", False, Denied, "its own agent types only"),
        ("t" * (module.LONGEST + 1), "my_agent.w", False, ValueError, "characters"),
    ],
)
async def test_a_worker_cannot_listen_to_what_is_not_its_own(
    members: Members, topic: str, agent_type: str, prefix: bool, error: type[Exception], words: str
) -> None:
    worker = members.new("my_agent.w")
    with pytest.raises(error, match=words):
        members.subscribe(worker, topic, agent_type, prefix)
    assert not worker.subscriptions


async def test_the_same_subscription_is_not_made_twice_nor_one_of_no_kind(members: Members) -> None:
    worker = members.new("my_agent.w")
    members.subscribe(worker, "chat.w", "my_agent.w")
    with pytest.raises(ValueError, match="already exists"):
        members.subscribe(worker, "chat.w", "my_agent.w")
    with pytest.raises(ValueError, match="no known kind"):
        members.registry.subscribe(worker, rpc.Subscription(id="x"))


async def test_what_one_member_may_have_is_bounded(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 2)
    member = members.new("one", "two")
    with pytest.raises(Denied, match="register 2 agent types"):
        members.registry.register(member, "three")
    for topic in ("a", "b"):
        members.subscribe(member, topic, "one")
    with pytest.raises(Denied, match="2 subscriptions"):
        members.subscribe(member, "c", "one")


async def test_a_topic_is_heard_until_the_last_subscription_to_it_ends(members: Members) -> None:
    member, sender = members.new("one", "two"), members.new("three")
    first, second = (members.subscribe(member, "talk", agent_type) for agent_type in ("one", "two"))
    for subscription_id, heard in ((first, [member]), (second, [])):
        members.registry.unsubscribe(member, subscription_id)
        assert members.registry.route(sender, b"talk") == heard


async def test_a_prefix_is_heard_and_never_on_the_fleets_topics(members: Members) -> None:
    member, sender, worker = members.new("one"), members.new("two"), members.new("my_agent.w")
    members.subscribe(member, "ta", "one", prefix=True)
    assert members.registry.route(sender, b"talk") == [member]
    assert members.registry.route(sender, b"other") == []
    assert members.registry.route(worker, b"workers") == []


@pytest.mark.parametrize("topic", [b"chat.v", b"members", b"gateways", b"\xff", b""])
async def test_a_worker_cannot_publish_to_what_is_not_for_it(members: Members, topic: bytes) -> None:
    with pytest.raises(Denied):
        members.registry.route(members.new("my_agent.w"), topic)


async def test_only_so_many_topics_are_remembered(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTES", 3)
    member, sender = members.new("one"), members.new("two")
    members.subscribe(member, "t", "one", prefix=True)
    for number in range(10):
        assert members.registry.route(sender, b"t%d" % number) == [member]
    assert len(sender.routes) == 3
    members.new("my_agent.w")
    assert not sender.routes, "what is remembered is forgotten when someone comes, who may listen too"
