"""What runs on this machine."""

from pathlib import Path

import pytest

from doctor import processes


def test_processes_whose_command_is_no_utf8_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_bytes(b"sleep\xff\x00-m\x00host\x00")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.find() == processes.Found()
