"""``python -m tests.security.peer PORT RELAY_PORT KIND SECONDS [IDENTITY]``: a hostile peer of the host.

It attacks for so many seconds from a process of its own, so that the test's own streams are read in time. ``IDENTITY``
is a folder with ``ca.pem``, ``cert.pem`` and ``key.pem`` for TLS. :data:`KINDS` has the ways.
"""

import contextlib
import gzip
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fleet.bus import relay
from fleet.bus.relay import HEAD, PONG
from fleet.process.loop import raise_file_limit

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MEBIBYTE = 2**20
HELLO = bytes.fromhex("16030100c8010000c40303")
"""How a TLS handshake begins."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header field, not to be indexed."""
    return b"\0" + _integer(len(name)) + name + _integer(len(value)) + value


def _integer(value: int) -> bytes:
    if value < 127:
        return bytes([value])
    encoded, value = b"\x7f", value - 127
    while value >= 128:
        encoded, value = encoded + bytes([value & 127 | 128]), value >> 7
    return encoded + bytes([value])


def call(method: str, *more: tuple[bytes, bytes]) -> bytes:
    """The headers of a gRPC call."""
    fields = [(b":path", method.encode()), (b":authority", b"h"), (b"te", b"trailers")]
    fields += [(b"content-type", b"application/grpc"), *more]
    return b"\x83\x86" + b"".join(field(*pair) for pair in fields)


def message(content: bytes, compressed: bool = False) -> bytes:
    return bytes([compressed]) + struct.pack(">I", len(content)) + content


def chunks(stream: int, data: bytes) -> Iterator[bytes]:
    for begin in range(0, len(data), 16384):
        yield frame(DATA, 0, stream, data[begin : begin + 16384])


def streams() -> Iterator[int]:
    return iter(range(1, 2**31, 2))


# ---------------------------------------------------------------- what one connection sends, without end

GREETING = PREFACE + frame(SETTINGS, 0, 0)
HEALTH, REGISTER, OPEN = "/grpc.health.v1.Health/", "/agents.AgentRpc/RegisterAgent", "/agents.AgentRpc/OpenChannel"
BOMB = message(gzip.compress(bytes(31 * MEBIBYTE)), compressed=True)


def repeated(*frames: bytes) -> Callable[[], Iterator[bytes]]:
    def send() -> Iterator[bytes]:
        yield GREETING
        while True:
            yield b"".join(frames) * 200

    return send


def resets() -> Iterator[bytes]:
    yield GREETING
    for stream in streams():
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, call("/x/y")) + frame(RST, 0, stream, b"\0\0\0\x08")


def calls(method: str, content: bytes = b"", *more: tuple[bytes, bytes]) -> Callable[[], Iterator[bytes]]:
    def send() -> Iterator[bytes]:
        yield GREETING + frame(WINDOW, 0, 0, b"\x7f\0\0\0")
        for stream in streams():
            yield frame(HEADERS, END_HEADERS, stream, call(method, *more))
            yield from chunks(stream, content)
            yield frame(DATA, END_STREAM, stream)

    return send


def endless_call() -> Iterator[bytes]:
    yield GREETING + frame(HEADERS, END_HEADERS, 1, call(OPEN))
    while True:
        yield from chunks(1, message(bytes(MEBIBYTE)))


def endless_headers() -> Iterator[bytes]:
    yield GREETING + frame(HEADERS, 0, 1, call(REGISTER))
    while True:
        yield frame(CONTINUATION, 0, 1, field(b"x", bytes(b"v" * 16000)))


def many_headers() -> Iterator[bytes]:
    """Small on the way, large where they are kept: the one field is sent once, and then named by its number."""
    yield GREETING
    for stream in streams():
        large = b"\x40" + _integer(1) + b"x" + _integer(3900) + b"v" * 3900
        yield frame(HEADERS, 0, stream, call(REGISTER) + large) + frame(
            CONTINUATION, END_HEADERS, stream, b"\xbe" * 9000
        )


def slow_preface() -> Iterator[bytes]:
    for byte in PREFACE:
        yield bytes([byte])
        time.sleep(0.5)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "resets": resets,
    "pings": repeated(frame(PING, 0, 0, bytes(8))),
    "settings": repeated(frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff")),
    "windows": repeated(frame(WINDOW, 0, 0, b"\0\0\0\1")),
    "priorities": repeated(frame(PRIORITY, 0, 1, b"\0\0\0\0\1")),
    "empty data": repeated(frame(DATA, 0, 1)),
    "endless headers": endless_headers,
    "many headers": many_headers,
    "checks": calls(HEALTH + "Check", message(b"")),
    "large checks": calls(HEALTH + "Check", message(bytes(31 * MEBIBYTE))),
    "large watches": calls(HEALTH + "Watch", message(bytes(31 * MEBIBYTE))),
    "large calls": calls(REGISTER, message(bytes(31 * MEBIBYTE))),
    "endless call": endless_call,
    "unknown methods": calls("/x/y", message(b"x")),
    "inflating messages": calls(REGISTER, BOMB, (b"grpc-encoding", b"gzip")),
    "inflating checks": calls(HEALTH + "Check", BOMB, (b"grpc-encoding", b"gzip")),
    "metadata": calls(REGISTER, b"", *((b"x%d" % number, b"v" * 900) for number in range(100))),
    "nonsense": lambda: iter(lambda: b"\xff" * 65536, b""),
    "slow preface": slow_preface,
}

