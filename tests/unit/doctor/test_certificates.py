"""What is wrong with certificates, keys and tokens."""

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from doctor import certificates
from doctor.findings import Level
from fleet.settings import FleetSettings
from identities import authority
from identities.authority import Authority
from tests.harness.fleet import identity_settings

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEET_TOKEN", "FLEET_HOST"):
        monkeypatch.delenv(name, raising=False)


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, days: int = 365, began: int = 0) -> Path:
    """Identities whose certificates are valid for so many days, from so many days ago on."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Then":
            return super().now(tz) - datetime.timedelta(days=began)

    with monkeypatch.context() as patch:
        patch.setattr(authority, "CERT_DAYS", days)
        patch.setattr("identities.authority.datetime.datetime", Then)
        Authority(folder).update()
    return folder


def settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FleetSettings:
    for name, value in identity_settings(folder).items():
        monkeypatch.setenv(name, value)
    return FleetSettings()


def found(fleet: FleetSettings, kind: str = "worker") -> Iterator[str]:
    return (f"{finding.level.value}: {finding.text}" for finding in certificates.of_process(fleet, "it", kind))


def test_good_files_are_told_with_names_and_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, monkeypatch) / "worker"
    told = list(found(settings(folder, monkeypatch)))
    assert told == [
        f"ok: it: {folder}/cert.pem is valid for worker, for another 364 days",
        f"ok: it: {folder}/token holds 1 token",
    ]


@pytest.mark.parametrize(
    ("days", "began", "level", "words"),
    [
        (20, 0, "WARN", "ends on "),
        (20, 40, "FAIL", "ended on "),
        (20, -3, "FAIL", "is valid from "),
    ],
)
def test_a_certificate_out_of_its_time_is_told(
    days: int, began: int, level: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, monkeypatch, days, began) / "worker"
    told = list(found(settings(folder, monkeypatch)))
    assert any(line.startswith(f"{level}: it: {folder}/cert.pem {words}") for line in told), told


def test_the_certificate_of_another_role_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, monkeypatch) / "gateway"
    fleet = settings(folder, monkeypatch)
    assert f"FAIL: it: {folder}/cert.pem is the certificate of a gateway" in found(fleet, "worker")
    assert not [line for line in found(fleet, "gateway") if "FAIL" in line]


def test_a_certificate_of_another_authority_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "ours", monkeypatch) / "worker"
    shutil.copy(made(tmp_path / "theirs", monkeypatch) / "worker" / "ca.pem", folder)
    told = list(found(settings(folder, monkeypatch)))
    assert f"FAIL: it: no authority in {folder}/ca.pem has signed {folder}/cert.pem" in told


def test_files_that_others_can_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, monkeypatch) / "worker"
    for name in ("key.pem", "token"):
        (folder / name).chmod(0o644)
    told = list(found(settings(folder, monkeypatch)))
    assert f"WARN: it: {folder}/key.pem has mode 644" in told
    assert f"WARN: it: {folder}/token has mode 644" in told


def test_a_folder_of_all_roles_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = list(certificates.of_folder(made(tmp_path, monkeypatch)))
    assert {finding.level for finding in findings} == {Level.OK}
    assert sum("is valid for" in finding.text for finding in findings) == 3
    (tmp_path / "host" / "key.pem").write_text("nothing")
    assert any(finding.level is Level.PROBLEM for finding in certificates.of_folder(tmp_path))


def test_without_tls_a_host_elsewhere_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(found(FleetSettings())) == []
    monkeypatch.setenv("FLEET_HOST", "fleet.example.com:50051")
    assert list(found(FleetSettings())) == ["WARN: it: no TLS to fleet.example.com:50051"]
