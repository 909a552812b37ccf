"""Certificates, tokens, and what is said of those that cannot be used."""

import asyncio
import datetime
import shutil
import ssl
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from fleet.security import diagnosis
from fleet.security.diagnosis import Diagnosis, refusal
from fleet.security.identity import Identity, IdentityError, ServerContext
from fleet.security.tokens import TokenError, Tokens
from fleet.settings import BAD_SETTINGS, FleetSettings, load
from identities import authority
from identities.__main__ import host_name
from identities.authority import ROLES, Authority, Change
from tests.harness.ports import free_port
from tests.harness.waiting import SOON


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identities")
    Authority(folder).update(host_names=["fleet.example.com", "10.1.2.3"])
    return folder


@pytest.fixture
def identities(made: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(made, tmp_path / "identities"))


def identity(folder: Path) -> Identity:
    return Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def handshake(server: Path, client: Path, name: str) -> None:
    """TLS between two members, in memory. Raises ``ssl.SSLError`` when either refuses the other."""
    listening = identity(server).server_context()
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        identity(client).context().wrap_bio(back, there, server_hostname=name),
        listening.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for end in ends:
        assert end.version()


@pytest.mark.parametrize("role", ["gateway", "worker"])
@pytest.mark.parametrize("name", ["host", "localhost", "127.0.0.1", "fleet.example.com", "10.1.2.3"])
def test_members_and_the_host_trust_each_other(made: Path, role: str, name: str) -> None:
    handshake(made / "host", made / role, name)


def test_a_servers_context_is_made_anew_when_a_file_changed_and_kept_while_one_cannot_be_used(identities: Path) -> None:
    context = ServerContext(identity(identities / "host"))
    first = context()
    assert context() is first
    key = (identities / "host" / "key.pem").read_bytes()
    (identities / "host" / "key.pem").write_bytes(b"no key")
    assert context() is first
    (identities / "host" / "key.pem").write_bytes(key)
    assert context() is not first


def test_another_name_is_not_the_host(made: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made / "host", made / "worker", "elsewhere.example.com")


def test_a_worker_cannot_pose_as_the_host(made: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made / "worker", made / "gateway", "worker")


def test_only_their_owner_reads_what_is_made(made: Path) -> None:
    for path in made.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_what_is_good_stays(identities: Path) -> None:
    before = contents(identities)
    assert Authority(identities).update() == []
    assert contents(identities) == before


def test_members_get_no_key_but_their_own(made: Path) -> None:
    for role in ROLES:
        assert {path.name for path in (made / role).iterdir()} == {"ca.pem", "cert.pem", "key.pem", "token"}
        assert (made / "authority" / "ca.key").read_bytes() not in contents(made / role).values()


def test_renewing_keeps_the_names_and_the_authority(identities: Path) -> None:
    old = certificate(identities / "host").serial_number
    Authority(identities).update(Change.RENEW)
    assert certificate(identities / "host").serial_number != old
    handshake(identities / "host", identities / "worker", "fleet.example.com")


