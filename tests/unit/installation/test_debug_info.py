"""What is cut off compiled modules, and what is not."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from installation import debug_info


def compiled_module() -> Path:
    """One that this Python has, and that its package's build did not strip."""
    spec = find_spec("uvloop.loop")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@pytest.mark.skipif(sys.platform != "linux", reason="modules of other systems are left as they are")
def test_a_shorter_module_still_loads(tmp_path: Path) -> None:
    package = tmp_path / "uvloop"
    shutil.copytree(compiled_module().parent, package)
    module = package / compiled_module().name
    size, mode = module.stat().st_size, module.stat().st_mode
    debug_info.drop_below(tmp_path)
    assert (module.stat().st_size, module.stat().st_mode) <= (size, mode)
    asks = "import asyncio, uvloop; print(uvloop.__file__, uvloop.run(asyncio.sleep(0, 7)))"
    done = subprocess.run([sys.executable, "-c", asks], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(package / "__init__.py"), "7"]
    assert debug_info.drop_below(tmp_path) == 0, "twice is once"


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x01\x01" + bytes(99), b"\xfe\xed\xfa\xce", b"libc.so is text"])
def test_what_it_does_not_know_stays(content: bytes, tmp_path: Path) -> None:
    module = tmp_path / "module.so"
    module.write_bytes(content)
    assert debug_info.drop_below(tmp_path) == 0
    assert module.read_bytes() == content
