"""Frames of the relay: how events become bytes, how bytes are cut into frames, and how silence is noticed."""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from fleet.bus import relay
from fleet.bus.events import TYPE_URL, event, event_of, fits_a_frame, packed
from fleet.bus.relay import GO, HEAD, MAGIC, PING, PONG, Frames, Relay, RelayRefused
from fleet.bus.topics import MEMBERS, SOURCE
from fleet.security.identity import Identity, ServerContext
from host.door import LOOPBACK, _Guest, _Inner
from host.member_relay import MemberEnd
from host.pending import Allowance, Pending
from identities.authority import Authority
from protos import chat_pb2 as pb
from tests.harness.waiting import eventually

pytestmark = pytest.mark.both_loops

LIMIT = 1000
SILENCE = 0.1
"""Seconds until a ping, and from the ping to the end, where silence is what is tested."""

NAMES = st.from_regex(r"[\w.:=-]{1,100}", fullmatch=True).filter(lambda name: len(name.encode()) < 256)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=255)


def frame_of(content: bytes) -> bytes:
    return HEAD.pack(len(content)) + content


# ---------------------------------------------------------------- events as frames


@given(topic=NAMES, name=NAMES | ASCII, payload=st.binary(max_size=300))
def test_an_event_comes_out_of_its_frame_as_it_went_in(topic: str, name: str, payload: bytes) -> None:
    frame = relay.pack_bytes(topic, name, payload)
    assert HEAD.unpack_from(frame)[0] == len(frame) - HEAD.size
    assert relay.unpack(frame) == (topic, name, payload)
    assert frame not in (PING, PONG)


def test_an_empty_message_has_a_frame() -> None:
    frame = relay.pack("t", pb.MemberLeft())
    assert relay.unpack(frame) == ("t", pb.MemberLeft.DESCRIPTOR.full_name, b"")


@given(st.binary(min_size=1, max_size=40))
def test_what_is_no_event_raises_a_value_error_and_nothing_else(content: bytes) -> None:
    frame = frame_of(content)
    try:
        topic, name, payload = relay.unpack(frame)
    except ValueError:
        return
    assert relay.pack_bytes(topic, name, payload) == frame


@pytest.mark.parametrize(
    "content", [b"\x05", b"\x05abcde", b"\x01t", b"\x01t\x05mess", b"\x01\xff\x01m", b"\x01t\x01\xff"]
)
def test_a_malformed_frame_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends within|can't decode|invalid"):
        relay.unpack(frame_of(content))


STAMPED = (pb.ChatHistory, pb.CancelChat, pb.ChunkAck, pb.ChunkBatch, pb.WorkerStatus, pb.MemberLeft)


@given(
    kind=st.sampled_from(STAMPED),
    payload=st.binary(max_size=60)
    | st.builds(relay.stamp, NAMES)
    | st.builds(lambda n: b"\x7a" + bytes((n,)), st.integers(0, 255)),
    member=st.from_regex(r"[A-Za-z0-9_.-]{1,100}", fullmatch=True),
)
def test_whatever_a_member_sends_the_first_sender_is_the_hosts_word(kind: Any, payload: bytes, member: str) -> None:
    frame = relay.pack_bytes("t", kind.DESCRIPTOR.full_name, payload)
    stamped = relay.stamped(frame, len(frame) - len(payload), relay.stamp(member))
    topic, name, content = relay.unpack(stamped)
    assert HEAD.unpack_from(stamped)[0] == len(stamped) - HEAD.size
    assert (topic, name) == ("t", kind.DESCRIPTOR.full_name)
    try:
        message = kind.FromString(content)
    except DecodeError:
        return
    assert message.sent_by[0] == member
    alone = kind.FromString(payload)
    assert list(message.sent_by[1:]) == list(alone.sent_by)


def test_a_frame_that_ends_before_its_message_gets_no_stamp() -> None:
    with pytest.raises(IndexError):
        relay.stamped(frame_of(b"\x01t\x09name"), 20, relay.stamp("m"))


