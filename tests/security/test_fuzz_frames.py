"""Frames of the relay: any bytes in any slices break no member and no host, and what is good still passes."""

import asyncio
import dataclasses
import struct
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from fleet.bus import relay
from fleet.bus.relay import HEAD, PING, PONG
from fleet.bus.runtime import FleetRuntime
from fleet.settings import FleetSettings
from protos import chat_pb2 as pb
from tests.faults.crowd import Say
from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import Fleet
from tests.schedule import Schedule
from tests.security.arena import MIB, TOKEN, held
from tests.security.attacks import Target
from tests.security.attacks.members import joined
from tests.security.fuzz import SIZES, fuzz, sliced
from tests.unit.fleet.bus.test_relay import LIMIT, Noted, Wire

TOPICS = ("workers", "members", "gateways", "chat.x", "chunks.x", "other")
KINDS = tuple(
    f"chatfleet.v1.{kind}" for kind in ("ChatHistory", "CancelChat", "ChunkAck", "ChunkBatch", "WorkerStatus")
)
SHARE = 1 / 3
"""Of a fuzzer's time, for each of the three that read frames."""
GROWTH = 32 * MIB
LINES = 500
"""Complaints in a log that a member may cause that sends nothing but nonsense."""

pytestmark = pytest.mark.timeout(400)


@dataclasses.dataclass
class Stream:
    """What is sent, how it is cut, and the good events of it, as far as what is before them can be read."""

    data: bytes
    sizes: list[int]
    good: list[bytes]


def framed(content: bytes) -> bytes:
    return HEAD.pack(len(content)) + content


CONTENT = st.one_of(
    st.binary(min_size=2, max_size=60),
    st.builds(
        lambda topic, kind, payload: relay.pack_bytes(topic, kind, payload)[HEAD.size :],
        st.sampled_from(TOPICS),
        st.sampled_from(KINDS) | st.just("chatfleet.v1.Unknown"),
        st.binary(max_size=60),
    ),
)
GOOD = st.integers(0, 2**32).map(lambda number: relay.pack("other", pb.MemberLeft(member_id=str(number))))
BAD = st.one_of(CONTENT.map(framed), st.sampled_from([PING, PONG, HEAD.pack(1) + b"x"]))
BREAKING = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.integers(LIMIT + 1, 2**32 - 1).map(lambda size: struct.pack(">I", size)),
    CONTENT.map(lambda content: framed(content)[:-1]),
)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    pieces = draw(st.lists(st.tuples(st.sampled_from([True, True, False]), GOOD, BAD), max_size=12))
    chosen = [(good, frame if good else bad) for good, frame, bad in pieces]
    rest = draw(st.lists(st.one_of(BREAKING, BAD, GOOD), max_size=4))
    data = b"".join([piece for _, piece in chosen] + rest)
    return Stream(data, draw(SIZES), [piece for good, piece in chosen if good])


def test_bytes_are_cut_into_frames_or_the_connection_ends(figures: Say) -> None:
    async def examine(stream: Stream) -> None:
        noted = Noted(LIMIT)
        noted.connection_made(Wire())
        for data in sliced(stream.data, stream.sizes):
            noted.data_received(data)
            assert len(noted._rest) <= LIMIT + HEAD.size + len(data)
        left = iter(noted.frames)
        assert all(frame in left for frame in stream.good), "a good event is missing, or not in order"

    fuzz(examine, streams(), figures, SHARE)


def test_a_member_outlives_any_frame_of_the_host(figures: Say) -> None:
    async def examine(stream: Stream) -> None:
        heard: list[pb.MemberLeft] = []
        runtime = FleetRuntime(FleetSettings(), lambda up: None)
        runtime.shortcut(pb.MemberLeft, heard.append)
        for kind in (pb.ChunkBatch, pb.ChunkAck, pb.WorkerStatus):
            runtime.shortcut(kind, lambda message: None)
        noted = Noted(LIMIT)
        noted.received = runtime._relayed
        noted.connection_made(Wire())
        for data in sliced(stream.data, stream.sizes):
            noted.data_received(data)
        ids = iter([left.member_id for left in heard])
        assert all(pb.MemberLeft.FromString(relay.unpack(good)[2]).member_id in ids for good in stream.good)

    fuzz(examine, streams(), figures, SHARE)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(workers=1, settings={"FLEET_TOKEN": TOKEN}) as fleet:
        fleet.expects_trouble = True  # the test counts the lines itself
        yield fleet


def test_a_host_passes_chats_on_beside_any_frames_of_a_member(fleet: Fleet, figures: Say) -> None:
    target = Target(fleet.address, ("127.0.0.1", fleet.host_port), ("127.0.0.1", fleet.relay_port), TOKEN)
    before = {process: (process.pid, held(process).memory) for process in fleet.processes}
    lines = fleet.log_sizes()

    async def examine(batch: list[Stream]) -> None:
        async with asyncio.TaskGroup() as group:
            for stream in batch:
                group.create_task(send(target, stream))
        schedule = Schedule(tokens=3)
        assert_complete(await ask(fleet.address, schedule), schedule)

    fuzz(examine, st.lists(streams(), min_size=4, max_size=8), figures, SHARE)
    for process, (pid, memory) in before.items():
        assert (process.is_alive, process.pid) == (True, pid)
        assert held(process).memory - memory < GROWTH, process
        log = process.log(lines[process.name])
        assert "Traceback" not in log, log[-4000:]
        assert log.count("level=warning") + log.count("level=error") < LINES, log[-4000:]


async def send(target: Target, stream: Stream) -> None:
    """Join as a member, send the bytes, and leave."""
    async with joined(target) as ill:
        try:
            for data in sliced(stream.data, stream.sizes):
                await ill.send_raw(data)
        except ConnectionError:
            pass
