"""The PROXY protocol, versions 1 and 2: a proxy begins each connection that it passes on with its client's address.

The specification is ``doc/proxy-protocol.txt`` of HAProxy. :class:`Header` is pure: bytes are its arguments.
"""

import ipaddress

from gateway.errors import NotHttp

Peer = tuple[str, int]

V1 = b"PROXY "
V1_LONGEST = 107
V2 = b"\r\n\r\n\x00\r\nQUIT\n"
V2_FIXED = 16
V2_LONGEST = 4096
"""Bytes of a header of version 2 with all that it says about the connection; version 2 could announce 64 KiB."""

VERSION_2 = 2
LOCAL, PROXIED = 0, 1
ADDRESS_SIZES = {1: 4, 2: 16}
"""Bytes of an address, by family; the others, ``UNSPEC`` and ``UNIX``, have none that we could use."""
KINDS = frozenset({0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32})
"""The known pairs of a family and a transport."""


class Header:
    """One header, however it is cut. It holds :data:`V2_LONGEST` bytes at most."""

    def __init__(self) -> None:
        self.client: Peer | None = None
        """Whom the proxy speaks for; None if for itself, as in its health checks, or for someone without an address."""
        self._held = b""

    def feed(self, data: bytes) -> bytes | None:
        """Returns what follows the header, or None while it is incomplete. Raises :class:`NotHttp`."""
        held = self._held = self._held + data
        for signature, read in ((V1, self._version_1), (V2, self._version_2)):
            if held.startswith(signature):
                size = read(held)
                break
            if signature.startswith(held):
                return None
        else:
            message = "this connection must begin with a PROXY protocol header (GATEWAY_PROXY_BIND)"
            raise NotHttp("proxy_header_missing", message)
        if size is None:
            return None
        self._held = b""
        return held[size:]

    def _version_1(self, held: bytes) -> int | None:
        line, end, _ = held[:V1_LONGEST].partition(b"\r\n")
        if not end:
            if len(held) >= V1_LONGEST:
                raise invalid("line too long")
            return None
        words = line.decode("latin-1").split(" ")
        if words[1] != "UNKNOWN":
            self.client = _source(words)
        return len(line) + len(end)

    def _version_2(self, held: bytes) -> int | None:
        if len(held) < V2_FIXED:
            return None
        version, command = divmod(held[12], 16)
        kind = held[13]
        length = int.from_bytes(held[14:16], "big")
        if version != VERSION_2 or command not in (LOCAL, PROXIED) or kind not in KINDS:
            raise invalid("unknown version, command or address family")
        if V2_FIXED + length > V2_LONGEST:
            raise invalid(f"longer than {V2_LONGEST} bytes")
        if len(held) < V2_FIXED + length:
            return None
        size = ADDRESS_SIZES.get(kind >> 4, 0)
        if command == PROXIED and size:
            if length < 2 * size + 4:
                raise invalid("address cut off")
            addresses = held[V2_FIXED : V2_FIXED + 2 * size + 4]
            port = int.from_bytes(addresses[2 * size : 2 * size + 2], "big")
            self.client = (str(ipaddress.ip_address(addresses[:size])), port)
        return V2_FIXED + length


def _source(words: list[str]) -> Peer:
    """``PROXY TCP4 source destination source-port destination-port``."""
    kinds = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}
    try:
        _, kind, source, destination, *ports = words
        address, _ = (kinds[kind](text) for text in (source, destination))
        client_port, _ = (_port(text) for text in ports)
    except (KeyError, ValueError):
        raise invalid("unknown protocol, address or port") from None
    if "%" in source:
        raise invalid("an address with a zone")
    return str(address), client_port


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 0xFFFF:
        raise ValueError
    return int(text)


def invalid(reason: str) -> NotHttp:
    return NotHttp("invalid_proxy_header", f"invalid PROXY protocol header: {reason}")
