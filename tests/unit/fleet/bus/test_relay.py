"""The relay: events become frames, bytes are cut into frames, silence is noticed, and a ticket opens it."""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.bus import relay
from fleet.bus.events import TYPE_URL, event, event_of, fits_a_frame, packed
from fleet.bus.relay import FRAMES, HEAD, PING, PONG, Relay, RelayRefused
from fleet.bus.topics import MEMBERS, SOURCE
from fleet.security.identity import Identity
from identities.authority import Authority
from protos import chat_pb2 as pb
from tests.harness.ports import free_port
from tests.harness.waiting import SOON, eventually

pytestmark = pytest.mark.both_loops

LIMIT = 1000
LOOPBACK = "127.0.0.1"
SILENCE = 0.05
"""Seconds until a ping, and from the ping to the end, where silence is what is tested."""

NAMES = st.from_regex(r"[\w.:=-]{1,100}", fullmatch=True).filter(lambda name: len(name.encode()) < 256)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=255)


def frame_of(content: bytes) -> bytes:
    return HEAD.pack(len(content)) + content


# ---------------------------------------------------------------- events as frames


@settings(max_examples=30)
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


class Noted(Relay):
    """Notes what it is given."""

    def __init__(self, limit: int = LIMIT, ping_after: float = 60.0, give_up_after: float = 60.0) -> None:
        self.frames: list[bytes] = []
        super().__init__(self.frames.append, limit, ping_after, give_up_after)
        self.pongs = 0

    def pong_received(self) -> None:
        super().pong_received()
        self.pongs += 1


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading: list[str] = []
        self.ended: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "uvloop raises for this"
        self.sent += data

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.reading.append("paused")

    def resume_reading(self) -> None:
        self.reading.append("resumed")

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


async def test_many_small_frames_do_not_hold_the_loop_up() -> None:
    end, wire = on_wire()
    sent = [frame_of(b"%d" % number + b"x" * 10) for number in range(3 * FRAMES + 7)]
    end.data_received(b"".join(sent) + sent[0][:-1])
    assert end.frames == sent[:FRAMES]
    assert wire.reading == ["paused"]
    await eventually(lambda: len(end.frames) == len(sent), what="the others")
    assert end.frames == sent
    assert wire.reading == ["paused", "resumed"] * 3
    end.data_received(sent[0][-1:])
    assert end.frames[-1] == sent[0]


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


async def test_each_answer_settles_one_question_in_order() -> None:
    frames, wire = on_wire()
    first, second, third = frames.ask(PING), frames.ask(b"ticket"), frames.ask(PING)
    assert wire.sent == PING + b"ticket" + PING
    frames.data_received(PONG)
    assert (first.done(), second.done()) == (True, False)
    second.cancel()  # the one who asked waits no longer
    frames.data_received(PONG)
    frames.connection_lost(None)
    assert (await first, await third) == (True, False)
    assert await frames.ask(PING) is False


async def test_pongs_that_were_not_asked_for_are_ignored() -> None:
    frames, wire = on_wire()
    frames.data_received(PONG * 3)
    asked = frames.ask(PING)
    assert not asked.done()
    assert not wire.ended


# ---------------------------------------------------------------- silence


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Makes two ends of one connection."""
    monkeypatch.setattr(relay, "CHECK_EVERY", SILENCE / 5)
    loop = asyncio.get_running_loop()
    ends: list[Any] = []
    servers: list[asyncio.Server] = []

    async def connect(here: Callable[[], Any], there: Callable[[], Any]) -> tuple[Any, Any]:
        made: list[Any] = []

        def accept() -> Any:
            made.append(there())
            return made[0]

        server = await loop.create_server(accept, LOOPBACK, 0)
        servers.append(server)
        _, near = await loop.create_connection(here, *server.sockets[0].getsockname())
        await eventually(lambda: made and hasattr(made[0], "transport"), what="the other end")
        ends.extend((near, made[0]))
        return near, made[0]

    yield connect
    for end in ends:
        if not end.transport.is_closing():
            end.transport.abort()
    for server in servers:
        server.close()
    await eventually(lambda: all(end.ended.done() for end in ends if isinstance(end, Mute)), what="the ends")


class Mute(asyncio.Protocol):
    """Reads everything and answers nothing."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


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
    await asyncio.wait_for(near.closed, SOON)
    assert asyncio.get_running_loop().time() - begun > 2 * SILENCE
    assert far.received
    assert far.received.replace(PING, b"") == b""