def test_a_certificate_that_ends_soon_is_renewed(identities: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = certificate(identities / "worker")
    left = old.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    monkeypatch.setattr(authority, "RENEW_DAYS", left.days - 1)
    Authority(identities).update()
    assert certificate(identities / "worker") == old
    monkeypatch.setattr(authority, "RENEW_DAYS", left.days + 1)
    Authority(identities).update()
    assert certificate(identities / "worker") != old


@pytest.mark.parametrize(
    "lost", ["worker/cert.pem", "worker/key.pem", "worker/token", "authority/ca.key", "host/ca.pem"]
)
def test_what_is_lost_is_made_again(identities: Path, lost: str) -> None:
    (identities / lost).unlink()
    Authority(identities).update()
    handshake(identities / "host", identities / "worker", "host")
    assert (identities / lost).exists()


def test_a_key_of_another_certificate_is_replaced(identities: Path) -> None:
    shutil.copy(identities / "gateway" / "key.pem", identities / "worker" / "key.pem")
    Authority(identities).update()
    handshake(identities / "host", identities / "worker", "host")


def test_an_authority_changes_in_three_steps_in_which_old_and_new_always_meet(identities: Path, tmp_path: Path) -> None:
    """A member whose files lag one step behind still gets in; one that lags to the end does not."""
    steps = (Change.NEW_AUTHORITY, Change.RENEW, Change.REVOKE_OLD)
    first = Path(shutil.copytree(identities, tmp_path / "first"))
    for number, step in enumerate(steps):
        before = Path(shutil.copytree(identities, tmp_path / f"before-{number}"))
        Authority(identities).update(step)
        handshake(identities / "host", before / "worker", "host")
        handshake(before / "host", identities / "worker", "host")
    with pytest.raises(ssl.SSLError):
        handshake(identities / "host", first / "worker", "host")


def test_a_new_token_is_taken_beside_the_old_until_that_is_revoked(identities: Path) -> None:
    old = Tokens(None, identities / "worker" / "token").own()
    host = Tokens(None, identities / "host" / "token")
    Authority(identities).update(Change.NEW_TOKEN)
    new = Tokens(None, identities / "worker" / "token").own()
    assert new != old
    assert host.accepts(f"Bearer {new}")
    assert host.accepts(f"Bearer {old}")
    Authority(identities).update(Change.REVOKE_OLD)
    assert host.accepts(f"Bearer {new}")
    assert not host.accepts(f"Bearer {old}")


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_each_role_has_a_token_of_its_own(identities: Path) -> None:
    host = Tokens(None, identities / "host" / "token")
    assert host.name_roles()
    for role in ("gateway", "worker"):
        (own,) = lines(identities / role / "token")
        assert host.roles(f"Bearer {own}") == {role}


def test_a_directory_with_one_token_gets_roles_in_steps_in_which_nobody_is_locked_out(identities: Path) -> None:
    """One of the version before: it stays as it is until new tokens are asked for."""
    old = "the-token-of-the-version-before"
    for folder in ("authority", "host", "gateway", "worker"):
        (identities / folder / "token").write_text(f"{old}\n")
    host = Tokens(None, identities / "host" / "token")
    assert Authority(identities).update() == []
    assert not host.name_roles()
    Authority(identities).update(Change.NEW_TOKEN)
    assert host.roles(f"Bearer {old}") == {"worker", "gateway", "other"}
    for role in ("gateway", "worker"):
        (own,) = lines(identities / role / "token")
        assert host.roles(f"Bearer {own}") == {role}
    Authority(identities).update(Change.REVOKE_OLD)
    assert host.name_roles()
    assert not host.accepts(f"Bearer {old}")
    for role in ("gateway", "worker"):
        assert host.accepts(f"Bearer {lines(identities / role / 'token')[0]}")


def test_a_members_own_file_may_name_its_role(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("worker the-token-of-all-workers\nthe-token-of-everybody\n")
    tokens = Tokens(None, file)
    assert tokens.own() == "the-token-of-all-workers"
    assert tokens.roles("Bearer the-token-of-all-workers") == {"worker"}
    assert tokens.roles("Bearer the-token-of-everybody") == {"worker", "gateway", "other"}
    assert tokens.roles("Bearer worker the-token-of-all-workers") == frozenset()
    assert not tokens.name_roles()


@pytest.mark.parametrize(
    "line",
    ["king the-token-of-all-kings", "worker short", "worker  two-blanks-are-too-many", "worker #comment-comment"],
)
def test_a_line_that_is_neither_a_token_nor_a_role_and_one_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "token"
    file.write_text(f"{line}\n")
    with pytest.raises(TokenError, match="token: "):
        Tokens(None, file)


@pytest.mark.parametrize(
    "header", ["", "Bearer ", "Bearer wrong-wrong-wrong", "bearer the-right-token-123", b"\xff\xfe"]
)
def test_other_tokens_are_not_accepted(header: str | bytes) -> None:
    tokens = Tokens("the-right-token-123", None)
    assert not tokens.accepts(header)
    assert tokens.accepts("Bearer the-right-token-123")


def test_a_token_file_that_breaks_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("the-right-token-123\n")
    tokens = Tokens(None, file)
    for broken in ("", "short\n", "two words, a long line\n", "ünprintable-ünprintable\n"):
        file.write_text(broken)
        assert tokens.own() == "the-right-token-123"
    file.unlink()
    assert tokens.accepts("Bearer the-right-token-123")


def test_a_token_file_that_comes_back_as_it_was_is_told(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("the-right-token-123\n")
    tokens = Tokens(None, file)
    with capture_logs() as lines:
        for _ in range(2):
            file.rename(tmp_path / "away")
            tokens.own()
            (tmp_path / "away").rename(file)
            tokens.own()
            tokens.own()
    told = ["a changed token file cannot be used, going on with the old one", "using a changed token file"]
    assert [line["event"] for line in lines] == told * 2


def test_tls_files_that_come_back_as_they_were_are_told(identities: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, asked = identities / "host", []
    monkeypatch.setattr("grpc.dynamic_ssl_server_credentials", lambda _, changed, **__: asked.append(changed))
    identity(host).server_credentials()
    (changed,) = asked
    with capture_logs() as lines:
        assert changed() is None
        (host / "cert.pem").rename(host / "away")
        assert changed() is None
        assert changed() is None
        (host / "away").rename(host / "cert.pem")
        assert changed() is not None
        assert changed() is None
    told = ["changed TLS files cannot be used, going on with the old ones", "using changed TLS files"]
    assert [line["event"] for line in lines] == told


@pytest.mark.parametrize("content", ["", "\n\n", "short", "with spaces in a long line", "tab\tin-a-long-enough-line"])
def test_a_useless_token_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(TokenError, match="token: "):
        Tokens(None, file)


def test_files_that_do_not_fit_are_named(identities: Path, tmp_path: Path) -> None:
    worker, gateway = identities / "worker", identities / "gateway"
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    good = (worker / "ca.pem", worker / "cert.pem", worker / "key.pem")
    Identity(*good).check()
    for place, wrong, words in (
        (0, rubbish, "FLEET_TLS_CA: .*rubbish.pem: holds no PEM certificates"),
        (0, tmp_path / "none", "FLEET_TLS_CA: .*none: no such file"),
        (1, tmp_path / "none", "FLEET_TLS_CERT: .*none: no such file"),
        (2, tmp_path / "none", "FLEET_TLS_KEY: .*none: no such file"),
        (1, rubbish, "FLEET_TLS_CERT, FLEET_TLS_KEY: .*rubbish.pem"),
        (2, rubbish, "FLEET_TLS_CERT, FLEET_TLS_KEY: .*rubbish.pem"),
        (2, gateway / "key.pem", "FLEET_TLS_KEY: .*key.pem is not the key of"),
    ):
        files = list(good)
        files[place] = wrong
        with pytest.raises(IdentityError, match=words):
            Identity(*files).check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FLEET_TLS_CA": "worker/ca.pem"}, "FLEET_TLS_CERT: missing"),
        ({"FLEET_TLS_CERT": "worker/cert.pem", "FLEET_TLS_KEY": "worker/key.pem"}, "FLEET_TLS_CA: missing"),
        ({"FLEET_TOKEN_FILE": "nowhere"}, "FLEET_TOKEN_FILE: nowhere: no such file"),
        ({"FLEET_TOKEN_FILE": "worker/token", "FLEET_TOKEN": "t" * 16}, "FLEET_TOKEN_FILE: FLEET_TOKEN is set too"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(made)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load(FleetSettings)
    assert ended.value.code == BAD_SETTINGS
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(words)


def test_changes_asked_for_twice_lock_nobody_out(identities: Path, tmp_path: Path) -> None:
    """As after an interrupted run: members that lag behind both still get in."""
    before = Path(shutil.copytree(identities, tmp_path / "before"))
    old = Tokens(None, identities / "worker" / "token").own()
    for _ in range(2):
        Authority(identities).update(Change.NEW_AUTHORITY, Change.NEW_TOKEN)
    handshake(identities / "host", before / "worker", "host")
    handshake(before / "host", identities / "worker", "host")
    assert Tokens(None, identities / "host" / "token").accepts(f"Bearer {old}")
    Authority(identities).update(Change.RENEW, Change.REVOKE_OLD)
    with pytest.raises(ssl.SSLError):
        handshake(identities / "host", before / "worker", "host")
    assert not Tokens(None, identities / "host" / "token").accepts(f"Bearer {old}")


def test_an_authority_that_would_end_before_its_certificates_is_replaced(
    identities: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (identities / "authority" / "ca.pem").read_bytes()
    monkeypatch.setattr(authority, "CERT_DAYS", authority.CA_DAYS + 1)
    Authority(identities).update()
    after = (identities / "authority" / "ca.pem").read_bytes()
    assert after != before
    assert after.endswith(before)


def test_a_certificate_of_nobody_trusted_or_without_a_wanted_name_is_replaced(identities: Path, tmp_path: Path) -> None:
    Authority(tmp_path / "other").update()
    for name in ("cert.pem", "key.pem"):
        shutil.copy(tmp_path / "other" / "worker" / name, identities / "worker" / name)
    Authority(identities).update(host_names=["another.example.com"])
    handshake(identities / "host", identities / "worker", "another.example.com")
    handshake(identities / "host", identities / "worker", "fleet.example.com")


@pytest.mark.parametrize("broken", ["authority/ca.pem", "authority/ca.key", "host/cert.pem", "worker/key.pem"])
def test_what_cannot_be_read_is_named(identities: Path, broken: str) -> None:
    (identities / broken).write_text("-----BEGIN RUBBISH-----")
    folder, _, name = broken.partition("/")
    with pytest.raises(ValueError, match=f"^{name} of {folder}: "):
        Authority(identities).update()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (" a.example.com", "a.example.com"),
        ("[::1]", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_names_of_hosts(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize("text", ["a b", "host:50051", "1.2.3", "https://host", "bücher.example", "a..b", "-a"])
def test_what_is_no_name_of_a_host(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        host_name(text)
    assert capsys.readouterr().err.startswith(f"--host: {text!r} is neither")


def test_a_broken_token_file_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text("the-right-token-123\n")
    tokens = Tokens(None, file)
    file.write_text("")
    for _ in range(3):
        tokens.accepts("Bearer the-right-token-123")
    said = capsys.readouterr()
    assert (said.out + said.err).count("cannot be used") == 1


async def test_no_look_at_a_host_raises(made: Path) -> None:
    """Whatever the address is, a member goes on trying."""
    for host in ("a..b", ".host", "x" * 64 + ".example", "127.0.0.1"):
        assert await refusal((host, 1), identity(made / "worker")) is None
        assert await refusal((host, 1), None) is None


async def test_a_host_is_asked_for_a_diagnosis_now_and_then_and_nothing_is_raised(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "EVERY", SOON)
    answers: list[Any] = ["no TLS", RuntimeError("no thread")]

    async def ask(address: tuple[str, int], identity: Identity | None) -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast("str", answer)

    monkeypatch.setattr(diagnosis, "refusal", ask)
    found = Diagnosis()
    for _ in range(3):
        assert await found.refusal(("127.0.0.1", 1), None) == "no TLS"
    assert len(answers) == 1
    monkeypatch.setattr(diagnosis, "EVERY", 0.0)
    found = Diagnosis()
    assert await found.refusal(("127.0.0.1", 1), None) is None


async def test_a_diagnosis_waits_for_nothing_else_that_runs_in_threads() -> None:
    loop, go = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    stuck = loop.run_in_executor(None, go.wait)
    try:
        async with asyncio.timeout(5):
            assert await refusal(("127.0.0.1", free_port()), None) is None
    finally:
        go.set()
        await stuck
