"""Ids that a person recognises, that the host lets in, and that are new at every start."""

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.bus import topics
from fleet.process import container


@pytest.fixture
def hostname(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: request.param)
    monkeypatch.setattr(container, "name", lambda _: "chatfleet-worker-1" if request.param.startswith("3") else "")


@pytest.mark.parametrize(
    ("hostname", "kind", "begins"),
    [
        ("vm", topics.WORKER, "worker-vm"),
        ("vm", topics.GATEWAY, "gateway-vm"),
        ("chatfleet-worker-6d4f7c9b5-x2x7q", topics.WORKER, "chatfleet-worker-6d4f7c9b5-x2x7q"),
        ("3f2a91c0de45", topics.WORKER, "chatfleet-worker-1"),
        ("9f2a91c0de45", topics.WORKER, "worker-9f2a91c0de45"),
        ("", topics.WORKER, "worker"),
    ],
    indirect=["hostname"],
)
@pytest.mark.usefixtures("hostname")
def test_a_members_name_is_where_it_runs(kind: str, begins: str) -> None:
    assert re.fullmatch(re.escape(begins) + "-[0-9a-f]{8}", topics.new_member_id(kind))


def test_a_given_name_is_used_as_it_is() -> None:
    assert re.fullmatch("gpu-3.west-[0-9a-f]{8}", topics.new_member_id(topics.WORKER, "gpu-3.west"))


@given(st.text(), st.sampled_from([topics.WORKER, topics.GATEWAY]))
def test_every_id_is_one_that_the_host_lets_in(name: str, kind: str) -> None:
    member_id = topics.new_member_id(kind, name)
    assert topics.is_member_id(member_id)
    assert member_id != topics.new_member_id(kind, name)
    assert topics.member(topics.agent_type(kind, member_id)) == (topics._KINDS[kind], member_id)