async def test_a_peer_that_answers_is_kept(pair: Callable[..., Any]) -> None:
    near, _ = await pair(impatient, Noted)
    near.watch()
    await eventually(lambda: near.pongs > 3, what="some rounds of pings")
    assert not near.closed.done()


async def test_nobody_is_pinged_before_the_watch_begins(pair: Callable[..., Any]) -> None:
    near, far = await pair(impatient, Mute)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(near.closed), 4 * SILENCE)
    assert far.received == b""


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


# ---------------------------------------------------------------- the ticket


class Host(Mute):
    """Answers when it has received as many bytes."""

    def __init__(self, after: int, answer: bytes) -> None:
        super().__init__()
        self._after = after
        self._answer = answer

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self.received) == self._after:
            if self._answer:
                self.transport.write(self._answer)
            else:
                self.transport.close()


TICKET = "a-ticket"
SHOWN = frame_of(TICKET.encode())


class Listening:
    """A host that answers this to a ticket, with TLS where it has an identity."""

    def __init__(self, answer: bytes, identity: Identity | None = None) -> None:
        self.hosts: list[Host] = []
        self.heard: list[bytes] = []
        self._answer = answer
        self._context = identity.server_context() if identity is not None else None

    async def __aenter__(self) -> "Listening":
        def accept() -> Host:
            self.hosts.append(Host(len(SHOWN), self._answer))
            return self.hosts[-1]

        self._server = await asyncio.get_running_loop().create_server(accept, LOOPBACK, 0, ssl=self._context)
        self.address = LOOPBACK, self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for host in self.hosts:
            if hasattr(host, "transport"):
                if not host.transport.is_closing():
                    host.transport.abort()
                await asyncio.wait_for(host.ended, 5)

    async def dial(self, context: ssl.SSLContext | None = None) -> Relay:
        async with asyncio.timeout(5):
            return await relay.dial(self.address, context, TICKET, lambda: Relay(self.heard.append, LIMIT, 60.0, 60.0))


async def test_a_member_is_in_once_its_ticket_was_answered() -> None:
    event = relay.pack("t", pb.MemberLeft(member_id="m"))
    async with Listening(PONG + event) as listening:
        near = await listening.dial()
        (host,) = listening.hosts
        assert host.received == SHOWN
        await eventually(lambda: listening.heard == [event], what="the event that came with the answer")
        near.send(event)
        await eventually(lambda: host.received == SHOWN + event, what="the event")
        near.close()
        await asyncio.wait_for(near.closed, 5)


async def test_a_ticket_that_is_not_accepted_refuses() -> None:
    async with Listening(b"") as listening:
        with pytest.raises(RelayRefused, match="does not accept the ticket"):
            await listening.dial()


async def test_a_port_where_no_one_listens_is_an_error() -> None:
    listening = Listening(PONG)
    listening.address = LOOPBACK, free_port()
    with pytest.raises(ConnectionRefusedError):
        await listening.dial()


def identity(folder: Path) -> Identity:
    return Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


async def test_with_an_identity_frames_pass_by_tls(identities: Path) -> None:
    async with Listening(PONG, identity(identities / "host")) as listening:
        near = await listening.dial(identity(identities / "worker").context())
        assert near.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert near.transport.get_extra_info("peercert")
        down = [frame_of(b"d" * LIMIT)] * 20 + [frame_of(b"%06d" % number) for number in range(20 * FRAMES)]
        listening.hosts[0].transport.write(b"".join(down))
        await eventually(lambda: len(listening.heard) == len(down), what="all frames")
        assert listening.heard == down
        near.close()
        await asyncio.wait_for(near.closed, 5)


async def test_a_host_of_another_fleet_is_not_given_the_ticket(identities: Path, tmp_path: Path) -> None:
    Authority(tmp_path).update()
    async with Listening(PONG, identity(tmp_path / "host")) as listening:
        with pytest.raises(ssl.SSLCertVerificationError):
            await listening.dial(identity(identities / "worker").context())
        assert not any(host.received for host in listening.hosts)
