"""How a worker reaches a model: for its log, and so that gateways can tell one provider's account from another."""

import hashlib
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from worker.contract.masking import mask

SHORTEST = 6
"""Characters of a value that is taken for a key: ``none`` and its like are part of many words."""

MODEL = ("model", "azure_deployment")
"""Names in an entry's config that say which model it is."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_SECRET = re.compile(r"key|token|secret|password|authorization|credential", re.IGNORECASE)


@dataclass(frozen=True)
class Route:
    host: str = ""
    """The server's name and port."""
    fingerprint: int = 0
    """The same for all workers whose entries of ``models.yaml`` are the same."""
    server: int = 0
    """The same for all entries, of any worker, with the same address, keys and model."""
    secrets: tuple[str, ...] = ()

    def mask(self, text: str) -> str:
        return mask(text, self.secrets)


def route(provider: str, config: Mapping[str, Any], client: Any) -> Route:
    """The route of a model's ``client``, made from its entry's ``config``."""
    inner = getattr(client, "_client", None)  # where AutoGen's clients have an SDK's, which knows its default address
    url = getattr(inner, "base_url", None) or getattr(getattr(inner, "_client", None), "base_url", None)
    host = getattr(url, "netloc", b"").decode("ascii", "replace").rpartition("@")[2]
    entry = orjson.dumps([provider, config], default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    sent = str(getattr(inner, "headers", {}).get("authorization", "")).rpartition(" ")[2]
    # Clients also take keys from the environment.
    found = {*_secrets(config), sent, *(getattr(inner, name, None) for name in ("api_key", "auth_token"))}
    secrets = sorted((text for text in found if isinstance(text, str) and len(text) >= SHORTEST), key=len, reverse=True)
    account = [str(url), [config.get(name) for name in MODEL], sorted(text for text in found if isinstance(text, str))]
    if getattr(url, "host", "") in LOOPBACK:  # another server on each machine
        account.append(socket.gethostname())
    server = _fingerprint(orjson.dumps(account, default=str)) if host else _fingerprint(entry)
    return Route(host, _fingerprint(entry), server, tuple(secrets))


def _fingerprint(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:4]) or 1  # 0 stands for none


def _secrets(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and _SECRET.search(str(name)):
            yield value
            yield value.rpartition(" ")[2]  # of "Bearer …"