GUESS = HEAD.pack(32) + b"A" * 32
RELAY_FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "pongs to the relay": lambda: iter([PONG * 10_000] * 10_000),
    "pings to the relay": lambda: iter([relay.PING * 10_000] * 10_000),
    "tickets to the relay": lambda: iter([GUESS * 10_000] * 10_000),
    "a long frame to the relay": lambda: iter([b"\xff" * 4, *[bytes(MEBIBYTE)] * 1000]),
}

HOLDS: dict[str, bytes] = {
    "silent": b"",
    "half a preface": PREFACE[:16],
    "half a handshake": HELLO,
    "prefaces": GREETING,
}
RELAY_HOLDS: dict[str, bytes] = {
    "silent relays": b"",
    "half a ticket": GUESS[:20],
    "half a handshake with the relay": HELLO,
}


# ---------------------------------------------------------------- connections


class Peer:
    """Connects to a port on loopback, with TLS where it has an identity."""

    def __init__(self, port: int, until: float, identity: Path | None) -> None:
        self.until = until
        self._address = ("127.0.0.1", port)
        self._context: ssl.SSLContext | None = None
        if identity is not None:
            self._context = ssl.create_default_context(cafile=identity / "ca.pem")
            self._context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
            self._context.set_alpn_protocols(["h2"])

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self._address, 5)
        return sock if self._context is None else self._context.wrap_socket(sock, server_hostname="127.0.0.1")

    def attacks(self) -> bool:
        """Whether it goes on."""
        return time.monotonic() < self.until

    def _send(self, sock: socket.socket, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            if not self.attacks():
                raise TimeoutError
            with contextlib.suppress(TimeoutError):
                rest = rest[sock.send(rest) :]

    def flood(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        """Send as fast as the host takes it, on one connection after the other, and read what it says."""
        while self.attacks():
            with contextlib.suppress(OSError), self.connect() as sock:
                sock.settimeout(0.5)
                for piece in pieces():
                    self._send(sock, piece)

    def hold(self, first: bytes, most: int = 1000) -> None:
        """Keep ``most`` connections open that have sent ``first``; connect again for those that are closed."""
        held: list[socket.socket] = []
        while self.attacks():
            with contextlib.suppress(OSError):
                sock = socket.create_connection(self._address, 5)
                sock.sendall(first)
                sock.setblocking(False)
                held.append(sock)
            if len(held) >= most:
                time.sleep(0.05)
                held = [sock for sock in held if _is_open(sock)]

    def churn(self, first: bytes, patience: float) -> None:
        """Connect, send, wait up to ``patience`` seconds for the first word, and leave, as often as possible."""
        while self.attacks():
            with contextlib.suppress(OSError), socket.create_connection(self._address, 5) as sock:
                sock.sendall(first)
                sock.settimeout(patience)
                if patience:
                    sock.recv(1)


def _is_open(sock: socket.socket) -> bool:
    """Whether the host has not closed it; what has come is read, and pings are answered."""
    try:
        while data := sock.recv(65536):
            at = 0
            while at + 17 <= len(data):
                size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
                if kind == PING and not flags & ACK:
                    sock.send(frame(PING, ACK, 0, data[at + 9 : at + 17]))
                at += 9 + size
    except BlockingIOError:
        return True
    except OSError:
        pass
    sock.close()
    return False


def beginning(pieces: Callable[[], Iterator[bytes]]) -> bytes:
    """Of a flood, as much as a connection may send at once."""
    begun = b""
    for piece in pieces():
        if len(begun) + len(piece) > 16 * 1024:
            break
        begun += piece
    return begun


BURSTS = [b"", GREETING, HELLO, beginning(resets), beginning(many_headers)]
RELAY_BURSTS = [b"", HELLO, GUESS, PONG, relay.PING * 1000]
CHURNS = {"churn": 0.0, "slow churn": 0.2}
"""Seconds that a connection stays after it has sent its burst."""
RELAY_CHURNS = {"churn at the relay": 0.0, "slow churn at the relay": 0.2}
RELAY_KINDS = [*RELAY_FLOODS, *RELAY_HOLDS, *RELAY_CHURNS]
KINDS = [*FLOODS, *HOLDS, *CHURNS, *RELAY_KINDS]


def attack(ports: tuple[int, int], kind: str, seconds: float, identity: Path | None) -> None:
    """At the host's port, or its relay's."""
    at_relay = kind in RELAY_KINDS
    peer = Peer(ports[at_relay], time.monotonic() + seconds, identity)
    floods, holds = FLOODS | RELAY_FLOODS, HOLDS | RELAY_HOLDS
    if kind in floods:
        threads = [threading.Thread(target=peer.flood, args=(floods[kind],)) for _ in range(4)]
    elif kind in holds:
        threads = [threading.Thread(target=peer.hold, args=(holds[kind],))]
    else:
        stays, bursts = (CHURNS | RELAY_CHURNS)[kind], RELAY_BURSTS if at_relay else BURSTS
        threads = [threading.Thread(target=peer.churn, args=(burst, stays)) for burst in 4 * bursts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    raise_file_limit()
    attack(
        (int(sys.argv[1]), int(sys.argv[2])),
        sys.argv[3],
        float(sys.argv[4]),
        Path(sys.argv[5]) if sys.argv[5:] else None,
    )
