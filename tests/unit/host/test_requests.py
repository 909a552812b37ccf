"""Every request is answered, by the agent's member or by the host, and what waits is bounded."""

from collections.abc import AsyncIterator

import pytest
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2 as rpc

from host import backlog, roles
from host import requests as module
from host.member import Member
from host.registry import Registry
from host.requests import Requests

LARGEST = 10_000


class Programs:
    """Members of one host, and what was sent to each."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.requests = Requests(self.registry, LARGEST)
        self.dropped: list[str] = []
        self._made: list[Member] = []

    def new(self, *types: str, may_be: frozenset[str] = roles.ANY) -> Member:
        name = f"program-{len(self._made)}"
        member = Member(may_be, "", self.registry.routes, lambda: self.dropped.append(name), name)
        self._made.append(member)
        for agent_type in types:
            self.registry.register(member, agent_type)
        return member

    def ask(self, member: Member, agent_type: str, request_id: str = "1", data: bytes = b"") -> None:
        target, payload = rpc.AgentId(type=agent_type, key="k"), rpc.Payload(data=data)
        request = rpc.RpcRequest(request_id=request_id, target=target, payload=payload)
        self.requests.requested(member, rpc.Message(request=request))

    def respond(self, member: Member, request_id: str, data: bytes = b"yes") -> None:
        response = rpc.RpcResponse(request_id=request_id, payload=rpc.Payload(data=data))
        self.requests.responded(member, rpc.Message(response=response))

    def end(self) -> None:
        for member in self._made:
            self.requests.left(member)
            member.ended()
        assert not self.requests._asked
        assert not self.requests._owed


@pytest.fixture
async def programs() -> AsyncIterator[Programs]:
    programs = Programs()
    yield programs
    programs.end()


async def received(member: Member) -> rpc.Message:
    return await anext(member)


async def error(member: Member) -> str:
    """What the member's request came to."""
    message = await received(member)
    assert message.response.request_id == "1"
    return message.response.error


async def test_ids_are_the_callers_own_again_when_the_response_comes(programs: Programs) -> None:
    server, one, two = programs.new("echo"), programs.new(), programs.new()
    programs.ask(one, "echo", "1", b"one")
    programs.ask(two, "echo", "1", b"two")
    first, second = (await received(server)).request, (await received(server)).request
    assert first.request_id != second.request_id
    programs.respond(server, second.request_id, second.payload.data)
    programs.respond(server, first.request_id, first.payload.data)
    for member, data in ((one, b"one"), (two, b"two")):
        response = (await received(member)).response
        assert (response.request_id, response.payload.data, response.error) == ("1", data, "")


@pytest.mark.parametrize("agent_type", ["nobody", "my_agent.w", ""])
async def test_a_request_to_no_agent_of_another_program_is_refused(programs: Programs, agent_type: str) -> None:
    programs.new("my_agent.w")
    caller = programs.new()
    programs.ask(caller, agent_type)
    assert "no member has registered the agent type" in await error(caller)


@pytest.mark.parametrize("may_be", [frozenset({"worker"}), frozenset({"gateway"})])
async def test_the_fleets_members_may_not_ask(programs: Programs, may_be: frozenset[str]) -> None:
    server = programs.new("echo")
    (role,) = may_be
    registered = programs.new("my_agent.x" if role == "worker" else "gateway.x", may_be=may_be)
    for caller in (registered, programs.new(may_be=may_be)):
        programs.ask(caller, "echo")
        assert "role" in await error(caller)
    assert server._outgoing.empty()


async def test_what_is_too_large_is_refused_both_ways(programs: Programs) -> None:
    server, caller = programs.new("echo"), programs.new()
    programs.ask(caller, "echo", "1", bytes(LARGEST))
    assert "the request is larger than 10000 bytes" in await error(caller)
    programs.ask(caller, "echo")
    programs.respond(server, (await received(server)).request.request_id, bytes(LARGEST))
    assert "the response is larger than 10000 bytes" in await error(caller)


async def test_an_id_is_not_kept_at_any_length(programs: Programs) -> None:
    programs.new("echo")
    caller = programs.new()
    programs.ask(caller, "echo", "1" * (module.LONGEST_ID + 1))
    assert "characters" in (await received(caller)).response.error


async def test_what_is_unanswered_is_bounded(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKED", 2)
    monkeypatch.setattr(module, "OWED", 3)
    server, one, two = programs.new("echo"), programs.new(), programs.new()
    for _ in range(3):
        programs.ask(one, "echo")
    assert "the sender waits for 2 responses already" in await error(one)
    programs.ask(two, "echo")
    programs.ask(two, "echo")
    assert "the agent's member owes 3 responses already" in await error(two)
    programs.respond(server, (await received(server)).request.request_id)
    assert await error(one) == ""
    programs.ask(two, "echo")
    assert two._outgoing.empty(), "there is room again"


async def test_who_leaves_fails_what_it_owes_and_is_owed_nothing(programs: Programs) -> None:
    server, gone, caller = programs.new("echo"), programs.new(), programs.new()
    for member in (gone, caller):
        programs.ask(member, "echo")
    first = (await received(server)).request.request_id
    programs.requests.left(gone)
    programs.respond(server, first)
    assert gone._outgoing.empty()
    programs.requests.left(server)
    assert "left before it responded" in await error(caller)


async def test_only_the_one_that_was_asked_can_respond_and_once(programs: Programs) -> None:
    server, caller, other = programs.new("echo"), programs.new(), programs.new("other")
    programs.ask(caller, "echo")
    asked = (await received(server)).request.request_id
    programs.respond(other, asked, b"false")
    programs.respond(server, asked, b"true")
    programs.respond(server, asked, b"again")
    assert (await received(caller)).response.payload.data == b"true"
    assert caller._outgoing.empty()


async def test_a_member_that_reads_nothing_delays_no_answer(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "FREE", 1000)
    monkeypatch.setattr(backlog, "SHARE", 1000)
    programs.new("echo")
    caller = programs.new()
    for _ in range(4):
        programs.ask(caller, "echo", "1", bytes(900))
    assert "too much waits for the agent's member to read" in await error(caller)


async def test_a_member_that_reads_no_refusals_is_dropped(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.member.WAITING", 1000)
    caller = programs.new()
    for _ in range(100):
        programs.ask(caller, "nobody")
    assert programs.dropped == ["program-0"]
    assert caller._queued == 0
