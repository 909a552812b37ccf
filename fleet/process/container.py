"""The name of the container that this process runs in. A container itself is only told its id, as its host name."""

import ipaddress
import re
import secrets
import socket
import struct
from pathlib import Path

DOCKER_DNS = ("127.0.0.11", 53)
"""Docker's resolver for containers in networks of their own, as Compose makes them."""

TIMEOUT = 1.0
"""Seconds for its answer, which delays the start."""

_ID = re.compile(r"[0-9a-f]{12}")
_HEADER = struct.Struct(">HHHHHH")
_PTR, _INTERNET = 12, 1
_ANSWER = struct.Struct(">HHIH")
_POINTER = 0xC0


def is_id(hostname: str) -> bool:
    return _ID.fullmatch(hostname) is not None


def name(hostname: str, resolver: tuple[str, int] = DOCKER_DNS, resolv_conf: Path = Path("/etc/resolv.conf")) -> str:
    """What Docker calls the container of this ``hostname``, such as ``chatfleet-worker-1``; empty if that is not known.

    The system's own reverse lookup would only find the container's ``/etc/hosts``, which has the id again.
    """
    try:
        if f"nameserver {resolver[0]}" not in resolv_conf.read_text():
            return ""
        pointer = ipaddress.ip_address(socket.gethostbyname(hostname)).reverse_pointer
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(TIMEOUT)
            asking.connect(resolver)
            question = _question(pointer)
            asking.send(question)
            return _first_label(question, asking.recv(4096))
    except (OSError, ValueError, IndexError, struct.error):
        return ""


def _question(pointer: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in pointer.split("."))
    return _HEADER.pack(secrets.randbits(16), 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, _PTR, _INTERNET)


def _first_label(question: bytes, answer: bytes) -> str:
    """Of the name in the first record of an answer: the container's, before its network's."""
    if answer[:2] != question[:2] or answer[_HEADER.size : len(question)] != question[_HEADER.size :]:
        return ""
    at = len(question)
    while (length := answer[at]) and length < _POINTER:
        at += length + 1
    at += 1 if length == 0 else 2
    kind, _, _, _ = _ANSWER.unpack_from(answer, at)
    at += _ANSWER.size
    length = answer[at]
    return answer[at + 1 : at + 1 + length].decode() if kind == _PTR and length < _POINTER else ""
