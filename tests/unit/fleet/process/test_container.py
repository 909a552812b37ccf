"""A container's name from Docker's resolver, and nothing where there is none, or one that answers nonsense."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.process import container
from tests.harness.waiting import SOON

PTR_OF_LOOPBACK = b"\x011\x010\x010\x03127\x07in-addr\x04arpa\x00\x00\x0c\x00\x01"
NAME = b"\x12chatfleet-worker-1\x11chatfleet_workers\x00"

Answer = Callable[[bytes], bytes]


def record(name: bytes, kind: int = 12, data: bytes = NAME) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 600, len(data)) + data


def answer(question: bytes, *records: bytes) -> bytes:
    return question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0) + question[12:] + b"".join(records)


@contextlib.contextmanager
def resolver(reply: Answer) -> Iterator[tuple[str, int]]:
    """A DNS server that answers one question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("127.0.0.1", 0))

        def serve() -> None:
            question, asker = serving.recvfrom(4096)
            assert question[12:] == PTR_OF_LOOPBACK
            serving.sendto(reply(question), asker)

        thread = threading.Thread(target=serve)
        thread.start()
        yield serving.getsockname()
        thread.join()


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text("search x\nnameserver 127.0.0.1\noptions ndots:0\n")
    return path


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (lambda question: answer(question, record(b"\xc0\x0c")), "chatfleet-worker-1"),
        (lambda question: answer(question, record(question[12:-4])), "chatfleet-worker-1"),
        (lambda question: answer(question), ""),
        (lambda question: answer(question, record(b"\xc0\x0c", kind=1, data=b"\x7f\x00\x00\x01")), ""),
        (lambda question: answer(question, record(b"\xc0\x0c", data=b"\xc0\x0c")), ""),
        (lambda question: answer(question, record(b"\xc0\x0c", data=b"\x02\xff\xff\x00")), ""),
        (lambda question: b"\x00\x00" + answer(question, record(b"\xc0\x0c"))[2:], ""),
        (lambda question: question, ""),
        (lambda _: b"", ""),
    ],
    ids=["compressed", "whole", "unknown", "another kind", "a pointer", "no text", "another's", "cut off", "empty"],
)
def test_the_first_label_of_dockers_answer_is_the_containers_name(
    reply: Answer, name: str, resolv_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "TIMEOUT", SOON)
    with resolver(reply) as address:
        assert container.name("localhost", address, resolv_conf) == name


def test_elsewhere_no_one_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert container.name("localhost", resolv_conf=path) == ""
    path.write_text("nameserver 10.0.0.1\n")
    assert container.name("localhost", resolv_conf=path) == ""


def test_a_resolver_that_says_nothing_is_not_waited_for(resolv_conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert container.name("localhost", silent.getsockname(), resolv_conf) == ""


@given(st.binary(max_size=200))
def test_no_answer_breaks_it(rest: bytes) -> None:
    question = container._question("1.0.0.127.in-addr.arpa")
    with contextlib.suppress(ValueError, IndexError, struct.error):
        assert isinstance(container._first_label(question, question + rest), str)


@pytest.mark.parametrize(
    ("hostname", "is_id"), [("3f2a91c0de45", True), ("3F2A91C0DE45", False), ("worker-1", False), ("3f2a91c0de", False)]
)
def test_a_containers_own_host_name_is_its_id(hostname: str, is_id: bool) -> None:
    assert container.is_id(hostname) is is_id
