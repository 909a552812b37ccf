"""The compose project as a user has it: a clone, its settings, its containers."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.compose.engine import Inspected, command, crash, docker, inspect, interrupted, run
from tests.harness.fleet import TROUBLE, Address, BackendClient, fetch
from tests.harness.ports import free_port
from tests.harness.process import REPOSITORY

IMAGE = os.environ.get("CHATFLEET_TEST_IMAGE", "chatfleet-test")
"""What the images are called, beside those of whoever works here. Two runs side by side need two names: each builds its
own, and what one replaces the other would find changed."""
PATIENCE = 90.0
"""Seconds for containers to start and be found healthy, on a machine that others use too."""
NOT_CLONED = shutil.ignore_patterns(".*", "__pycache__", "node_modules")
SERVICES = ("init", "host", "gateway", "worker", "model", "ingress")
POLLING = 0.2
UPGRADE = ("bash", "deploy/upgrade.sh")


class Stack:
    """One compose project in a clone of its own; leaving its ``with`` removes every trace of it.

    ``files`` are laid over ``docker-compose.yml``; ``env`` is the text of ``.env``, if there is one.
    """

    def __init__(self, name: str, files: Sequence[str] = (), env: str | None = None, **settings: str) -> None:
        self.project = f"chatfleet-test-{name}-{free_port()}"
        self.folder = Path(tempfile.mkdtemp(prefix="chatfleet-test-"))
        self.clone = self.folder / "chatfleet"
        self.port = free_port()
        self.files = ["docker-compose.yml", *files]
        self._env = env
        self._settings = {"CHATFLEET_PORT": str(self.port), "CHATFLEET_IMAGE": IMAGE} | settings

    @property
    def address(self) -> Address:
        """Where the ingress is published."""
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    # ------------------------------------------------------------ life

    def __enter__(self) -> Self:
        self.folder.chmod(0o755)
        shutil.copytree(REPOSITORY, self.clone, ignore=NOT_CLONED)
        for name in (".dockerignore", ".env.example"):
            shutil.copy(REPOSITORY / name, self.clone)
        if self._env is not None:
            (self.clone / ".env").write_text(self._env)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.logs())
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str) -> Any:
        """A compose command and how it ended."""
        chosen = [part for file in self.files for part in ("-f", file)]
        return run("compose", "-p", self.project, *chosen, *arguments, folder=self.clone, settings=self._settings)

    def compose(self, *arguments: str) -> str:
        """What a compose command writes to standard output; it must end well."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        return str(done.stdout)

    def upgrade(self) -> None:
        """What ``make upgrade`` does; it must end well."""
        done = self.try_upgrade()
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}"

    def try_upgrade(self) -> Any:
        """``make upgrade`` and how it ended."""
        return command(UPGRADE, self.clone, self._project)

    def interrupt_upgrade(self, when: str) -> int:
        """The exit code of ``make upgrade`` that is ended once it has written ``when``."""
        return interrupted(UPGRADE, when, self.clone, self._project)

    @property
    def _project(self) -> dict[str, str]:
        return {"COMPOSE_FILE": ":".join(self.files), "COMPOSE_PROJECT_NAME": self.project} | self._settings

    def set(self, **settings: str) -> None:
        """Further variables for compose, as in the user's shell."""
        self._settings |= settings

    def up(self, *arguments: str, **scales: int) -> None:
        """Start what is missing and wait until all is healthy."""
        scaled = [part for name, count in scales.items() for part in ("--scale", f"{name}={count}")]
        self.compose("up", "-d", "--wait", "--wait-timeout", "120", "--quiet-pull", *arguments, *scaled)

    def scale(self, **counts: int) -> None:
        """More or fewer containers of services, the others left alone; returns when those that leave have left."""
        self.compose("scale", "--no-deps", *[f"{name}={count}" for name, count in counts.items()])

    # ------------------------------------------------------------ containers

    def containers(self, service: str) -> list[str]:
        """Ids of the service's running containers, by their numbers."""
        listed = self.compose("ps", "--no-trunc", "--format", "json", service).splitlines()
        found = [json.loads(line) for line in listed]
        return [container["ID"] for container in sorted(found, key=lambda container: str(container["Name"]))]

    def container(self, service: str) -> str:
        """The id of the service's only container."""
        (found,) = self.containers(service)
        return found

    def all_ids(self) -> list[str]:
        """Ids of the running containers of all services that run on."""
        return self.compose("ps", "-q", *SERVICES[1:]).split()

    def all_containers(self) -> list[Inspected]:
        """Every container of the project, those that have ended too."""
        return [inspect(container) for container in self.compose("ps", "-aq").split()]

    def ip(self, container: str, network: str) -> str:
        """The container's address in one of the project's networks."""
        return str(inspect(container)["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"])

    def exec(self, container: str, *command: str) -> str:
        """What a command inside a container prints; a name that nobody there knows costs it a second and no more."""
        return docker("exec", "-e", "RES_OPTIONS=timeout:1 attempts:1", container, *command)

    def crash(self, container: str) -> None:
        """End a container as a crash does."""
        crash(container, IMAGE)

    # ------------------------------------------------------------ what it says

    @property
    def backend(self) -> BackendClient:
        """The test backend, which runs in the model's place."""
        return BackendClient(f"http://{self.ip(self.container('model'), 'models')}:8502")

    def readiness(self) -> int:
        """The status of ``/readyz``; 0 while nobody listens."""
        return fetch(f"{self.url}/readyz")[0]

    def status(self) -> Any:
        """The JSON of ``/fleet``, as one of the gateways sees it."""
        return fetch(f"{self.url}/fleet")[1]

    def ready_workers(self) -> list[dict[str, Any]]:
        return [worker for worker in (self.status() or {}).get("workers", []) if worker["state"] == "READY"]

    def has_workers(self, count: int) -> bool:
        """Whether so many workers are ready, and no other is known."""
        workers = (self.status() or {}).get("workers", [])
        return [worker["state"] for worker in workers] == ["READY"] * count

    def is_idle(self) -> bool:
        status = self.status() or {}
        return "workers" in status and all(worker["active"] == 0 for worker in status["workers"])

    def gateways_found(self) -> int:
        """To how many gateways the ingress gives requests."""
        status = [self.status() for _ in range(12)]
        # On a busy machine the ingress may answer for a moment that it has no gateway.
        return len({each["gateway"]["id"] for each in status if each and "gateway" in each})

    def logs(self, *services: str, since: float = 0.0) -> str:
        """What the services have written, with the containers' names, since that time of the system's clock."""
        return self.compose("logs", "--no-color", "--since", f"{since:.3f}" if since else "0", *services)

    def assert_no_trouble(self, since: float) -> None:
        """Nothing has been written that nobody handled."""
        log = self.logs(since=since)
        assert not TROUBLE.search(log), log


def settle(state: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Block until a state; a look costs a process or a request, so not too often."""
    deadline = time.monotonic() + within
    while not state():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(POLLING)


def variables(container: Inspected) -> Mapping[str, str]:
    """The environment that a container was given."""
    return dict(variable.partition("=")[::2] for variable in container["Config"]["Env"])
