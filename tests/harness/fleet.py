"""A whole fleet of real processes on loopback, with the test backend as its model."""

import json
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.harness.ports import free_port
from tests.harness.process import Process, end_all
from tests.harness.waiting import wait_until
from tests.schedule import Schedule

Address = tuple[str, int]

SYSTEM_MESSAGE = "You are the test system."
NOBODY = "http://127.0.0.1:1"
"""Where nobody listens."""
START = 60.0
"""Seconds in which a fleet must be ready on a loaded machine."""
TROUBLE = re.compile(r"Traceback \(most recent call last\)|level=(?:error|critical).* at=|Task was destroyed")
"""What no log may hold unless a test expects it: an exception that nobody handled."""


class BackendClient:
    """Asks the model server what it saw, wherever it runs: see :mod:`tests.backend`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def requests(self, tag: str | None = None) -> list[dict[str, Any]]:
        """Records of the requests with this tag, or of all, the oldest first."""
        records: list[dict[str, Any]] = fetch(f"{self.url}/requests" + (f"?tag={tag}" if tag else ""))[1]
        return records

    def request(self, tag: str) -> dict[str, Any]:
        """The record of the one request with this tag."""
        (record,) = self.requests(tag)
        return record

    def forget(self) -> None:
        fetch(f"{self.url}/requests", "DELETE")

    def active(self) -> int:
        """Requests that it answers now."""
        return int(fetch(f"{self.url}/active")[1]["active"])

    def peak(self) -> int:
        """Most requests at once since :meth:`forget`."""
        return int(fetch(f"{self.url}/active")[1]["peak"])

    def say(self, schedule: Schedule | None) -> None:
        """Answer plain messages by ``schedule``, or by an echo."""
        fetch(f"{self.url}/plain", "PUT", schedule.message().encode() if schedule else b"")


class Backend(BackendClient):
    """The model server as a process of its own, with further ``arguments``."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.process = Process("backend", "tests.backend", folder, {}, ["--port", str(self.port), *arguments])
        super().__init__(f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        written = self.process.log_size()
        self.process.start()
        wait_until(lambda: self.process.log(written).endswith("\n"), START, "the backend's port")


class Fleet:
    """Backend, host, workers and gateway. Leaving its ``with`` ends all of them and looks for trouble in their logs.

    With ``start=False`` nothing is started before the test does. ``settings`` go to every process. Each worker calls
    the backend with a key of its own, its name, so that the backend can tell who asks. ``host_address`` is where the
    members look for the host, if not where it listens. ``identities`` holds certificates and tokens, by role. With
    ``watched`` the host and each worker have an address in ``health`` for their health and metrics, by their names.
    """

    def __init__(
        self,
        workers: int = 2,
        settings: Mapping[str, str] | None = None,
        host_address: Address | None = None,
        start: bool = True,
        identities: Path | None = None,
        watched: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chatfleet-test-"))
        self.host_port, self.relay_port = free_port(), free_port()
        self.expects_trouble = False
        self._settings = dict(settings or {})
        self._identities = identities
        self._is_watched = watched
        self.health: dict[str, Address] = {}
        self._members = {"FLEET_HOST": "{}:{}".format(*(host_address or ("127.0.0.1", self.host_port)))}
        self._first_workers = workers
        self._starts = start
        self.backend = Backend(self.folder)
        bind = {"HOST_BIND": f"127.0.0.1:{self.host_port}", "HOST_RELAY_BIND": f"127.0.0.1:{self.relay_port}"}
        bind |= self._health("host")
        self.host = Process("host", "host", self.folder, self._settings | self._identity("host") | bind)
        self.gateways: list[Process] = []
        self.addresses: list[Address] = []
        self.workers: list[Process] = []
        self.new_gateway()
        for _ in range(workers):
            self.new_worker()

    # ------------------------------------------------------------ members

    @property
    def processes(self) -> list[Process]:
        return [self.backend.process, self.host, *self.workers, *self.gateways]

    @property
    def gateway(self) -> Process:
        return self.gateways[0]

    @property
    def address(self) -> Address:
        """Where the first gateway listens."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    def new_gateway(self, **settings: str) -> Process:
        """A further gateway, not yet started."""
        port = free_port()
        bind = {"GATEWAY_BIND": f"127.0.0.1:{port}"}
        name = f"gateway-{len(self.gateways)}"
        gateway = Process(name, "gateway", self.folder, self._member("gateway") | bind | settings)
        self.gateways.append(gateway)
        self.addresses.append(("127.0.0.1", port))
        return gateway

    def new_worker(self, **settings: str) -> Process:
        """A further worker, not yet started."""
        name = f"worker-{len(self.workers)}"
        models = self.folder / f"{name}.yaml"
        models.write_text(yaml.safe_dump(model_entries(self.backend.url, name), sort_keys=False))
        own = {"WORKER_MODELS": str(models)} | self._health(name)
        worker = Process(name, "worker", self.folder, self._member("worker") | own | settings)
        self.workers.append(worker)
        return worker

    def _member(self, role: str) -> dict[str, str]:
        return self._settings | self._members | self._identity(role)

    def _health(self, name: str) -> dict[str, str]:
        if not self._is_watched:
            return {}
        self.health[name] = ("127.0.0.1", free_port())
        return {f"{name.partition('-')[0].upper()}_HEALTH_BIND": "{}:{}".format(*self.health[name])}

    def _identity(self, role: str) -> dict[str, str]:
        return identity_settings(self._identities / role) if self._identities else {}

    # ------------------------------------------------------------ life

    def __enter__(self) -> Self:
        try:
            if self._starts:
                self.start()
                self.wait_until_ready()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        end_all(self.processes)
        if kind is not None:
            print(self.logs())
        trouble = {process.name: process.log() for process in self.processes if TROUBLE.search(process.log())}
        shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None and not self.expects_trouble:
            assert not trouble, "\n".join(f"{name}:\n{log[-8000:]}" for name, log in trouble.items())

    def start(self) -> None:
        """Start every process without waiting for any."""
        self.backend.start()
        for process in self.processes[1:]:
            process.start()

    def wait_until_ready(self, workers: int | None = None, within: float = START) -> None:
        """Until the gateway is ready and knows so many workers, or all that were there at first."""
        expected = self._first_workers if workers is None else workers
        wait_until(lambda: self.readiness()[0] == 200, within, "/readyz is 200")
        wait_until(lambda: len(self.ready_workers()) == expected, within, f"{expected} READY workers in /fleet")

    # ------------------------------------------------------------ what it says

    def readiness(self) -> tuple[int, Any]:
        """Status and JSON of ``/readyz``; status 0 while nobody listens."""
        return fetch(f"{self.url}/readyz")

    def status(self, gateway: int = 0) -> Any:
        """The JSON of ``/fleet``, of the first gateway or another."""
        return fetch("http://{}:{}/fleet".format(*self.addresses[gateway]))[1]

    def ready_workers(self) -> list[dict[str, Any]]:
        return [worker for worker in (self.status() or {}).get("workers", []) if worker["state"] == "READY"]

    def active(self) -> int:
        """Chats that run on workers now, by ``/fleet``."""
        return sum(worker["active"] for worker in self.status()["workers"])

    def is_idle(self) -> bool:
        status = self.status() or {}
        return "workers" in status and all(worker["active"] == 0 for worker in status["workers"])

    def logs(self, since: Mapping[str, int] | None = None, lines: int = 60) -> str:
        """The end of every log, from the given sizes on."""
        ends = []
        for process in self.processes:
            log = process.log((since or {}).get(process.name, 0))
            ends.append(f"--- {process.name}\n" + "\n".join(log.splitlines()[-lines:]))
        return "\n".join(ends)

    def log_sizes(self) -> dict[str, int]:
        return {process.name: process.log_size() for process in self.processes}


def identity_settings(folder: Path) -> dict[str, str]:
    """The environment of a member whose certificate and token lie in ``folder``."""
    tls = {f"FLEET_TLS_{name.upper()}": str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
    return tls | {"FLEET_TOKEN_FILE": str(folder / "token")}


def model_entries(backend: str, key: str) -> dict[str, Any]:
    """The content of ``models.yaml``: ``test`` and ``other``, served by the backend, and ``nowhere``, which is not."""
    abilities = ("vision", "function_calling", "json_output", "structured_output", "multiple_system_messages")
    info = dict.fromkeys(abilities, True) | {"family": "unknown"}
    servers = {"test": backend, "other": backend, "nowhere": NOBODY}
    entries = {
        name: {
            "provider": "autogen_ext.models.openai.OpenAIChatCompletionClient",
            "config": {
                "model": name,
                "base_url": f"{server}/v1",
                "api_key": key,
                "max_retries": 0,
                "model_info": info,
            },
            "system_message": SYSTEM_MESSAGE,
        }
        for name, server in servers.items()
    }
    return {"models": entries}


def fetch(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; ``(0, None)`` where nobody listens or the answer breaks off."""
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, json.loads(answer.read() or b"null")
    except OSError:
        return 0, None