def test_an_event_is_the_same_after_its_way_by_relay() -> None:
    before = event(pb.MemberLeft(member_id="m", kind="worker"), MEMBERS, "1")
    after = event_of(packed(before))
    before.id = after.id
    assert after == before


def test_only_events_such_as_ours_fit_a_frame() -> None:
    ours = event(pb.MemberLeft(), MEMBERS, "1")
    assert fits_a_frame(ours)
    for change in (
        {"source": "elsewhere"},
        {"type": "t" * 256},
        {"binary_data": b"{}"},
        {"proto_data": {"type_url": TYPE_URL + "m" * 256}},
    ):
        other = type(ours)()
        other.CopyFrom(ours)
        other.MergeFrom(type(ours)(**change))
        assert not fits_a_frame(other), change
    assert ours.source == SOURCE


# ---------------------------------------------------------------- bytes as frames


class Noted(Frames):
    """Notes what it is given."""

    def __init__(self, limit: int = LIMIT, ping_after: float = 60.0, give_up_after: float = 60.0) -> None:
        super().__init__(limit, ping_after, give_up_after)
        self.frames: list[bytes] = []
        self.pongs = 0

    def frame_received(self, frame: bytes) -> None:
        self.frames.append(frame)

    def pong_received(self) -> None:
        self.pongs += 1


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.ended: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "uvloop raises for this"
        self.sent += data

    def is_closing(self) -> bool:
        return bool(self.ended)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def close(self) -> None:
        self.ended.append("closed")

    def abort(self) -> None:
        self.ended.append("aborted")


def on_wire() -> tuple[Noted, Wire]:
    """A protocol that is connected to nothing."""
    frames, wire = Noted(), Wire()
    frames.connection_made(wire)
    return frames, wire


CONTENTS = st.lists(st.binary(min_size=2, max_size=LIMIT) | st.sampled_from([b"", b"\0", b"x" * LIMIT]), max_size=8)


@given(contents=CONTENTS, cuts=st.lists(st.integers(0, 4000), max_size=12))
async def test_frames_arrive_whole_and_in_order_wherever_they_were_cut(contents: list[bytes], cuts: list[int]) -> None:
    frames, wire = on_wire()
    stream = b"".join(map(frame_of, contents))
    for begin, end in itertools.pairwise(sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})):
        frames.data_received(stream[begin:end])
    assert frames.frames == [frame_of(content) for content in contents if content not in (b"", b"\0")]
    assert frames.pongs == contents.count(b"\0")
    assert wire.sent == PONG * contents.count(b"")
    assert not wire.ended


@given(st.binary(min_size=2, max_size=20))
async def test_frames_arrive_byte_by_byte(content: bytes) -> None:
    frames, _ = on_wire()
    for byte in frame_of(content) * 2:
        frames.data_received(bytes((byte,)))
    assert frames.frames == [frame_of(content)] * 2


@given(excess=st.integers(1, 2**32 - 1 - LIMIT), cut=st.integers(1, 8), held=st.integers(0, 3))
async def test_a_frame_above_the_limit_ends_the_connection_at_its_head(excess: int, cut: int, held: int) -> None:
    frames, wire = on_wire()
    sound = frame_of(b"before")
    stream = sound * held + HEAD.pack(LIMIT + excess) + b"more"
    frames.data_received(stream[:-cut])
    frames.data_received(stream[-cut:])
    assert wire.ended == ["aborted"]
    assert frames.frames == [sound] * held


async def test_nothing_is_read_after_the_end() -> None:
    frames, wire = on_wire()
    frames.pong_received = wire.abort  # type: ignore[method-assign]
    frames.data_received(PONG + PING + frame_of(b"too late"))
    assert wire.sent == b""
    assert not frames.frames


async def test_what_is_sent_after_the_end_is_dropped() -> None:
    frames, wire = on_wire()
    frames.send(b"before")
    frames.close()
    frames.send(b"after")
    assert wire.sent == b"before"


# ---------------------------------------------------------------- silence


