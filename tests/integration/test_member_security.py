"""Members that show the right certificate and token are let in, all others are refused with one line on both sides.

The member's line says why. gRPC tells the host only that a handshake failed, so its line for that says no more.
"""

import asyncio
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from identities.authority import Authority, Change
from tests.faults.crowd import Say, constant_load
from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import Fleet, identity_settings
from tests.harness.process import REPOSITORY, Process
from tests.harness.waiting import eventually, wait_until
from tests.schedule import Schedule

WITHIN = 60.0
ALERT = b"\x15"
"""First byte of an alert in TLS."""
TLS_FAILED = "TLS or HTTP/2 failed before it authenticated"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of another fleet."""
    folder = tmp_path_factory.mktemp("strangers")
    Authority(folder).update()
    return folder


@pytest.fixture(scope="module")
def fleet(identities: Path) -> Iterator[Fleet]:
    with Fleet(workers=1, identities=identities) as fleet:
        yield fleet


def refused(fleet: Fleet, settings: dict[str, str], member: str, host: str) -> None:
    """A worker with these settings does not get in; both sides say why, once each."""
    worker = fleet.new_worker(**settings)
    before = fleet.host.log_size()
    worker.start()
    try:
        worker.wait_for_log(member, WITHIN)
        wait_until(lambda: host in fleet.host.log(before), WITHIN, f"{host!r} in the host's log")
        wait_until(lambda: len(fleet.ready_workers()) == 1, WITHIN, "nobody else is in")
        time.sleep(3)  # not for a state: it goes on trying about once a second
        # Each new reason is logged once. On a busy machine the host may seem to be away in between.
        reasons = reasons_of(worker)
        assert any(member in reason for reason in reasons), reasons
        assert not [reason for reason, following in pairwise(reasons) if reason == following], reasons
        assert "joined the host" not in worker.log()
        lines = fleet.host.log(before).splitlines()
        assert sum('event="refused a' in line for line in lines) == 1, lines
    finally:
        forget(fleet, worker)


def reasons_of(worker: Process) -> list[str]:
    """Why it cannot join, one for each line that says so."""
    return [line.partition("reason=")[2] for line in worker.log().splitlines() if "cannot join" in line]


def forget(fleet: Fleet, worker: Process) -> None:
    """The next one may have its name."""
    worker.end()
    fleet.workers.remove(worker)
    worker.log_file.unlink()


async def test_a_fleet_with_certificates_and_a_token_serves(fleet: Fleet) -> None:
    schedule = Schedule(tokens=200)
    assert_complete(await ask(fleet.address, schedule), schedule)
    assert " token=true tls=true" in fleet.host.log()


def test_a_member_without_the_token_is_refused(fleet: Fleet) -> None:
    refused(fleet, {"FLEET_TOKEN_FILE": ""}, "FLEET_TOKEN is missing or wrong", "FLEET_TOKEN is missing or wrong")


def test_a_member_with_another_fleets_certificate_is_refused(fleet: Fleet, strangers: Path, identities: Path) -> None:
    theirs = identity_settings(strangers / "worker")
    ours = identity_settings(identities / "worker")
    refused(
        fleet,
        {"FLEET_TLS_CERT": theirs["FLEET_TLS_CERT"], "FLEET_TLS_KEY": theirs["FLEET_TLS_KEY"]},
        "the host does not take this member's certificate",
        TLS_FAILED,
    )
    assert ours["FLEET_TLS_CA"] != theirs["FLEET_TLS_CA"]


def test_a_member_whose_certificate_has_ended_hears_when(
    fleet: Fleet, identities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("identities.authority.CERT_DAYS", 0)
    shutil.copytree(identities, tmp_path, dirs_exist_ok=True)
    Authority(tmp_path).update(Change.RENEW)
    worker = fleet.new_worker(**identity_settings(tmp_path / "worker"))
    worker.start()
    try:
        worker.wait_for_log(
            "the host does not take this member's certificate (FLEET_TLS_CERT), which ended on 2", WITHIN
        )
        wait_until(lambda: len(fleet.ready_workers()) == 1, WITHIN, "nobody else is in")
    finally:
        forget(fleet, worker)


def test_a_member_without_tls_is_refused(identities: Path) -> None:
    nothing = dict.fromkeys(("FLEET_TLS_CA", "FLEET_TLS_CERT", "FLEET_TLS_KEY"), "")
    with Fleet(workers=1, identities=identities) as fleet:  # the other's log has its line for this minute
        refused(fleet, nothing, "the host wants TLS", TLS_FAILED)


def test_a_member_does_not_join_a_host_of_another_fleet(fleet: Fleet, strangers: Path) -> None:
    worker = fleet.new_worker(**identity_settings(strangers / "worker"))
    worker.start()
    try:
        worker.wait_for_log("the host's certificate is not trusted", WITHIN)
        wait_until(lambda: len(fleet.ready_workers()) == 1, WITHIN, "nobody else is in")
    finally:
        forget(fleet, worker)


def test_a_member_with_tls_does_not_join_a_host_without(identities: Path) -> None:
    with Fleet(workers=1) as plain:
        worker = plain.new_worker(**identity_settings(identities / "worker"))
        worker.start()
        worker.wait_for_log("the host speaks without TLS", WITHIN)
        wait_until(lambda: len(plain.ready_workers()) == 1, WITHIN, "nobody else is in")


def test_a_wrong_token_is_refused_without_tls_too(tmp_path: Path) -> None:
    with Fleet(workers=1, settings={"FLEET_TOKEN": "the-token-of-this-fleet"}) as plain:
        refused(plain, {"FLEET_TOKEN": "the-token-of-another"}, "FLEET_TOKEN is missing or wrong", "refused a member")


def test_a_member_that_was_there_before_the_host_hears_why_it_is_refused(identities: Path, strangers: Path) -> None:
    """The usual order: first nobody listens, then somebody who refuses."""
    theirs = identity_settings(strangers / "worker")
    with Fleet(workers=1, identities=identities, start=False) as fleet:
        others = {name: theirs[name] for name in ("FLEET_TLS_CERT", "FLEET_TLS_KEY")}
        worker = fleet.new_worker(**others)
        worker.start()
        worker.wait_for_log("cannot join the host", WITHIN)
        fleet.host.start()
        worker.wait_for_log("the host does not take this member's certificate", WITHIN)
        fleet.host.wait_for_log(TLS_FAILED, WITHIN)
        reasons = reasons_of(worker)
        assert not [reason for reason, following in pairwise(reasons) if reason == following], reasons


def test_a_refused_call_is_not_even_read(identities: Path, tmp_path: Path, figures: Say) -> None:
    """One that is as large as the bus carries, from somebody with a certificate and no token."""
    with Fleet(workers=0, identities=identities, start=False) as fleet:
        fleet.host.start()
        fleet.host.wait_for_log("listening", WITHIN)
        credentials = identity_settings(identities / "worker")
        files = [Path(credentials[f"FLEET_TLS_{part}"]).read_bytes() for part in ("CA", "KEY", "CERT")]
        options = [("grpc.max_send_message_length", -1)]
        address = f"127.0.0.1:{fleet.host_port}"
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options) as channel:
            call: Any = channel.unary_unary("/agents.AgentRpc/RegisterAgent")
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=WITHIN)
            before = psutil.Process(fleet.host.pid).memory_info().rss
            calls = [call.future(bytes(30 * 1024 * 1024), timeout=WITHIN) for _ in range(8)]
            assert {future.code() for future in calls} == {grpc.StatusCode.UNAUTHENTICATED}
        grown = (psutil.Process(fleet.host.pid).memory_info().rss - before) / 2**20
        figures(f"8 refused calls of 30 MiB: host {grown:+.1f} MiB")
        assert grown < 100


@pytest.mark.parametrize("port", ["host_port", "relay_port"])
def test_a_scan_gets_nothing(fleet: Fleet, port: str) -> None:
    """What a scanner sends: plain HTTP, plain HTTP/2, zeros, and TLS without a certificate."""
    address = ("127.0.0.1", getattr(fleet, port))
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    for sent in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", http2, b"\x00" * 64):
        with socket.create_connection(address, 15) as scanner:
            scanner.sendall(sent)
            # One word of TLS, an alert, is all that there may be.
            answer = everything(scanner)
            assert answer == b"" or (answer[:1], len(answer)) == (ALERT, 7), answer
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(address, 15) as scanner, context.wrap_socket(scanner) as tls:
        tls.sendall(http2)
        assert everything(tls) == b""


def everything(scanner: socket.socket) -> bytes:
    try:
        return b"".join(iter(lambda: scanner.recv(65536), b""))
    except (ConnectionError, ssl.SSLError):
        return b""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_everything_is_replaced_without_losing_a_stream(tmp_path: Path, figures: Say) -> None:
    """Authority, certificates and token change under load, members and the host come and go, and the old is revoked."""
    authority = Authority(tmp_path)
    authority.update()
    with Fleet(workers=2, identities=tmp_path) as fleet:
        long = Schedule(tokens=400, delay=0.05)
        async with asyncio.TaskGroup() as group, constant_load(fleet.address, Schedule) as tally:
            stream = group.create_task(ask(fleet.address, long))
            old = tmp_path.with_name(tmp_path.name + "-old")
            await asyncio.to_thread(shutil.copytree, tmp_path, old)
            for changes in ((Change.NEW_AUTHORITY, Change.NEW_TOKEN), (Change.RENEW,), (Change.REVOKE_OLD,)):
                authority.update(*changes)
                fleet.new_worker().start()
                await eventually(lambda: len(fleet.ready_workers()) == 3, WITHIN, "the new worker is ready")
                assert await asyncio.to_thread(fleet.workers[-1].stop, 30) == 0
                await eventually(lambda: len(fleet.ready_workers()) == 2, WITHIN, "it has left")
            fleet.host.kill()
            fleet.host.start()
            await eventually(lambda: len(fleet.ready_workers()) == 2, WITHIN, "all are back with what is new")
            late = fleet.new_worker(**identity_settings(old / "worker"))
            late.start()
            await asyncio.to_thread(late.wait_for_log, "the host's certificate is not trusted", WITHIN)
            await eventually(lambda: len(fleet.ready_workers()) == 2, WITHIN, "nobody else is in")
        assert_complete(stream.result(), long)
        figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
        assert not tally.failures, tally.failures[:3]
        assert "Traceback" not in fleet.host.log()
    shutil.rmtree(old)


def test_no_key_can_slip_into_the_repository_or_an_image() -> None:
    """``make identities`` writes to folders in ``identities``, beside the package's modules."""
    assert "identities/*/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    named = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert named[0] == "*"
    # Docker drops a pattern's last slash: "identities/*/" would leave out the modules too.
    assert [line for line in named if "identities" in line] == ["!identities/*.py"]
