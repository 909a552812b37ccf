"""What a newcomer gets from the plain file: started from nothing, with no key and no `.env`, asked by the README."""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from fleet.process.version import VERSION
from tests.clients.test_seed_client import SCRIPT
from tests.clients.tools import clean_environment
from tests.compose.engine import Inspected, docker, run
from tests.compose.stack import IMAGE, PATIENCE, Stack, settle
from tests.faults.crowd import Say
from tests.harness.chat import one_line
from tests.harness.fleet import fetch
from tests.harness.process import ENDS, REPOSITORY

pytestmark = pytest.mark.timeout(900)
KINDS = ("", "-model", "-ingress")
"""What the names of the images end with."""
READY = 150.0
"""Seconds from `up` to healthy with images built, on two cores that others use too; about 30 when nobody does."""


@pytest.fixture(scope="module")
def plain(engine: None) -> Iterator[Stack]:
    with Stack("plain") as stack:
        yield stack


def test_one_command_starts_it(plain: Stack, figures: Say) -> None:
    began = time.monotonic()
    plain.compose("build")
    built = time.monotonic()
    plain.compose("up", "--build", "-d", "--wait")
    took = time.monotonic() - built
    sizes = docker("images", "--format", "{{.Repository}} {{.Size}}", f"{IMAGE}*").split("\n")
    figures(f"built in {built - began:.0f} s, up and healthy {took:.0f} s later; " + ", ".join(filter(None, sizes)))
    assert took < READY
    settle(lambda: plain.readiness() == 200 and plain.has_workers(2), "two workers")


def test_the_readmes_curl_streams(plain: Stack, figures: Say) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    command, *_ = re.findall(r"```sh\n(curl -N .*?)```", readme, re.DOTALL)
    command = command.replace("http://localhost:8501", plain.url).replace("\\\n", " ")
    began = time.monotonic()
    with subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as curl:
        assert curl.stdout is not None
        heard = [(time.monotonic() - began, one_line(line)) for line in curl.stdout]
    assert curl.returncode == 0
    *spoken, (ended, last) = heard
    figures(f"{len(spoken)} lines from {spoken[0][0]:.2f} to {ended:.2f} s")
    assert last["done"] is True
    assert len(spoken) > 3
    assert "".join(line["content"] for _, line in spoken).strip()


def test_the_seeds_client_prints_a_reply(plain: Stack) -> None:
    command = [sys.executable, str(SCRIPT), f"{plain.url}/chat/completions"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=ENDS, check=True)
    assert done.stdout.strip()
    assert "Error" not in done.stdout


def test_openais_sdk_streams(plain: Stack) -> None:
    with OpenAI(base_url=f"{plain.url}/v1", api_key="none", max_retries=0) as client:
        asked: ChatCompletionUserMessageParam = {"role": "user", "content": "Hello, who are you?"}
        stream = client.chat.completions.create(model="smollm2", messages=[asked], max_tokens=12, stream=True)
        *spoken, last = list(stream)
    assert sum(bool(chunk.choices[0].delta.content) for chunk in spoken) > 1
    assert last.choices[0].finish_reason in ("stop", "length")


def test_the_model_reaches_nobody(plain: Stack) -> None:
    """The real one, with its own packages, knows no other service's name."""
    script = (
        "import socket\n"
        "for name in ('host', 'gateway', 'ingress'):\n"
        "    try: print(socket.gethostbyname(name))\n"
        "    except OSError: print('unknown')\n"
    )
    said = plain.exec(plain.container("model"), "python", "-c", script).split()
    assert said == ["unknown"] * 3


def test_every_container_is_contained(plain: Stack) -> None:
    containers = plain.all_containers()
    assert len(containers) == 7
    for container in containers:
        assert loose(container) == [], container["Name"]
    for service in ("host", "gateway", "worker", "model"):
        status = plain.exec(plain.containers(service)[0], "cat", "/proc/1/status")
        assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE), service
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), service
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE), service
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), service
    assert plain.exec(plain.container("ingress"), "id", "-u").strip() not in ("", "0")


def loose(container: Inspected) -> list[str]:
    """What keeps the container less contained than it should be."""
    config, host = container["Config"], container["HostConfig"]
    wanted = {
        "its root can be written": host["ReadonlyRootfs"],
        "it has capabilities": host["CapDrop"] == ["ALL"] and not host["CapAdd"],
        "it may gain privileges": any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]),
        "it is privileged": not host["Privileged"],
        "it runs as root": config["User"] not in ("", "0", "root"),
        "its memory is not bounded": host["Memory"] > 0,
        "its share of the processors is not bounded": host["NanoCpus"] > 0 or 0 < host["CpuShares"] < 1024,
        "its processes are not bounded": 0 < (host["PidsLimit"] or 0) <= 512,
        "its log is not bounded": "max-size" in host["LogConfig"]["Config"],
        "it shares the machine's namespaces": not {"host"} & {host["NetworkMode"], host["PidMode"], host["IpcMode"]},
        "it mounts the engine": not any("docker.sock" in mount["Source"] for mount in container["Mounts"]),
    }
    return [words for words, holds in wanted.items() if not holds]


