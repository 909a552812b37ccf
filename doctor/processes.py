"""The fleet's processes on this machine, with the settings that they were started with. Only Linux shows them."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
KINDS = ("host", "gateway", "worker", "model")
DEFAULT_HOST = "127.0.0.1:50051"
LISTENING = "0A"


@dataclass
class Process:
    """One or several processes of one kind with the same settings; or none, for the settings of this shell."""

    kind: str
    pids: list[int]
    environment: Mapping[str, str]
    folder: Path
    is_readable: bool = True
    """Whether its settings may be seen: they are the owner's and root's to see."""

    def __str__(self) -> str:
        if not self.pids:
            return "this shell"
        return f"{self.kind}, pid {', '.join(map(str, self.pids))}"

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """Within it, settings and files are read as the process reads them."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environment)
        try:
            with contextlib.chdir(self.folder):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def shell() -> Process:
    return Process("", [], dict(os.environ), Path.cwd())


@dataclass
class Found:
    here: list[Process] = field(default_factory=list)
    """Of the fleet that this shell's settings mean."""
    others: list[Process] = field(default_factory=list)


def find() -> Found:
    """Every process of a fleet, grouped by kind and settings."""
    found = Found()
    groups: dict[object, Process] = {}
    for folder in PROC.glob("[0-9]*") if PROC.is_dir() else ():
        process = _read(folder)
        if process is None:
            continue
        key = (process.kind, frozenset(_settings(process.environment)), process.folder)
        if key in groups:
            groups[key].pids += process.pids
            continue
        groups[key] = process
        is_ours = not process.is_readable or host_port(process.environment) == host_port(os.environ)
        (found.here if is_ours else found.others).append(process)
    for processes in (found.here, found.others):
        processes.sort(key=lambda one: (KINDS.index(one.kind), one.pids))
    return found


def host_port(environment: Mapping[str, str]) -> str:
    """The port of the host, by which fleets on one machine differ."""
    address = environment.get("FLEET_HOST") or environment.get("HOST_BIND") or DEFAULT_HOST
    return address.rpartition(":")[2]


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger has stopped it."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "tT"
    except OSError:
        return False


def owners(port: int) -> list[str]:
    """Who listens at a TCP port of this machine, as ``NAME (pid N)``."""
    inodes = {inode for inode, listening in _listening() if listening == port}
    found = []
    for folder in PROC.glob("[0-9]*") if inodes else ():
        with contextlib.suppress(OSError):
            if any(_link(file) in inodes for file in (folder / "fd").iterdir()):
                words = _command(folder).replace("\0", " ").split()
                found.append(f"{' '.join(words)[:60]} (pid {folder.name})")
    return found


def _listening() -> Iterator[tuple[str, int]]:
    """Inode and port of every listening socket."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING:
                    yield f"socket:[{fields[9]}]", int(fields[1].rpartition(":")[2], 16)


def _link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""


def _command(folder: Path) -> str:
    """Of a process that may be anyone's, in any encoding."""
    return (folder / "cmdline").read_text(errors="replace")


def _read(folder: Path) -> Process | None:
    try:
        words = _command(folder).split("\0")
    except OSError:
        return None
    kind = next((word for flag, word in itertools.pairwise(words) if flag == "-m"), "")
    if kind not in KINDS or "python" not in words[0]:
        return None
    if words[words.index("-m") + 2 :] not in ([], [""]):  # a command, such as `worker check`
        return None
    if _link(folder / "ns" / "net") not in ("", _link(PROC / "self" / "ns" / "net")):  # in a container
        return None
    try:
        text = (folder / "environ").read_text(errors="replace")
        environment = dict(line.partition("=")[::2] for line in text.split("\0") if "=" in line)
        return Process(kind, [int(folder.name)], environment, (folder / "cwd").resolve(strict=True))
    except OSError:
        return Process(kind, [int(folder.name)], dict(os.environ), Path.cwd(), is_readable=False)


PREFIXES = ("FLEET_", "HOST_", "GATEWAY_", "WORKER_", "MODEL_")


def _settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What tells one member from another of the same kind, such as its name, is no difference."""
    unlike = ("FLEET_MEMBER_NAME",)
    return (pair for pair in environment.items() if pair[0].startswith(PREFIXES) and pair[0] not in unlike)
