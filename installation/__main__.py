"""``python -m installation VENV TARGET``: installs what a target of ``make`` needs, unless it is there."""

import argparse
import subprocess
import sys
import time
import venv
from pathlib import Path

from installation import debug_info
from installation.pip import InstallError, Pip
from installation.stamp import Stamp

RUN = ("requirements.txt", "requirements-model.txt")
TEST = ("requirements-dev.txt",)
OWN = "agents/requirements.txt"
PINNED = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
"""--no-deps, because the lists are complete, and one package requires something that is never used and takes minutes to
compile. Wheels only, so that a machine without them gets an error instead of a compiler run."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m installation", description="Install what a target of make needs.")
    parser.add_argument("venv", type=Path, help="the folder of the environment")
    parser.add_argument("target", choices=["run", "test", "own"], help="what to install")
    given = parser.parse_args()
    if given.venv.is_symlink():
        print(f"{given.venv} is a link: it is used as it is, and set up where it belongs.")
        return 0
    try:
        {"run": for_running, "test": for_tests, "own": for_own_agents}[given.target](given.venv)
    except InstallError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


def for_running(folder: Path) -> None:
    """Create the environment from nothing, so that no package of earlier requirements stays in it."""
    stamp = Stamp(folder / ".runtime", RUN)
    if stamp.is_fresh() and _runs(folder):
        return
    began = time.monotonic()
    print(f"Setting up {folder} with Python {sys.version.split()[0]}. The first time this downloads about 160 MB.")
    try:
        # Without pip, which takes as much room as the fleet and is needed for minutes only.
        venv.EnvBuilder(clear=True, with_pip=False, symlinks=True).create(folder)
    except OSError as error:
        raise InstallError(f"{folder} cannot be created: {error}; correct that and run make again") from None
    _install(folder, [*PINNED, *_files(RUN)], "what the fleet runs with")
    freed = debug_info.drop_below(folder)
    stamp.set()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    took = time.monotonic() - began
    print(f"Set up in {took:.0f} s: {size / 1e6:.0f} MB, after {freed / 1e6:.0f} MB of debug information were dropped.")


def for_tests(folder: Path) -> None:
    """Add what tests, lint and measurements need. What is there stays."""
    stamp = Stamp(folder / ".complete", TEST)
    if stamp.is_fresh():
        return
    print(f"Adding what tests and lint need to {folder}. The first time this downloads about 80 MB.")
    _install(folder, [*PINNED, *_files(TEST)], "what tests and lint need")
    # Here, and not for running, the room that byte code takes matters less than the time: tests start many processes at
    # once, each of which would make the same first.
    subprocess.run(  # noqa: S603
        [folder / "bin" / "python", "-m", "compileall", "-qq", "-j", "0", folder / "lib"], check=False
    )
    stamp.set()


def for_own_agents(folder: Path) -> None:
    """Add what own agents ask for. The constraints keep the other packages as they are: a package that cannot go with
    them is an error that names both."""
    stamp = Stamp(folder / ".agents", (OWN,))
    pinned = folder / "constraints.txt"
    pinned.write_text("".join(f"{line}\n" for line in _pins(Path(*TEST))))
    print(f"Installing what {OWN} asks for.")
    _install(folder, ["-r", OWN, "-c", str(pinned)], f"what {OWN} asks for")
    stamp.set()


def _install(folder: Path, arguments: list[str], what: str) -> None:
    with Pip(folder / "bin" / "python") as pip:
        pip.install(arguments, what)


def _files(names: tuple[str, ...]) -> list[str]:
    return [argument for name in names for argument in ("-r", name)]


def _pins(requirements: Path) -> list[str]:
    """The lines ``NAME==VERSION`` of compiled requirements, without hashes, which a constraint would make pip check."""
    return [line.rstrip(" \\") for line in requirements.read_text().splitlines() if line[:1].isalnum()]


def _runs(folder: Path) -> bool:
    try:
        subprocess.run([folder / "bin" / "python", "-c", ""], check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
