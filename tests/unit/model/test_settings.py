"""The embedded model's settings."""

import os

import pytest
from pydantic import SecretStr

from fleet.settings import BAD_SETTINGS, HostPort, load
from model.settings import ModelSettings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MODEL_"):
            monkeypatch.delenv(name)


def test_no_key_is_needed_on_loopback() -> None:
    settings = load(ModelSettings)
    assert settings.bind == HostPort("127.0.0.1", 8502)
    assert settings.api_key is None
    assert settings.threads >= 1


@pytest.mark.parametrize("bind", ["0.0.0.0:8502", "[::]:8502", "model:8502"])
def test_a_key_is_needed_beyond_loopback(
    bind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_BIND", bind)
    monkeypatch.setenv("MODEL_API_KEY", "")
    with pytest.raises(SystemExit) as ended:
        load(ModelSettings)
    assert ended.value.code == BAD_SETTINGS
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MODEL_API_KEY: must be set")
    assert bind in line


def test_a_key_opens_other_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_BIND", "0.0.0.0:8502")
    monkeypatch.setenv("MODEL_API_KEY", "a-key-of-the-fleet")
    assert load(ModelSettings).api_key == SecretStr("a-key-of-the-fleet")


def test_a_bad_address_is_the_only_complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_BIND", "8502")
    with pytest.raises(SystemExit):
        load(ModelSettings)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MODEL_BIND: must be HOST:PORT")
