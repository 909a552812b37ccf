"""Requests' bodies that come compressed."""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.errors import MalformedBody
from gateway.faces.compression import Inflater, inflater
from gateway.faces.outline import WINDOW


def raw_deflate(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compress.compress(data) + compress.flush()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zlib": zlib.compress, "raw": raw_deflate}
compressors = pytest.mark.parametrize("compress", COMPRESS.values(), ids=COMPRESS.keys())


def pieces(*parts: bytes) -> Iterator[bytes]:
    inflate = Inflater()
    for part in parts:
        yield from inflate.feed(part)
    inflate.end()


def asked(*encodings: str) -> Request:
    return Request({"type": "http", "headers": [(b"content-encoding", encoding.encode()) for encoding in encodings]})


@given(st.data())
@settings(max_examples=100)
def test_any_split_gives_the_same(data: st.DataObject) -> None:
    compress = data.draw(st.sampled_from(list(COMPRESS.values())))
    unit = data.draw(st.binary(max_size=300))
    text = unit * data.draw(st.sampled_from([0, 1, 1000, WINDOW]))
    compressed = compress(text)
    step = data.draw(st.integers(1, len(compressed) + 1))
    parts = [compressed[start : start + step] for start in range(0, len(compressed), step)]
    assert b"".join(pieces(*parts)) == text


@compressors
@pytest.mark.parametrize("size", [WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 258])
def test_what_fills_windows_exactly_is_whole(compress: Callable[[bytes], bytes], size: int) -> None:
    for text in (bytes(size), os.urandom(size)):
        assert b"".join(pieces(compress(text))) == text


@compressors
def test_a_bomb_comes_in_small_pieces(compress: Callable[[bytes], bytes]) -> None:
    sizes = [len(piece) for piece in pieces(compress(bytes(50 * 1024 * 1024)))]
    assert sum(sizes) == 50 * 1024 * 1024
    assert max(sizes) <= WINDOW


@pytest.mark.parametrize("block", [b"\x00\x00\x00\xff\xff", b"\x02\x08\x20\x80\x00"], ids=["stored", "fixed"])
def test_steps_are_small_for_blocks_that_hold_nothing(block: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = list[int]()
    read = Inflater._step

    def step(inflate: Inflater, waiting: bytes) -> tuple[bytes, bytes]:
        steps[-1] += len(waiting)
        return read(inflate, waiting)

    monkeypatch.setattr(Inflater, "_step", step)
    steps.append(0)
    for _ in Inflater().feed(block * (512 * 1024 // len(block))):
        steps.append(0)
    assert max(steps) <= 16 * 1024
    assert sum(steps) >= 500 * 1024


def test_gzip_may_come_in_several_parts() -> None:
    whole = gzip.compress(b"hello ") + gzip.compress(b"") + gzip.compress(b"world")
    for cut in range(len(whole)):
        assert b"".join(pieces(whole[:cut], whole[cut:])) == b"hello world"


def test_parts_without_end_come_in_small_steps() -> None:
    steps = list(pieces(gzip.compress(b"") * 1000))
    assert len(steps) >= 1000


@compressors
def test_what_is_broken_is_refused(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(b"hello" * 100)
    for broken in (whole[:-1], whole[:5], whole + b"x", whole + zlib.compress(b"hello")):
        with pytest.raises(MalformedBody, match="broken"):
            list(pieces(broken))
    with pytest.raises(MalformedBody, match="broken"):
        list(pieces(b"\x1f\x8b no gzip"))


@pytest.mark.parametrize("encodings", [(), ("",), ("identity",), ("Identity", "identity")])
def test_what_is_not_compressed_is_not_decompressed(encodings: tuple[str, ...]) -> None:
    assert inflater(asked(*encodings)) is None


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "gzip, identity"])
def test_what_is_understood(encoding: str) -> None:
    assert inflater(asked(encoding)) is not None


@pytest.mark.parametrize("encodings", [("br",), ("zstd",), ("gzip, gzip",), ("gzip", "br"), ("aws-chunked",)])
def test_other_encodings_are_refused_by_name(encodings: tuple[str, ...]) -> None:
    with pytest.raises(MalformedBody, match=encodings[-1]) as refused:
        inflater(asked(*encodings))
    assert refused.value.status == 415
    assert refused.value.headers()["accept-encoding"] == "gzip, deflate"
