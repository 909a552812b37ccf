"""What the doctor shows of settings."""

import pytest

from doctor.settings import MASK, masked


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("FLEET_TOKEN", "secret", MASK),
        ("MODEL_API_KEY", "", ""),
        ("MODEL_URL", "http://u:pw@h/v1", f"http://{MASK}@h/v1"),
        ("MODEL_URL", "https://h/v1?api-key=abc&x=1", f"https://h/v1?api-key={MASK}&x=1"),
        ("GATEWAY_BIND", "127.0.0.1:8501", "127.0.0.1:8501"),
    ],
)
def test_secrets_are_masked(name: str, value: str, shown: str) -> None:
    assert masked(name, value) == shown
