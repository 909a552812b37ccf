"""The contract."""

import subprocess
import sys
from pathlib import Path

from protos import chat_pb2 as pb

ROOT = Path(__file__).parents[3]


def test_the_generated_code_is_that_of_the_contract(tmp_path: Path) -> None:
    """If this fails, run ``make protos``."""
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, "protos/chat.proto"], cwd=ROOT, check=True)
    for name in ("chat_pb2.py", "chat_pb2.pyi"):
        assert (ROOT / "protos" / name).read_text() == (tmp_path / "protos" / name).read_text(), name


def test_what_a_later_version_adds_survives_and_does_no_harm() -> None:
    unknown_field = b"\xfa\x7f\x03new"
    chunk = pb.ReplyEvent.FromString(pb.ReplyEvent(request_id="r", text="a").SerializeToString() + unknown_field)
    assert chunk.text == "a"
    assert chunk.SerializeToString().endswith(unknown_field)


def test_an_event_of_a_later_version_is_none_that_we_know() -> None:
    assert pb.ReplyEvent.FromString(b"\x0a\x01r\xa2\x06\x01x").WhichOneof("event") is None