def test_nothing_can_be_written_but_tmp(plain: Stack) -> None:
    for service in ("host", "gateway", "worker", "model"):
        container = plain.containers(service)[0]
        for path in ("/app/x", "/opt/chatfleet/x", "/identity/x", "/x"):
            assert run("exec", container, "touch", path).returncode != 0, (service, path)


def test_compose_has_nothing_to_warn_of(plain: Stack) -> None:
    done = plain.run("config", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_worker_gets_keys_and_nothing_else_of_dot_env(plain: Stack) -> None:
    """A key in `.env` reaches it by its environment, one in `secrets/` by a file that the engine does not show."""
    (plain.clone / ".env").write_text("OPENAI_API_KEY=sk-in-env\nEMBEDDED_MODEL=1\nSOMETHING_ELSE=1\n")
    (plain.clone / "secrets").mkdir(exist_ok=True)
    (plain.clone / "secrets" / "TOOL_KEY").write_text("sk-in-a-file\n")
    check = ["run", "--rm", "--no-deps", "-T", "worker", "python", "-c"]
    try:
        told = plain.compose(*check, "import os; print(*os.environ)").split()
        assert "OPENAI_API_KEY" in told
        assert not {"SOMETHING_ELSE", "EMBEDDED_MODEL", "CHATFLEET_PORT", "GEMINI_API_KEY", "TOOL_KEY"} & set(told)
        entry = "  keyed: {provider: OpenAIChatCompletionClient, config: {model: gpt-4o, api_key: '${TOOL_KEY}'}}\n"
        models = (plain.clone / "models.yaml").read_text()
        (plain.clone / "models.yaml").write_text(models + entry)
        assert "everything loads" in plain.compose(*check[:-1], "-m", "worker", "check")
        (plain.clone / "secrets" / "TOOL_KEY").unlink()
        refused = plain.run(*check[:-1], "-m", "worker", "check")
        assert (refused.returncode, "TOOL_KEY" in refused.stderr) == (2, True)
        (plain.clone / "models.yaml").write_text(models)
    finally:
        (plain.clone / ".env").unlink()


def test_the_images_say_what_they_are(plain: Stack) -> None:
    shown = {kind: docker("image", "inspect", "-f", "{{json .Config.Labels}}", IMAGE + kind) for kind in KINDS}
    labels = {kind: json.loads(text) for kind, text in shown.items()}
    assert all(found["org.opencontainers.image.licenses"] == "Apache-2.0" for found in labels.values())
    assert labels[""]["org.opencontainers.image.version"] == VERSION


def test_another_model_needs_no_container_of_ours(plain: Stack, figures: Say) -> None:
    """`EMBEDDED_MODEL=0` in `.env`, and a model that the workers reach over their way out."""
    provider = f"{plain.project}-provider"
    serve = ["python", "-m", "tests.backend", "--host", "0.0.0.0", "--port", "9000"]
    given = ["--network", f"{plain.project}_providers", "--network-alias", "provider.test"]
    mounted = ["-v", f"{plain.clone / 'tests'}:/app/tests:ro"]
    docker("run", "-d", "--name", provider, *given, *mounted, IMAGE, *serve)
    try:
        entry = (plain.clone / "tests" / "compose" / "models.yaml").read_text()
        entry = entry.replace("http://model:8502/v1", "http://provider.test:9000/v1").replace(
            "${HOSTNAME}", "${OPENAI_API_KEY}"
        )
        (plain.clone / "models.yaml").write_text(entry)
        example = (plain.clone / ".env.example").read_text()
        text = example.replace("# EMBEDDED_MODEL=0", "EMBEDDED_MODEL=0").replace(
            "# OPENAI_API_KEY=", "OPENAI_API_KEY=sk-env"
        )
        assert text.count("\nEMBEDDED_MODEL=0\n") == text.count("\nOPENAI_API_KEY=sk-env\n") == 1
        (plain.clone / ".env").write_text(text)
        began = time.monotonic()
        plain.compose("up", "-d", "--wait")
        figures(f"up without the embedded model in {time.monotonic() - began:.0f} s")
        assert plain.containers("model") == []
        settle(lambda: plain.readiness() == 200 and plain.has_workers(2), "two workers", PATIENCE)
        body = {"messages": [{"source": "user", "content": "Hello"}], "stream": False}
        status, answer = fetch(f"{plain.url}/chat/completions", "POST", json.dumps(body).encode())
        assert (status, answer["content"]) == (200, "You said: Hello"), answer
        done = plain.run("config", "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "level=warning" not in plain.logs("worker")
    finally:
        run("rm", "-f", provider)