async def nobody(guest: _Guest) -> _Inner:
    raise OSError


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Makes two ends of one connection."""
    monkeypatch.setattr(relay, "LOOK_EVERY", SILENCE / 5)
    loop = asyncio.get_running_loop()
    ends: list[Any] = []
    servers: list[asyncio.Server] = []

    async def connect(here: Callable[[], Any], there: Callable[[], Any]) -> tuple[Any, Any]:
        made: list[Any] = []

        def accept() -> Any:
            made.append(there())
            if not isinstance(made[0], MemberEnd):
                return made[0]
            allowance = Allowance(100_000, 100_000, 0)
            return _Guest(lambda settled: made[0], nobody, 60, Pending(8), allowance, lambda address, reason: None)

        server = await loop.create_server(accept, LOOPBACK, 0)
        servers.append(server)
        _, near = await loop.create_connection(here, *server.sockets[0].getsockname())
        await eventually(lambda: made, what="the other end")
        if isinstance(made[0], MemberEnd) and isinstance(near, Mute):
            near.transport.write(MAGIC)
        ends.extend((near, made[0]))
        return near, made[0]

    yield connect
    for end in ends:
        if hasattr(end, "transport") and not end.transport.is_closing():
            end.transport.abort()
    await asyncio.sleep(0.01)  # the transports end
    for server in servers:
        server.close()


class Mute(asyncio.Protocol):
    """Takes everything and answers nothing."""

    def __init__(self) -> None:
        self.taken = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.taken += data


def impatient() -> Noted:
    return Noted(LIMIT, SILENCE, SILENCE)


async def test_a_ping_is_answered(pair: Callable[..., Any]) -> None:
    near, far = await pair(Noted, Noted)
    near.send(PING)
    await eventually(lambda: near.pongs == 1, what="the pong")
    assert not far.frames


async def test_a_silent_peer_is_pinged_and_then_dropped(pair: Callable[..., Any]) -> None:
    near, far = await pair(impatient, Mute)
    near.watch()
    begun = asyncio.get_running_loop().time()
    await asyncio.wait_for(near.closed, 5)
    assert asyncio.get_running_loop().time() - begun > 2 * SILENCE
    assert far.taken
    assert far.taken.replace(PING, b"") == b""


async def test_a_peer_that_answers_is_kept(pair: Callable[..., Any]) -> None:
    near, _ = await pair(impatient, Noted)
    near.watch()
    await eventually(lambda: near.pongs > 10, what="ten rounds of pings")
    assert not near.closed.done()


async def test_nobody_is_pinged_before_the_watch_begins(pair: Callable[..., Any]) -> None:
    near, far = await pair(impatient, Mute)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(near.closed), 4 * SILENCE)
    assert far.taken == b""


async def test_a_process_that_stood_still_does_not_drop_its_peer(pair: Callable[..., Any]) -> None:
    near, _ = await pair(impatient, Noted)
    near.watch()
    await eventually(lambda: near.pongs, what="a pong")
    heard = near.pongs
    time.sleep(4 * SILENCE)  # noqa: ASYNC251 (it stands still)
    await eventually(lambda: near.pongs > heard + 1, what="further pongs")
    assert not near.closed.done()


async def test_the_watch_ends_with_the_connection() -> None:
    frames, wire = impatient(), Wire()
    frames.connection_made(wire)
    frames.connection_lost(None)
    frames.watch()
    assert frames._watch is None


# ---------------------------------------------------------------- the member's end


class Host(Mute):
    """Says what it is told to, when it has got so many bytes."""

    def __init__(self, *says: tuple[int, bytes]) -> None:
        super().__init__()
        self._says = list(says)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        while self._says and len(self.taken) >= self._says[0][0]:
            self.transport.write(self._says.pop(0)[1])


TICKET = "a-ticket"
SHOWN = MAGIC + frame_of(TICKET.encode())


@pytest.fixture
async def heard() -> list[bytes]:
    return []


@pytest.fixture
async def enter(pair: Callable[..., Any], heard: list[bytes]) -> Callable[..., Any]:
    """Enters a host that says this; gives the member's end and the host."""

    async def connect(*says: tuple[int, bytes]) -> tuple[Relay, Host]:
        near, far = await pair(lambda: Relay(heard.append, LIMIT, 60, 60), lambda: Host(*says))
        await asyncio.wait_for(near.enter((LOOPBACK, 1), None, TICKET), 5)
        return near, far

    return connect


