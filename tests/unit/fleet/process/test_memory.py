"""The limit of memory, as both versions of control groups tell it."""

from pathlib import Path

import pytest

from fleet.process import memory

MIB = 1024 * 1024


def tell(tmp_path: Path, groups: str, **files: str) -> int | None:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mount" / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return memory.limit(tmp_path / "groups", tmp_path / "mount")


def test_version_2(tmp_path: Path) -> None:
    assert tell(tmp_path, "0::/a/b\n", a__b__memory_max=f"{8 * MIB}\n", memory_max="max\n") == 8 * MIB


def test_version_1_beside_an_empty_version_2(tmp_path: Path) -> None:
    groups = "9:name=systemd:/\n4:memory:/a\n0::/\n"
    assert tell(tmp_path, groups, memory__a__memory_limit_in_bytes=f"{4 * MIB}\n") == 4 * MIB


def test_a_group_around_it_may_have_less(tmp_path: Path) -> None:
    assert tell(tmp_path, "0::/a/b\n", a__b__memory_max=f"{8 * MIB}", a__memory_max=f"{2 * MIB}") == 2 * MIB


def test_in_a_container_the_root_is_its_own_group(tmp_path: Path) -> None:
    assert tell(tmp_path, "4:memory:/docker/3f2a\n", memory__memory_limit_in_bytes=f"{4 * MIB}\n") == 4 * MIB


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_no_limit(tmp_path: Path, text: str) -> None:
    assert tell(tmp_path, "0::/\n4:memory:/\n", memory_max=text, memory__memory_limit_in_bytes=text) is None


def test_another_system(tmp_path: Path) -> None:
    assert memory.limit(tmp_path / "nothing", tmp_path) is None
