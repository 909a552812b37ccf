"""Settings that are more than a number."""

import pytest
from pydantic import ValidationError

from fleet.settings import HostPort
from gateway.settings import GatewaySettings

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("given", "origins"),
    [("", []), ("*", ["*"]), ("https://a.example, https://b.example,", ["https://a.example", "https://b.example"])],
)
def test_lists_are_separated_by_commas(given: str, origins: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_CORS_ORIGINS", given)
    assert GatewaySettings().cors_origins == origins


def test_the_memory_for_bodies_holds_a_large_one() -> None:
    assert GatewaySettings(max_body=3 * MIB, bodies_memory=4 * MIB).max_body == 3 * MIB
    with pytest.raises(ValidationError, match="GATEWAY_BODIES_MEMORY: must be at least 4/3 of GATEWAY_MAX_BODY"):
        GatewaySettings(max_body=3 * MIB + 1, bodies_memory=4 * MIB)


@pytest.mark.parametrize("port", [0, 8501])
def test_the_port_for_proxies_is_one_of_its_own(port: int) -> None:
    """On another address with the port of GATEWAY_BIND, every client there would have to send a header too."""
    with pytest.raises(ValidationError, match="GATEWAY_PROXY_BIND: must have a port that is not that of GATEWAY_BIND"):
        GatewaySettings(bind=HostPort("127.0.0.1", 8501), proxy_bind=HostPort("::1", port))