async def test_a_member_is_in_once_its_ticket_was_answered(enter: Callable[..., Any], heard: list[bytes]) -> None:
    first = relay.pack("t", pb.MemberLeft(member_id="m"))
    near, far = await enter((len(MAGIC), GO), (len(SHOWN), PONG + first))
    assert far.taken == SHOWN
    assert heard == [first]
    near.send(first)
    await eventually(lambda: far.taken == SHOWN + first, what="the event")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", GO + PONG])
async def test_a_host_of_another_kind_is_left(enter: Callable[..., Any], answer: bytes) -> None:
    with pytest.raises(RelayRefused, match="no relay"):
        await enter((1, answer))


async def test_a_host_that_hangs_up_refuses(pair: Callable[..., Any], heard: list[bytes]) -> None:
    near, far = await pair(lambda: Relay(heard.append, LIMIT, 60, 60), Host)
    entering = asyncio.create_task(near.enter((LOOPBACK, 1), None, TICKET))
    await eventually(lambda: far.taken == MAGIC, what="the member's first words")
    far.transport.abort()
    with pytest.raises(RelayRefused, match="no relay"):
        await entering


async def test_a_host_that_is_gone_already_refuses(pair: Callable[..., Any], heard: list[bytes]) -> None:
    near, far = await pair(lambda: Relay(heard.append, LIMIT, 60, 60), Host)
    far.transport.abort()
    await asyncio.wait_for(asyncio.shield(near.closed), 5)
    with pytest.raises(RelayRefused, match="no relay"):
        await near.enter((LOOPBACK, 1), None, TICKET)
    near.send(PING)


async def test_a_ticket_that_is_not_taken_refuses(enter: Callable[..., Any], pair: Callable[..., Any]) -> None:
    near, far = await pair(lambda: Relay(lambda frame: None, LIMIT, 60, 60), lambda: Host((len(MAGIC), GO)))
    entering = asyncio.create_task(near.enter((LOOPBACK, 1), None, TICKET))
    await eventually(lambda: far.taken == SHOWN, what="the ticket")
    far.transport.abort()
    with pytest.raises(RelayRefused, match="ticket"):
        await entering


# ---------------------------------------------------------------- the host's end


class Someone:
    """A member, as the host's end sees it."""

    def __init__(self) -> None:
        self.relay: MemberEnd | None = None
        self.heard_at = 0.0
        self.ends = 0

    @property
    def last_heard(self) -> float:
        return max(self.heard_at, self.relay.heard_at) if self.relay is not None else self.heard_at

    def close(self) -> None:
        self.ends += 1


class Desk:
    """Admits the member of one ticket, once."""

    def __init__(self) -> None:
        self.member = Someone()
        self.tickets = {TICKET: self.member}
        self.asked: list[str] = []
        self.routed: list[bytes] = []

    def route(self, sender: Someone, frame: bytes) -> None:
        assert sender is self.member
        self.routed.append(frame)

    def admit(self, ticket: str) -> Someone | None:
        self.asked.append(ticket)
        return self.tickets.pop(ticket, None)


async def at_desk() -> tuple[Desk, MemberEnd, Wire]:
    desk, wire = Desk(), Wire()
    end = MemberEnd(None, desk.admit, desk.route, 60)
    end.connection_made(wire)
    assert wire.sent == GO
    wire.sent = b""
    return desk, end, wire


