"""How the processes' lines are shown."""

import errno
import io
import os

import pytest

from launcher.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_have_the_name_of_their_process_in_colour_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    file, terminal = io.StringIO(), Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for out in (file, terminal):
        Console(out, ["host", "worker.1"], lambda: None).line("host", "listening")
    assert file.getvalue() == "host     | listening\n"
    assert terminal.getvalue() == "\x1b[36mhost     |\x1b[0m listening\n"


def test_a_reader_that_has_gone_is_reported_once() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    reports = []
    out = os.fdopen(writing, "w")
    console = Console(out, ["host"], lambda: reports.append(1))
    for _ in range(3):
        console.line("host", "listening")
    assert reports == [1]
    with pytest.raises(BrokenPipeError):
        out.close()


def test_a_full_disk_loses_lines_and_ends_nothing() -> None:
    class Disk(io.StringIO):
        is_full = True

        def flush(self) -> None:
            if self.is_full:
                self.seek(0)
                self.truncate()
                raise OSError(errno.ENOSPC, "No space left on device")

    reports: list[int] = []
    out = Disk()
    console = Console(out, ["host"], lambda: reports.append(1))
    console.line("host", "lost")
    out.is_full = False
    console.line("host", "kept")
    assert (out.getvalue(), reports) == ("host | kept\n", [])
