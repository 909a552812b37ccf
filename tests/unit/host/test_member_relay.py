"""The host's end of a relay: nothing is read before a valid ticket, and a member that reads nothing is dropped."""

import asyncio
from typing import Any, cast

import pytest

from fleet.bus import relay
from fleet.bus.relay import HEAD, PING, PONG
from host.member_relay import PINGS, MemberRelay
from tests.unit.fleet.bus.test_relay import LIMIT, TICKET, Wire, frame_of

pytestmark = pytest.mark.both_loops


class Someone:
    """A member, as its relay sees it."""

    name = "m"

    def __init__(self) -> None:
        self.relay: MemberRelay | None = None
        self.heard_at = 0.0
        self.ends = 0

    @property
    def last_heard(self) -> float:
        return max(self.heard_at, self.relay.heard_at) if self.relay is not None else self.heard_at

    def close(self) -> None:
        self.ends += 1


class Host:
    """Admits the member of one ticket, once."""

    def __init__(self) -> None:
        self.member = Someone()
        self.tickets = {TICKET: self.member}
        self.asked: list[str] = []
        self.routed: list[bytes] = []
        self.wire = Wire()
        self.end = MemberRelay(cast("Any", self.admit), cast("Any", self.route))
        self.end.connection_made(self.wire)

    def route(self, sender: Someone, frame: bytes) -> None:
        assert sender is self.member
        self.routed.append(frame)

    def admit(self, ticket: str) -> Someone | None:
        self.asked.append(ticket)
        return self.tickets.pop(ticket, None)


@pytest.fixture
async def host() -> Host:
    return Host()


async def test_a_member_is_let_in_with_its_ticket_and_its_events_go_on(host: Host) -> None:
    sent = frame_of(b"x" * LIMIT)
    host.end.data_received(frame_of(TICKET.encode()) + sent + PING)
    assert host.wire.sent == PONG + PONG
    assert host.routed == [sent]
    assert (host.member.relay, host.member.ends) == (host.end, 0)
    host.end.connection_lost(None)
    assert (host.member.relay, host.member.ends) == (None, 1)
    assert host.member.heard_at > 0


async def test_a_member_that_reads_nothing_is_dropped_before_it_fills_the_hosts_memory(host: Host) -> None:
    host.end.data_received(frame_of(TICKET.encode()))
    host.end.pause_writing()
    assert host.wire.ended == ["aborted"]
    host.end.connection_lost(None)
    assert host.member.ends == 1


async def test_pings_without_end_are_not_answered(host: Host) -> None:
    """65,000 of one read would hold the loop up for 0.3 s, and leave as many pongs to be read."""
    host.end.data_received(frame_of(TICKET.encode()) + PING * 1000)
    assert host.wire.ended == ["aborted"]
    assert host.wire.sent == PONG + PONG * PINGS
    host.end.connection_lost(None)


@pytest.mark.parametrize("first", [b"not-it", b"\xff\xfe", b"t", TICKET.encode() + b"!", b"x" * relay.FIRST_BYTES])
async def test_nothing_is_read_after_a_wrong_ticket(host: Host, first: bytes) -> None:
    host.end.data_received(frame_of(first) + frame_of(TICKET.encode()) + frame_of(b"an event"))
    assert host.wire.ended == ["aborted"]
    assert len(host.asked) == 1
    assert host.member.relay is None
    assert host.wire.sent == b""
    assert not host.routed
    host.end.connection_lost(None)
    assert host.member.ends == 0


@pytest.mark.parametrize("first", [PING * 1000, PONG * 1000, HEAD.pack(relay.FIRST_BYTES + 1)])
async def test_anything_but_a_ticket_ends_the_connection(host: Host, first: bytes) -> None:
    host.end.data_received(first)
    assert host.wire.ended == ["aborted"]
    assert host.wire.sent == b"", "a client that reads none of the pongs would make the host keep them"
    assert not host.asked
    host.end.connection_lost(None)


async def test_a_ticket_may_come_byte_by_byte(host: Host) -> None:
    for byte in frame_of(TICKET.encode()):
        assert not host.wire.sent
        host.end.data_received(bytes((byte,)))
        await asyncio.sleep(0)
    assert host.wire.sent == PONG
    host.end.connection_lost(None)