async def test_a_member_is_let_in_with_its_ticket_and_its_events_go_on() -> None:
    desk, end, wire = await at_desk()
    sent = frame_of(b"x" * LIMIT)
    end.data_received(frame_of(TICKET.encode()) + sent + PING)
    assert wire.sent == PONG + PONG
    assert desk.routed == [sent]
    assert (desk.member.relay, desk.member.ends) == (end, 0)
    end.connection_lost(None)
    assert (desk.member.relay, desk.member.ends) == (None, 1)
    assert desk.member.heard_at > 0


async def test_a_member_that_reads_nothing_is_dropped_before_it_fills_the_hosts_memory() -> None:
    desk, end, wire = await at_desk()
    end.data_received(frame_of(TICKET.encode()))
    end.pause_writing()
    assert wire.ended == ["aborted"]
    end.connection_lost(None)
    assert desk.member.ends == 1


@pytest.mark.parametrize("first", [b"not-it", b"\xff\xfe", b"t", TICKET.encode() + b"!", b"x" * relay.FIRST_BYTES])
async def test_nothing_is_read_after_a_wrong_ticket(first: bytes) -> None:
    desk, end, wire = await at_desk()
    end.data_received(frame_of(first) + frame_of(TICKET.encode()) + frame_of(b"an event"))
    assert wire.ended == ["aborted"]
    assert len(desk.asked) == 1
    assert desk.member.relay is None
    assert wire.sent == b""
    assert not desk.routed
    end.connection_lost(None)
    assert desk.member.ends == 0


async def test_a_first_frame_that_is_no_ticket_by_its_size_ends_the_connection() -> None:
    desk, end, wire = await at_desk()
    end.data_received(HEAD.pack(relay.FIRST_BYTES + 1))
    assert wire.ended == ["aborted"]
    assert not desk.asked
    end.connection_lost(None)


async def test_a_stranger_gets_no_pongs() -> None:
    """Who reads none of them would make the host keep them."""
    _, end, wire = await at_desk()
    end.data_received(PING * 1000)
    assert wire.ended == ["aborted"]
    assert wire.sent == b""
    end.connection_lost(None)


async def test_a_stranger_who_says_nothing_is_dropped(pair: Callable[..., Any]) -> None:
    desk = Desk()
    near, far = await pair(Mute, lambda: MemberEnd(None, desk.admit, desk.route, SILENCE))
    await eventually(near.transport.is_closing, what="the end")
    await asyncio.wait_for(far.closed, 5)
    assert near.taken == GO


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identities")
    Authority(folder).look_after()
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers")
    Authority(folder).look_after()
    return folder


def identity(folder: Path) -> Identity:
    return Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def guarded(desk: Desk, identities: Path, patience: float = 60.0) -> Callable[[], MemberEnd]:
    return lambda: MemberEnd(ServerContext(identity(identities / "host")), desk.admit, desk.route, patience)


async def test_with_an_identity_frames_pass_by_tls(pair: Callable[..., Any], identities: Path) -> None:
    desk, heard = Desk(), list[bytes]()
    near, far = await pair(lambda: Relay(heard.append, LIMIT, 60, 60), guarded(desk, identities))
    await near.enter((LOOPBACK, 1), identity(identities / "worker").context(), TICKET)
    for end in (near, far):
        assert end.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert end.transport.get_extra_info("peercert")
    up, down = frame_of(b"u" * LIMIT), frame_of(b"d" * LIMIT)
    for _ in range(20):
        near.send(up)
        far.send(down)
    await eventually(lambda: (desk.routed, heard) == ([up] * 20, [down] * 20), what="all frames, both ways")
    near.close()
    await eventually(lambda: desk.member.ends == 1, what="the end, on the other side")
    await asyncio.wait_for(near.closed, 5)


def bare(identities: Path) -> ssl.SSLContext:
    """A client that shows no certificate."""
    return ssl.create_default_context(cafile=identities / "worker" / "ca.pem")


def strange(identities: Path, strangers: Path) -> ssl.SSLContext:
    """A client that trusts the host and has a certificate of another fleet."""
    theirs = strangers / "worker"
    return Identity(identities / "worker" / "ca.pem", theirs / "cert.pem", theirs / "key.pem").context()


