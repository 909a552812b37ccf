"""Which agent types, and which topics, go with which role."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import roles
from host.roles import ANY, GATEWAY, NOTHING, OTHER, WORKER, Denied, certified, rights_for

ID = "vm-1"
FLEETS = ["workers", "members", "gateways", "chat.vm-1", "chat.vm-2", "chunks.vm-1", "chunks.vm-2", "chat.", "chunks."]


@pytest.mark.parametrize(
    ("rights", "publishes", "listens"),
    [
        (WORKER, {"workers", "chunks.vm-1", "chunks.vm-2", "chunks."}, {"chat.vm-1", "members"}),
        (GATEWAY, {"gateways", "chat.vm-1", "chat.vm-2", "chat."}, {"chunks.vm-1", "workers", "gateways", "members"}),
        (OTHER, set(), set()),
        (NOTHING, set(), set()),
    ],
)
def test_each_role_has_its_part_of_the_fleets_topics(
    rights: roles.Rights, publishes: set[str], listens: set[str]
) -> None:
    assert {topic for topic in FLEETS if rights.may_publish(topic)} == publishes
    assert {topic for topic in FLEETS if rights.may_listen(topic, ID)} == listens


@pytest.mark.parametrize("topic", ["evil", "workersx", "chat", "chunksx", "xchat.vm-1"])
def test_other_topics_are_for_other_members(topic: str) -> None:
    assert OTHER.may_publish(topic)
    assert OTHER.may_listen(topic, "")
    for rights in (WORKER, GATEWAY, NOTHING):
        assert not rights.may_publish(topic)
        assert not rights.may_listen(topic, ID)


@given(st.text("acghkmnstuwxy.-", max_size=12), st.sampled_from(FLEETS))
def test_no_prefix_matches_a_topic_of_the_fleet(prefix: str, topic: str) -> None:
    for rights in (WORKER, GATEWAY, NOTHING):
        assert not rights.may_listen_to_all(prefix)
    if OTHER.may_listen_to_all(prefix):
        assert not topic.startswith(prefix)


@pytest.mark.parametrize("prefix", ["", "c", "chat", "chat.vm-1", "chat.vm-1:", "work", "workers", "m"])
def test_prefixes_that_would(prefix: str) -> None:
    assert not OTHER.may_listen_to_all(prefix)


@pytest.mark.parametrize("prefix", ["stock:", "chatter", "my_"])
def test_prefixes_of_ones_own(prefix: str) -> None:
    assert OTHER.may_listen_to_all(prefix)


def test_a_member_registers_what_its_roles_allow() -> None:
    assert rights_for("my_agent.vm-1", ANY) == (WORKER, "vm-1")
    assert rights_for("my_agent.vm-1", {"worker"}) == (WORKER, "vm-1")
    assert rights_for("gateway.vm-1", {"gateway"}) == (GATEWAY, "vm-1")
    assert rights_for("anything.else", ANY) == (OTHER, "")


@pytest.mark.parametrize(
    ("agent_type", "allowed", "words"),
    [
        ("gateway.vm-1", {"worker"}, "is worker: it cannot join as a gateway"),
        ("my_agent.vm-1", {"gateway"}, "is gateway: it cannot join as a worker"),
        ("evil.vm-1", {"worker"}, "is worker: it cannot register 'evil.vm-1'"),
        ("my_agent.vm-1", set(), "is host: it cannot join"),
        ("my_agent.host", ANY, "a member's id must be"),
        ("my_agent." + "x" * 101, ANY, "a member's id must be"),
        ("my_agent.a\nb", ANY, "a member's id must be"),
    ],
)
def test_and_nothing_else(agent_type: str, allowed: set[str], words: str) -> None:
    with pytest.raises(Denied, match=words):
        rights_for(agent_type, allowed)


@pytest.mark.parametrize(
    ("common", "further", "found"),
    [
        ("chatfleet worker", ["worker"], {"worker"}),
        ("chatfleet gateway", ["gateway"], {"gateway"}),
        ("chatfleet host", ["host", "localhost", "worker"], set()),
        ("chatfleet worker", ["gateway"], {"worker"}),
        ("node-7", ["worker", "node-7.example.com"], {"worker"}),
        ("gateway", [], {"gateway"}),
        ("node-7", ["worker", "gateway"], None),
        ("node-7", ["host", "worker"], None),
        ("node-7", ["worker.example.com"], None),
        ("chatfleet king", [], None),
        ("", [], None),
    ],
)
def test_a_certificates_names_give_its_role(common: str, further: list[str], found: set[str] | None) -> None:
    names = {
        "x509_common_name": [common.encode()],
        "x509_subject_alternative_name": [name.encode() for name in further],
    }
    assert certified(names) == found


def test_a_connection_without_tls_has_no_certified_role() -> None:
    assert certified({}) is None
    assert certified({"x509_common_name": [b"\xff\xfe"]}) is None
