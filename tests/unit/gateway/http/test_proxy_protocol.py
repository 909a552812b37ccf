"""The PROXY protocol: whose connection it is, however the header is cut, and nothing that breaks on what is none."""

import asyncio
import contextlib
import ipaddress
import itertools
import struct
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fleet.settings import HostPort
from gateway.errors import NotHttp
from gateway.http.connection import Bounds, State
from gateway.http.proxy_protocol import V1_LONGEST, V2, V2_LONGEST, Header, Peer
from tests.harness.ports import free_port
from tests.harness.virtual import virtual
from tests.harness.waiting import until
from tests.unit.gateway.http.serving import serving
from tests.unit.gateway.http.test_protocol import BOUNDS, PORT, PROXY, Server

GET = b"GET /asked HTTP/1.1\r\nhost: a\r\n\r\n"
V1_HEADER = b"PROXY TCP4 203.0.113.7 10.9.0.1 51000 8501\r\n"


def version_2(command: int, kind: int, addresses: bytes, more: bytes = b"") -> bytes:
    return V2 + struct.pack(">BBH", 0x20 | command, kind, len(addresses) + len(more)) + addresses + more


def inet(source: str, destination: str, port: int, to: int) -> bytes:
    return ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed + struct.pack(">HH", port, to)


V2_HEADER = version_2(1, 0x11, inet("203.0.113.7", "10.9.0.1", 51000, 8501))

ports = st.integers(0, 65535)
tlvs = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=4).map(
    lambda given: b"".join(struct.pack(">BH", kind, len(value)) + value for kind, value in given)
)
either: st.SearchStrategy[tuple[Literal[4, 6], int]] = st.sampled_from([(4, 0x11), (4, 0x12), (6, 0x21), (6, 0x22)])


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, Peer | None]:
    """A valid header, and the client that it names."""
    version, kind = draw(either)
    source, destination = (str(draw(st.ip_addresses(v=version))) for _ in range(2))
    port, to = draw(ports), draw(ports)
    match draw(st.integers(0, 4)):
        case 0:
            return f"PROXY TCP{version} {source} {destination} {port} {to}\r\n".encode(), (source, port)
        case 1:
            rest = draw(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=80))
            return f"PROXY UNKNOWN{rest and ' '}{rest}\r\n".encode(), None
        case 2:
            return version_2(0, draw(st.sampled_from([0, kind])), draw(st.binary(max_size=40))), None
        case 3:
            return version_2(1, draw(st.sampled_from([0, 0x31, 0x32])), draw(st.binary(max_size=216)), draw(tlvs)), None
    return version_2(1, kind, inet(source, destination, port, to), draw(tlvs)), (source, port)


@given(given_header=headers(), rest=st.binary(max_size=50), cuts=st.lists(st.integers(0, 5000), max_size=8))
@settings(max_examples=300)
def test_a_valid_header_names_its_client_however_it_is_cut(
    given_header: tuple[bytes, Peer | None], rest: bytes, cuts: list[int]
) -> None:
    data, client = given_header
    header = Header()
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    *before, last = (data[start:end] for start, end in itertools.pairwise(edges))
    assert all(header.feed(piece) is None for piece in before)
    assert header.feed(last + rest) == rest
    assert header.client == client


@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda more: V2 + more), headers()))
@example(V2 + b"\x21\x11\xff\xff" + bytes(5000))
@example(b"PROXY " + b"x" * 500)
@settings(max_examples=500)
def test_no_bytes_break_it_or_are_held_without_end(data: Any) -> None:
    data = data[0][:-1] + b"\xff" if isinstance(data, tuple) else data
    header = Header()
    fed = 0
    with contextlib.suppress(NotHttp):
        for fed in range(len(data)):
            if header.feed(data[fed : fed + 1]) is not None:
                break
    assert len(header._held) <= V2_LONGEST
    assert fed < V2_LONGEST


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 203.0.113.7 10.9.0.1 51000\r\n",
        b"PROXY TCP4 203.0.113.7 10.9.0.1 51000 8501 x\r\n",
        b"PROXY TCP4 203.0.113.7 10.9.0.1 65536 8501\r\n",
        b"PROXY TCP4 203.0.113.7 10.9.0.1 +1 8501\r\n",
        b"PROXY TCP4 203.0.113.07 10.9.0.1 1 8501\r\n",
        b"PROXY TCP4 203.0.113.256 10.9.0.1 1 8501\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 8501\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 8501\r\n",
        b"PROXY TCP6 203.0.113.7 10.9.0.1 1 8501\r\n",
        b"PROXY UDP4 203.0.113.7 10.9.0.1 1 8501\r\n",
        b"PROXY  TCP4 203.0.113.7 10.9.0.1 1 8501\r\n",
        b"PROXY TCP4 \xff\xfe 10.9.0.1 1 8501\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN" + b" " * V1_LONGEST,
        V2 + b"\x11\x11\x00\x0c" + bytes(12),  # version 1
        V2 + b"\x22\x11\x00\x0c" + bytes(12),  # an unknown command
        V2 + b"\x21\x13\x00\x0c" + bytes(12),  # an unknown transport
        V2 + b"\x21\x41\x00\x0c" + bytes(12),  # an unknown family
        V2 + b"\x21\x11\x00\x0b" + bytes(11),  # no room for the addresses
        V2 + b"\x21\x21\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\x10\x00",  # too long to be waited for
    ],
)
def test_what_the_specification_does_not_allow_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttp) as refused:
        Header().feed(data)
    assert refused.value.code == "invalid_proxy_header"


