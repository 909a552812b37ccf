"""``python -m fleet`` with real processes: with stand-ins that misbehave as told, and once with the real fleet."""

import contextlib
import ctypes
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from tests.harness.ports import free_port
from tests.harness.process import REPOSITORY, SETTINGS
from tests.harness.waiting import wait_until

READY = "Ready: "
LIMIT = 30.0
"""Seconds that a stack may take to get ready on a slow machine."""

CALM = "import signal\nsignal.pause()\n"
TELLS = """
from fleet.process import notice
notice.ready("smollm2, duo")
"""
WORKER = TELLS + CALM
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\nsignal.pause()\n"
ENDS_WELL = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print(f"{__spec__.name} told", flush=True)))
print("up", flush=True)
signal.pause()
"""
LISTENS = """
import http.server, os
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
host, _, port = os.environ[{variable!r}].rpartition(":")
http.server.HTTPServer((host, int(port)), Ok).serve_forever()
"""
GATEWAY = LISTENS.format(variable="GATEWAY_BIND")
MODEL = LISTENS.format(variable="MODEL_BIND")


class Launcher:
    """The launcher under test, in a folder with a Procfile."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        log: Path,
        command: Sequence[str] = (sys.executable, "-m", "fleet"),
    ) -> None:
        self.log_file = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._seen: set[psutil.Process] = set()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_for(self, phrase: str, within: float = LIMIT) -> None:
        wait_until(lambda: phrase in self.log or self.process.poll() is not None, within, phrase)
        assert phrase in self.log
        self.family()

    def family(self) -> set[psutil.Process]:
        """Everybody it has ever been seen to start."""
        if self.process.poll() is None:
            self._seen.update(psutil.Process(self.process.pid).children(recursive=True))
        return self._seen

    def end(self, by: signal.Signals) -> float:
        """The seconds that it takes from signal to exit, with nobody left."""
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(by)
        self.process.wait(LIMIT)
        took = time.monotonic() - began
        assert not [member for member in family if member.is_running()]
        return took

    def clear(self) -> None:
        """Whatever a failed test leaves behind."""
        for member in self.family():
            if member.is_running():
                member.kill()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def settings() -> dict[str, str]:
    """An environment without the tester's settings, and with addresses that are free."""
    unwanted = ("MAKE", "MFLAGS", "WORKERS", *SETTINGS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    binds = {
        name: f"127.0.0.1:{free_port()}" for name in ("HOST_BIND", "HOST_RELAY_BIND", "GATEWAY_BIND", "MODEL_BIND")
    }
    return clean | binds | {"PYTHONPATH": str(REPOSITORY), "WORKERS": "1"}


class Stage:
    """A folder of stand-ins, and launchers that run them."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings
        self.launchers: list[Launcher] = []

    def launch(self, *command: str, **modules: str) -> Launcher:
        """Run ``modules`` (name to source text; those not named are calm) under the launcher."""
        modules = {"host": CALM, "worker": WORKER, "gateway": GATEWAY, "model": MODEL} | modules
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)
        shutil.copy(REPOSITORY / "Procfile", self.folder)
        log = self.folder / f"log.{len(self.launchers)}"
        launcher = Launcher(self.folder, self.settings, log, *([command] if command else []))
        self.launchers.append(launcher)
        return launcher


@pytest.fixture
def stage(tmp_path: Path, settings: dict[str, str]) -> Iterator[Stage]:
    stage = Stage(tmp_path, settings)
    yield stage
    for launcher in stage.launchers:
        launcher.clear()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everybody(by: signal.Signals, stage: Stage) -> None:
    launcher = stage.launch()
    launcher.wait_for(READY)
    launcher.end(by)
    assert launcher.process.returncode == 0
    assert "killing" not in launcher.log
    assert "starting it again" not in launcher.log


def test_gateways_and_workers_leave_before_those_they_need(stage: Stage) -> None:
    stage.settings["WORKERS"] = "2"
    launcher = stage.launch(host=ENDS_WELL, worker=ENDS_WELL, gateway=ENDS_WELL, model=ENDS_WELL)
    wait_until(lambda: launcher.log.count("| up") == 5, LIMIT)
    launcher.end(signal.SIGTERM)
    told = [line.partition(" ")[0] for line in launcher.log.splitlines() if line.endswith("told")]
    assert sorted(told[:3]) == ["gateway", "worker.1", "worker.2"]
    assert sorted(told[3:]) == ["host", "model"]


def test_whoever_does_not_end_is_killed_within_five_seconds(stage: Stage) -> None:
    launcher = stage.launch(worker=STUBBORN, host=STUBBORN)
    wait_until(lambda: launcher.log.count("deaf") == 2, LIMIT)
    assert 4 < launcher.end(signal.SIGINT) < 15  # after 4.5 s
    assert launcher.process.returncode == 0
    assert "killing host, worker.1" in launcher.log


def test_a_second_signal_kills_at_once(stage: Stage) -> None:
    launcher = stage.launch(worker=STUBBORN)
    launcher.wait_for("deaf")
    launcher.process.send_signal(signal.SIGINT)
    launcher.wait_for("ending")
    launcher.end(signal.SIGINT)
    assert launcher.process.returncode == 0
    assert "killing" not in launcher.log, "the second signal kills, and the launcher itself would only after 4.5 s"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_nobody_outlives_a_launcher_that_is_killed(stage: Stage) -> None:
    launcher = stage.launch(worker=TELLS + STUBBORN)
    launcher.wait_for(READY)
    family = launcher.family()
    assert len(family) == 4
    launcher.process.kill()
    wait_until(lambda: not [member for member in family if member.is_running()], LIMIT)


def test_a_crash_is_reported_and_followed_by_another_life(stage: Stage) -> None:
    crash_once = f"""
import os, pathlib, signal
marker = pathlib.Path("crashed")
if not marker.exists():
    marker.touch()
    os.kill(os.getpid(), signal.SIGSEGV)
print("second life", flush=True)
{WORKER}"""
    launcher = stage.launch(worker=crash_once)
    launcher.wait_for("worker.1 | second life")
    assert "worker.1 ended with SIGSEGV; starting it again in 1 s" in launcher.log
    launcher.wait_for(READY)
    launcher.end(signal.SIGTERM)


@pytest.mark.parametrize("name", ["host", "worker", "gateway", "model"])
def test_bad_settings_end_the_whole(name: str, stage: Stage) -> None:
    others = {"worker": CALM} if name == "host" else {}  # all could be ready before a slow host has ended
    launcher = stage.launch(**others, **{name: "import sys\nprint('X_BIND: wrong')\nsys.exit(2)\n"})
    assert launcher.process.wait(LIMIT) == 2
    assert "X_BIND: wrong" in launcher.log
    assert "its settings are wrong" in launcher.log
    why = f"a setting of {name.replace('worker', 'worker.1')} is wrong. Correct it and start again: X_BIND: wrong"
    assert launcher.log.splitlines()[-1].endswith(why)
    assert READY not in launcher.log


def test_the_rest_goes_on_where_the_model_cannot_run(stage: Stage) -> None:
    launcher = stage.launch(model="import sys\nprint('apt-get install libgomp1')\nsys.exit(3)\n")
    launcher.wait_for(READY)
    launcher.wait_for("The model `smollm2` is not available.")
    assert "model    | apt-get install libgomp1" in launcher.log
    assert "starting it again" not in launcher.log
    launcher.end(signal.SIGTERM)


def test_ready_waits_for_every_worker_and_says_last_what_is_served(stage: Stage) -> None:
    stage.settings["WORKERS"] = "3"
    late = """
import pathlib, time
pathlib.Path(f"up.{os.getpid()}").touch()
while not pathlib.Path("go").exists() and len(list(pathlib.Path().glob("up.*"))) > 2: time.sleep(0.01)
"""
    launcher = stage.launch(worker="import os\n" + late + "print('joined', flush=True)\n" + WORKER)
    wait_until(lambda: len(list(stage.folder.glob("up.*"))) == 3, LIMIT)
    gateway = stage.settings["GATEWAY_BIND"]
    wait_until(lambda: _answers(f"http://{gateway}/readyz"), LIMIT)
    assert READY not in launcher.log
    (stage.folder / "go").touch()
    launcher.wait_for(f"{READY}http://{gateway} with 3 workers, serving smollm2, duo.")
    launcher.wait_for("user")
    said, _, announced = launcher.log.partition(READY)
    assert said.count("joined") == 3
    assert "Ctrl-C ends what was started here: host, worker.1, worker.2, worker.3, gateway, model." in announced
    assert " | " not in announced
    launcher.end(signal.SIGTERM)


def test_with_keys_the_example_has_the_header(stage: Stage) -> None:
    stage.settings["GATEWAY_KEYS"] = "keys.yaml"
    launcher = stage.launch()
    launcher.wait_for("-H 'Authorization: Bearer KEY' \\\n")
    launcher.end(signal.SIGTERM)


def test_ready_waits_for_gateway_and_model(stage: Stage) -> None:
    wait = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    launcher = stage.launch(model=wait + MODEL)
    gateway = stage.settings["GATEWAY_BIND"]
    wait_until(lambda: _answers(f"http://{gateway}/readyz"), LIMIT)
    assert READY not in launcher.log
    (stage.folder / "go").touch()
    launcher.wait_for(f"{READY}http://{gateway} with 1 worker, ")
    launcher.end(signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_every_line_says_whose_it_is(stage: Stage) -> None:
    talk = "import sys\nprint('one')\nprint('x' * 200_000)\nsys.stderr.write('no end')\nsys.stderr.flush()\n"
    launcher = stage.launch(worker=talk + "sys.exit(7)\n")
    launcher.wait_for("worker.1 ended with exit code 7")
    first_life = launcher.log.partition("worker.1 ended")[0]
    lines = [line for line in first_life.splitlines() if line.startswith("worker.1 | ")]
    assert lines[0] == "worker.1 | one"
    assert sum(line.count("x") for line in lines) == 200_000
    assert lines[-1] == "worker.1 | no end"
    launcher.end(signal.SIGTERM)


def test_a_second_launcher_names_the_ports(stage: Stage) -> None:
    first = stage.launch()
    first.wait_for(READY)
    second = stage.launch()
    assert second.process.wait(LIMIT) == 1
    lines = second.log.splitlines()
    # The stand-in for the host does not listen.
    assert len(lines) == 2
    for line, name in zip(lines, ["gateway", "model"], strict=True):
        variable = f"{name.upper()}_BIND"
        port = stage.settings[variable].rpartition(":")[2]
        assert line.startswith(f"{name} cannot listen")
        assert f"port {port} is taken" in line
        assert variable in line
    first.end(signal.SIGTERM)


def test_a_taken_relay_port_is_named_before_anything_starts(stage: Stage) -> None:
    port = stage.settings["HOST_RELAY_BIND"].rpartition(":")[2]
    with socket.create_server(("127.0.0.1", int(port))):
        launcher = stage.launch()
        assert launcher.process.wait(LIMIT) == 1
    reason = f"port {port} is taken; set HOST_RELAY_BIND to another address"
    assert launcher.log.splitlines() == [f"host cannot listen on 127.0.0.1:{port}: {reason}"]


def test_a_folder_without_a_procfile_is_refused_in_one_line(tmp_path: Path, settings: dict[str, str]) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "fleet"], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "Procfile" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_reader_that_leaves_ends_it(stage: Stage) -> None:
    launcher = stage.launch(
        "/bin/sh", "-c", f"{sys.executable} -m fleet | head -n 1", worker="print('hello', flush=True)\n"
    )
    assert launcher.process.wait(LIMIT) == 0
    wait_until(lambda: not _in(stage.folder), LIMIT)


def _in(folder: Path) -> list[psutil.Process]:
    """Who runs there, whoever started it."""
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


def test_nohup_keeps_it_running_when_its_terminal_closes(stage: Stage) -> None:
    launcher = stage.launch("nohup", sys.executable, "-m", "fleet")
    launcher.wait_for(READY)
    launcher.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        launcher.process.wait(0.5)
    assert "ending" not in launcher.log
    launcher.end(signal.SIGTERM)
    assert "killing" not in launcher.log


AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def _makefile(stage: Stage) -> None:
    (stage.folder / "Makefile").write_text(f"run:\n\t@{sys.executable} -m fleet\n")


@needs_make
@pytest.mark.parametrize("by", ["Ctrl-C", "closing the terminal"])
def test_a_terminal_ends_everybody(by: str, stage: Stage) -> None:
    """``make`` itself dies of the signal that the terminal sends, as it always does, once all it ran has ended."""
    _makefile(stage)
    stage.launch().end(signal.SIGTERM)  # lays out the stand-ins
    terminal, inside = pty.openpty()
    make = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, "make", "run"],
        cwd=stage.folder,
        env=stage.settings,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    try:
        _read_until(terminal, READY.encode())
        family = psutil.Process(make.pid).children(recursive=True)
        assert len(family) == 5
        if by == "Ctrl-C":
            os.write(terminal, b"\x03")
            assert b"killing" not in _read_until(terminal, None)
        else:
            os.close(terminal)
        assert make.wait(LIMIT) == -(signal.SIGINT if by == "Ctrl-C" else signal.SIGHUP)
        assert not [member for member in family if member.is_running()]
    finally:
        with contextlib.suppress(OSError):
            os.close(terminal)
        make.kill()
        make.wait()


def _read_until(terminal: int, phrase: bytes | None) -> bytes:
    """What is written to a terminal, until ``phrase`` or its end."""
    seen = b""
    deadline = time.monotonic() + LIMIT
    while phrase is None or phrase not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side has gone
            chunk = b""
        if not chunk:
            assert phrase is None, seen
            return seen
        seen += chunk
    return seen


@needs_make
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets us know")
@pytest.mark.parametrize("by", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_for_make_alone_ends_everybody(by: signal.Signals, stage: Stage) -> None:
    _makefile(stage)
    launcher = stage.launch("make", "run")
    launcher.wait_for(READY)
    family = launcher.family()
    assert len(family) == 5
    launcher.process.send_signal(by)
    assert launcher.process.wait(LIMIT) == -by
    wait_until(lambda: not [member for member in family if member.is_running()], LIMIT)


def _lacks_libgomp() -> bool:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return sys.platform == "linux"
    return False


@pytest.mark.skipif(_lacks_libgomp(), reason="the system lacks libgomp1, which the embedded model needs")
def test_the_real_fleet_streams_from_the_real_model_and_ends_its_streams(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    # Cut off early, so that a machine that stands still for a while lets them end before they are killed.
    drain = {"GATEWAY_DRAIN_TIMEOUT": "0.5", "WORKER_DRAIN_TIMEOUT": "0.5"}
    launcher = Launcher(REPOSITORY, settings | drain | {"WORKERS": "2"}, tmp_path / "log")
    try:
        launcher.wait_for(READY, 120)
        url = f"http://{settings['GATEWAY_BIND']}/chat/completions"
        body = {"messages": [{"source": "user", "content": "Tell me a very long story."}]}
        with httpx.Client(timeout=LIMIT) as client, client.stream("POST", url, json=body) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["content"]
            launcher.end(signal.SIGTERM)
            assert "killing" not in launcher.log
            last = json.loads(list(lines)[-1])
        assert "error" in last or last["done"]
        assert launcher.process.returncode == 0
        assert "killing" not in launcher.log
    finally:
        launcher.clear()