@pytest.mark.parametrize("shows", ["nothing", "another fleet's"])
async def test_who_shows_no_certificate_of_the_fleet_does_not_get_in(
    pair: Callable[..., Any], identities: Path, strangers: Path, shows: str
) -> None:
    desk = Desk()
    near, far = await pair(lambda: Relay(lambda frame: None, LIMIT, 60, 60), guarded(desk, identities))
    context = bare(identities) if shows == "nothing" else strange(identities, strangers)
    with pytest.raises((OSError, RelayRefused)):
        await near.enter((LOOPBACK, 1), context, TICKET)
    await asyncio.wait_for(far.closed, 5)
    assert not desk.asked
    assert far._greeting.done()


async def test_a_host_of_another_fleet_is_not_given_the_ticket(
    pair: Callable[..., Any], identities: Path, strangers: Path
) -> None:
    desk = Desk()
    near, far = await pair(lambda: Relay(lambda frame: None, LIMIT, 60, 60), guarded(desk, strangers))
    with pytest.raises(ssl.SSLCertVerificationError):
        await near.enter((LOOPBACK, 1), identity(identities / "worker").context(), TICKET)
    await asyncio.wait_for(far.closed, 5)
    assert not desk.asked


@pytest.mark.parametrize("early", [True, False], ids=["at once", "after the host's word"])
async def test_a_ticket_without_tls_is_not_looked_at(
    pair: Callable[..., Any], identities: Path, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    if early:  # the door hands on what came in one piece with the magic
        made = MemberEnd.connection_made

        def connected(end: MemberEnd, transport: asyncio.BaseTransport) -> None:
            made(end, transport)
            end.data_received(frame_of(TICKET.encode()))

        monkeypatch.setattr(MemberEnd, "connection_made", connected)
    near, far = await pair(Mute, guarded(desk, identities))
    if not early:
        await eventually(lambda: near.taken == GO, what="the host's word")
        near.transport.write(frame_of(TICKET.encode()))
    await asyncio.wait_for(far.closed, 5)
    assert not desk.asked
    assert desk.member.relay is None


async def test_a_handshake_that_does_not_end_is_dropped(pair: Callable[..., Any], identities: Path) -> None:
    near, far = await pair(Mute, guarded(Desk(), identities, SILENCE))
    await eventually(near.transport.is_closing, what="the end")
    await eventually(far._greeting.cancelled, what="the end of the handshake")
    assert near.taken == GO


async def test_a_handshake_that_breaks_off_leaves_nothing_behind(pair: Callable[..., Any], identities: Path) -> None:
    near, far = await pair(Mute, guarded(Desk(), identities))
    await eventually(lambda: near.taken == GO, what="the host's word")
    near.transport.abort()
    await eventually(far._greeting.done, what="the end of the handshake")
    assert far._greeting.exception() is None
    assert far._expiry is None


async def test_a_ticket_that_comes_with_the_handshakes_end_is_answered_by_tls(
    pair: Callable[..., Any], identities: Path
) -> None:
    """On asyncio's loop the protocol gets it before the handshake's task hears that there is TLS."""
    desk = Desk()
    near, _ = await pair(Mute, guarded(desk, identities))
    await eventually(lambda: near.taken == GO, what="the host's word")
    near.taken = b""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = identity(identities / "worker").context()
    tls = context.wrap_bio(coming, going, server_hostname=LOOPBACK)

    async def step(do: Callable[[], Any]) -> Any:
        """Do it, once what it has to wait for has come."""
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                near.transport.write(going.read())
                await eventually(lambda: near.taken, what="the host's answer")
                coming.write(near.taken)
                near.taken = b""

    await step(tls.do_handshake)
    tls.write(frame_of(TICKET.encode()) + PING)  # and it goes in one piece with what ends the handshake
    got = b""
    while len(got) < 2 * len(PONG):
        got += await step(tls.read)
    assert got == PONG + PONG
    assert desk.member.relay is not None
