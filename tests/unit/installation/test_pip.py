"""How far an installation is, in pip's output."""

import pytest

from installation.pip import Progress

OUTPUT = """\
Collecting aiofiles==25.1.0 (from -r requirements.txt (line 1))
  Using cached aiofiles-25.1.0-py3-none-any.whl (14 kB)
Collecting grpcio==1.70.0 (from -r requirements.txt (line 9))
  Downloading grpcio-1.70.0-cp311-cp311-manylinux_2_17_x86_64.whl (5.9 MB)
Collecting idna==3.10 (from -r requirements.txt (line 12))
  Downloading idna-3.10-py3-none-any.whl (70 kB)
Installing collected packages: aiofiles, grpcio, idna
Successfully installed aiofiles-25.1.0 grpcio-1.70.0 idna-3.10
"""


def test_progress_tells_the_count_and_large_downloads(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(3)
    for line in OUTPUT.splitlines():
        progress.show(line)
    assert capsys.readouterr().out.splitlines() == [
        "  1 of 3: aiofiles",
        "  2 of 3: downloading grpcio, 6 MB",
        "  3 of 3: unpacking",
    ]
