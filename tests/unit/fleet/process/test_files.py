"""Whether a file is still the one that was read."""

import os
from pathlib import Path

import pytest

from fleet.process import files


def test_a_file_that_is_written_or_replaced_differs(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("one")
    first = files.stamp(file)
    assert files.stamp(file) == first
    file.write_text("three")
    assert files.stamp(file) != first
    other.write_text("one")
    os.utime(other, ns=(first[0], first[0]))
    other.replace(file)
    assert files.stamp(file) != first


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.stamp(tmp_path / "a")
