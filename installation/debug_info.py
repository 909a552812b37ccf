"""Drops the debug information of compiled modules: 100 of 340 MB, most of it llama.cpp's."""

import struct
from pathlib import Path

ELF64 = b"\x7fELF\x02\x01"
"""How a 64-bit little-endian file of Linux begins. Others are left as they are."""

_TABLES = struct.Struct("<QQ")
_SIZES = struct.Struct("<HHHHH")
_SEGMENT = struct.Struct("<IIQQQQ")
_TABLES_AT, _SECTIONS_AT, _SIZES_AT, _SECTION_SIZES_AT = 32, 40, 54, 58


def drop_below(folder: Path) -> int:
    """Shorten every compiled module below ``folder``. Returns the bytes that this freed."""
    return sum(drop(path) for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink())


def drop(path: Path) -> int:
    """Cut a module behind its last segment: what follows is for linkers and debuggers, and no loader reads it."""
    data = path.read_bytes()
    if not data.startswith(ELF64):
        return 0
    segments, _ = _TABLES.unpack_from(data, _TABLES_AT)
    size, count, *_ = _SIZES.unpack_from(data, _SIZES_AT)
    end: int = segments + size * count
    for number in range(count):
        _, _, offset, _, _, length = _SEGMENT.unpack_from(data, segments + number * size)
        end = max(end, offset + length)
    if end >= len(data):
        return 0
    kept = bytearray(data[:end])
    struct.pack_into("<Q", kept, _SECTIONS_AT, 0)
    struct.pack_into("<HHH", kept, _SECTION_SIZES_AT, 0, 0, 0)
    shortened = path.with_name(f"{path.name}.short")  # another file: a process may have mapped this one
    shortened.write_bytes(kept)
    shortened.chmod(path.stat().st_mode)
    shortened.replace(path)
    return len(data) - end