# ---------------------------------------------------------------- on a connection


async def answered(*pieces: bytes, proxy_port: int | None = PORT) -> tuple[Server, bytes]:
    server = Server(proxy_port=proxy_port)
    for piece in pieces:
        server.receive(piece)
        await server.settle()
    written = server.wire.written
    server.lose()
    await server.settle()
    return server, written


@pytest.mark.parametrize("header", [V1_HEADER, V2_HEADER])
async def test_the_requests_client_is_the_one_that_the_proxy_names(header: bytes) -> None:
    for pieces in ([header + GET], [header, GET], [bytes([byte]) for byte in header + GET]):
        server, _ = await answered(*pieces, GET)
        assert server.clients == [("203.0.113.7", 51000)] * 2


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", version_2(0, 0, b"")])
async def test_the_proxys_own_health_checks_are_served_as_its_own(header: bytes) -> None:
    server, written = await answered(header + GET)
    assert server.clients == [PROXY]
    assert written.startswith(b"HTTP/1.1 200")


async def test_a_connection_without_the_header_is_refused_by_name() -> None:
    for pieces in ([GET], [bytes([byte]) for byte in GET], [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]):
        with capture_logs() as logs:
            server, written = await answered(*pieces)
        assert not server.served
        assert written.startswith(b"HTTP/1.1 400")
        assert b"proxy_header_missing" in written
        assert server.wire.ended
        assert [(log["code"], log["client"]) for log in logs] == [("proxy_header_missing", PROXY[0])]


async def test_no_one_can_claim_another_address_at_any_other_port() -> None:
    for proxy_port in (None, PORT + 4):
        for header in (V1_HEADER, V2_HEADER):
            server, written = await answered(header + GET, proxy_port=proxy_port)
            assert not server.served
            assert b"invalid_http" in written
        server, _ = await answered(GET, proxy_port=proxy_port)
        assert server.clients == [PROXY]


async def test_a_second_header_is_no_request() -> None:
    for again in (V1_HEADER, V2_HEADER):
        server, written = await answered(V1_HEADER + again + GET)
        assert not server.served
        assert b"invalid_http" in written


async def test_bytes_after_a_refused_header_are_discarded() -> None:
    server, written = await answered(b"PROXY nonsense\r\n", V1_HEADER + GET, GET)
    assert not server.served
    assert written.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("sent", [b"", V1_HEADER[:-1], V2_HEADER[:-1], V1_HEADER])
@virtual
async def test_a_header_that_does_not_come_in_time_ends_the_connection(sent: bytes) -> None:
    server = Server(bounds=Bounds(4096, 0.02, 0.04, 0.2, 0.06), proxy_port=PORT)
    with capture_logs() as logs:
        for byte in sent:
            server.receive(bytes([byte]))
        await until(lambda: server.wire.aborted)
    state = State.WAITING if sent == V1_HEADER else State.PROXY
    assert [(log["code"], log["state"]) for log in logs] == [("header_timeout", state.name.lower())]
    server.lose()


async def test_a_health_check_that_only_connects_leaves_no_trace() -> None:
    with capture_logs() as logs:
        for header in (b"", version_2(0, 0, b"")):
            server = Server(bounds=BOUNDS, proxy_port=PORT)
            if header:
                server.receive(header)
            assert server.protocol.eof_received() is False
            server.lose()
    assert not logs


async def test_the_log_names_the_client_that_the_proxy_named() -> None:
    port = free_port()
    async with serving(port, proxy_bind=HostPort("127.0.0.1", port)) as gateway:
        with capture_logs() as logs:
            reader, writer = await asyncio.open_connection(*gateway.address)
            writer.write(V2_HEADER + b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 404")
            writer.close()
            await writer.wait_closed()
        assert {log["client"] for log in logs if log["event"] == "request"} == {"203.0.113.7"}
