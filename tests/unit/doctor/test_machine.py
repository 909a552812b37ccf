"""What is wrong with the machine."""

import resource
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from doctor import machine
from doctor.findings import Level

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "level"), [(10**12, Level.OK), (500 * machine.MIB, Level.WARNING), (10**7, Level.PROBLEM)]
)
def test_a_full_disk_is_told(free: int, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, free))
    assert {finding.level for finding in machine.disks()} == {level}


@pytest.mark.parametrize(("most", "level"), [(1024, Level.WARNING), (65536, Level.OK), (-1, Level.OK)])
def test_few_open_files_are_told(most: int, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, most))
    assert machine.files().level is level


def test_packages_that_differ_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = "pydantic==0.1 \\\n    --hash=sha256:00\nno-such-package==1 \\\nwin==1 ; sys_platform == 'win32' \\\n"
    (tmp_path / "requirements.txt").write_text(pins)
    monkeypatch.setattr(machine, "TREE", tmp_path)
    (wrong,) = [finding for finding in machine.versions() if finding.level is Level.PROBLEM]
    assert wrong.text.startswith("packages differ from requirements.txt: pydantic ")
    assert "(not 0.1), no-such-package missing (not 1)" in wrong.text
    assert "win" not in wrong.text
