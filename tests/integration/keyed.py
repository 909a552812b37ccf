"""A gateway that asks for keys, beside the one of a running fleet."""

import hashlib
import secrets
import sys
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.harness.fleet import START, TROUBLE, Fleet
from tests.harness.ports import free_port
from tests.harness.process import Process, end_all
from tests.harness.waiting import wait_until


class KeyedGateway:
    """Has a key by each name of ``entries``. Leaving its ``with`` ends it, and looks for keys and trouble in logs."""

    def __init__(self, fleet: Fleet, entries: dict[str, dict[str, Any]], **settings: str) -> None:
        self.fleet = fleet
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.entries = entries
        self.keys = {name: f"test-key-{secrets.token_urlsafe(24)}" for name in entries}
        self.file = fleet.folder / f"keys-{self.port}.yaml"
        self.write(entries)
        own = {"GATEWAY_BIND": f"127.0.0.1:{self.port}", "GATEWAY_KEYS": str(self.file)}
        host = {"FLEET_HOST": f"127.0.0.1:{fleet.host_port}"}
        self.process = Process(f"gateway-{self.port}", "gateway", fleet.folder, host | own | settings)
        self._log_sizes = fleet.log_sizes()

    def __enter__(self) -> Self:
        self.process.start()
        try:
            wait_until(self._is_ready, START, "the gateway with keys sees both workers")
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        end_all([self.process])
        if kind is not None:
            print(self.process.log())
            return
        logs = self.process.log() + self.fleet.logs(self._log_sizes, lines=sys.maxsize)
        assert not TROUBLE.search(self.process.log()), self.process.log()
        assert "test-key-" not in logs
        for key in self.keys.values():
            assert key not in logs

    def client(self, name: str | None = None, key: str | None = None, **headers: str) -> httpx.Client:
        """A client with the key of that name, or with ``key``, or with none."""
        key = self.keys[name] if name else key
        headers = {"authorization": f"Bearer {key}", **headers} if key is not None else headers
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def write(self, entries: dict[str, dict[str, Any]]) -> None:
        """Make these the content of the file, in one step."""
        keys = [
            {"name": name, "sha256": hashlib.sha256(self.keys[name].encode()).hexdigest(), **limits}
            for name, limits in entries.items()
        ]
        self.replace(yaml.safe_dump({"keys": keys}))

    def replace(self, text: str) -> None:
        """Make this the content of the file, in one step."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def _is_ready(self) -> bool:
        try:
            with self.client(next(iter(self.keys))) as client:
                workers: list[dict[str, Any]] = client.get("/fleet").json()["workers"]
        except (httpx.TransportError, KeyError):
            return False
        return len([worker for worker in workers if worker["state"] == "READY"]) == len(self.fleet.workers)
