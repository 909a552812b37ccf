"""Who can reach whom: each member those that it must speak with, the outside only the ingress, visitors nothing."""

import json
import socket
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.compose.engine import docker, inspect, run
from tests.compose.stack import IMAGE, PATIENCE, Stack, settle
from tests.harness.ports import free_port

pytestmark = pytest.mark.timeout(300)
KNOCK = """
import socket, sys
def knock(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
        return True
    except OSError:
        return False
import concurrent.futures, json
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(knock, sys.argv[1:])))))
"""
HOST = {"host:50051", "host:50052"}
NAMES = HOST | {"model:8502", "gateway:8501", "ingress:8501"}


def reached(stack: Stack, container: str, targets: set[str]) -> set[str]:
    """Which of the targets something inside the container can connect to."""
    answers = json.loads(stack.exec(container, "python", "-c", KNOCK, *sorted(targets)))
    return {target for target, answered in answers.items() if answered}


def addresses(stack: Stack, service: str, port: int) -> set[str]:
    """The service's port on each of its addresses."""
    (found,) = [each for each in stack.all_containers() if each["Config"]["Labels"][SERVICE] == service]
    return {f"{network['IPAddress']}:{port}" for network in found["NetworkSettings"]["Networks"].values()}


SERVICE = "com.docker.compose.service"


def test_a_worker_reaches_the_host_and_the_model_only(stack: Stack) -> None:
    worker = stack.containers("worker")[0]
    gateways = docker("network", "inspect", f"{stack.project}_providers", "-f", "{{(index .IPAM.Config 0).Gateway}}")
    others = (
        addresses(stack, "gateway", 8501) | addresses(stack, "ingress", 8501) | {f"{gateways.strip()}:{stack.port}"}
    )
    assert reached(stack, worker, NAMES | others) == HOST | {"model:8502"}
    assert ways_out(stack, worker) == {"providers"}


def test_the_model_reaches_nobody(stack: Stack) -> None:
    model = stack.container("model")
    worker = stack.containers("worker")[0]
    others = set().union(
        *(
            addresses(stack, name, port)
            for name, port in (("host", 50051), ("host", 50052), ("gateway", 8501), ("ingress", 8501))
        )
    )
    workers = {f"{stack.ip(worker, network)}:8503" for network in ("workers", "models", "providers")}
    assert reached(stack, model, NAMES | others | workers) == {"model:8502"}  # itself
    assert ways_out(stack, model) == set()


def test_gateway_and_host_reach_what_they_need_and_have_no_way_out(stack: Stack) -> None:
    gateway, host = stack.container("gateway"), stack.container("host")
    assert reached(stack, gateway, NAMES | addresses(stack, "model", 8502)) == HOST | {"gateway:8501", "ingress:8501"}
    assert reached(stack, host, NAMES | addresses(stack, "model", 8502)) == HOST | {"gateway:8501"}
    assert ways_out(stack, gateway) == ways_out(stack, host) == set()


def ways_out(stack: Stack, container: str) -> set[str]:
    """The container's networks from which the engine lets it reach others than their members."""
    names = inspect(container)["NetworkSettings"]["Networks"]
    is_internal = {name: docker("network", "inspect", name, "-f", "{{.Internal}}").strip() for name in names}
    return {name.removeprefix(f"{stack.project}_") for name, internal in is_internal.items() if internal != "true"}


def test_only_the_ingress_is_published_and_on_loopback_only(stack: Stack) -> None:
    published = {
        (binding["HostIp"], binding["HostPort"], container["Config"]["Labels"][SERVICE])
        for container in stack.all_containers()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    assert published == {("127.0.0.1", str(stack.port), "ingress")}
    own = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }
    for address in own:
        with pytest.raises(OSError):  # noqa: PT011 - refused or out of time
            socket.create_connection((address, stack.port), 1)


REFUSED = "refused a connection"


@pytest.fixture
def visitors(stack: Stack) -> Iterator[list[str]]:
    """Names of containers that a test starts beside the stack's."""
    names: list[str] = []
    yield names
    if names:
        run("rm", "-f", *names)


@pytest.mark.parametrize("has_token", [False, True], ids=["nothing to show", "a token and no certificate"])
def test_a_plaintext_member_gets_nothing(stack: Stack, visitors: list[str], has_token: bool) -> None:
    name = f"{stack.project}-plain-{free_port()}"
    token = stack.exec(stack.containers("worker")[0], "cat", "/identity/token").strip()
    given = ["-e", "FLEET_HOST=host:50051", *(["-e", f"FLEET_TOKEN={token}"] if has_token else [])]
    visitors.append(name)
    docker(
        "run", "-d", "--name", name, "--network", f"{stack.project}_workers", *given, IMAGE, "python", "-m", "worker"
    )
    assert_refused(stack, name, "the host wants TLS")


def test_a_member_of_another_fleet_gets_nothing(stack: Stack, visitors: list[str]) -> None:
    name = f"{stack.project}-foreign-{free_port()}"
    make = "python -m fleet.security /tmp/i && cp /tmp/i/worker/*.pem /tmp && exec python -m worker"
    mounted = ["-v", f"{stack.project}_worker-identity:/identity:ro"]
    files = {"CA": "/identity/ca.pem", "CERT": "/tmp/cert.pem", "KEY": "/tmp/key.pem"}
    settings = [part for key, path in files.items() for part in ("-e", f"FLEET_TLS_{key}={path}")]
    settings += ["-e", "FLEET_TOKEN_FILE=/identity/token", "-e", "FLEET_HOST=host:50051"]
    visitors.append(name)
    network = ["--network", f"{stack.project}_workers"]
    docker("run", "-d", "--name", name, *network, *mounted, *settings, IMAGE, "sh", "-c", make)
    assert_refused(stack, name, "the host does not take this member's certificate")


def assert_refused(stack: Stack, name: str, reason: str) -> None:
    """The member says why, in one line; the host reports refused connections once a minute, and does not admit it."""
    settle(lambda: reason in written(name), "the member says why it cannot join", PATIENCE)
    settle(lambda: REFUSED in stack.logs("host"), "the host says that it refused a connection", PATIENCE)
    time.sleep(3)  # not for a state: for so long it goes on trying, about once a second
    lines = [line for line in written(name).splitlines() if "cannot join the host" in line and reason in line]
    assert len(lines) == 1, written(name)
    refusals = [line for line in stack.logs("host").splitlines() if REFUSED in line]
    assert len(refusals) == len({line[line.index("time=") :][:21] for line in refusals}), refusals
    assert stack.has_workers(2)


def written(container: str) -> str:
    """Everything that a container has logged."""
    done = run("logs", container)
    return str(done.stdout + done.stderr)


def test_a_scan_of_the_host_gets_nothing(stack: Stack) -> None:
    scan = """
import socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2"])
http2 = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(9)
def got(sock, sent):
    sock.settimeout(15)
    try:
        sock.sendall(sent)
        return b"".join(iter(lambda: sock.recv(65536), b""))
    except ConnectionError:
        return b""
for sent in (b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n", http2, bytes(64)):
    with socket.create_connection(("host", 50051), 5) as sock:
        print(got(sock, sent))
with socket.create_connection(("host", 50051), 5) as sock, context.wrap_socket(sock) as tls:
    try:
        print(got(tls, http2))
    except ssl.SSLError as error:
        print(b"")
"""
    assert stack.exec(stack.containers("worker")[0], "python", "-c", scan).split() == ["b''"] * 4
