"""A new face is one new folder and one new line: a gateway with both serves it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.fleet import START, Fleet
from tests.harness.process import REPOSITORY, Process
from tests.harness.waiting import wait_until
from tests.schedule import Schedule, reply_text

LAST = '    "gateway.faces.openai.face:OpenAIFace",\n'
LINE = '    "gateway.faces.plain.face:PlainFace",\n'


@pytest.fixture(scope="module")
def url(shared_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway of the shared fleet whose code has the face."""
    tree = tmp_path_factory.mktemp("tree")
    faces = Path("gateway", "faces")
    shutil.copytree(REPOSITORY / "gateway", tree / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "tests" / "plain", tree / faces / "plain")
    listed = (REPOSITORY / faces / "listed.py").read_text()
    assert listed.count(LAST) == 1
    (tree / faces / "listed.py").write_text(listed.replace(LAST, LAST + LINE))
    gateway: Process = shared_fleet.new_gateway(PYTHONSAFEPATH="1", PYTHONPATH=f"{tree}:{REPOSITORY}")
    url = "http://{}:{}".format(*shared_fleet.addresses[-1])
    gateway.start()
    try:
        wait_until(lambda: is_ready(url), START, "the gateway with the face is ready")
        yield url
    finally:
        shared_fleet.gateways.remove(gateway)
        del shared_fleet.addresses[-1]
        gateway.end()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_it_streams_plain_text(url: str) -> None:
    schedule = Schedule(tokens=20, delay=0.1, reasoning=3)
    prompt = {"prompt": schedule.message()}
    with httpx.stream("POST", f"{url}/plain", json=prompt, timeout=60, trust_env=False) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        pieces = list(answer.iter_raw())
    assert b"".join(pieces).decode() == reply_text(schedule) + "\n"
    assert len(pieces) > 3


def test_its_errors_are_plain_text(url: str) -> None:
    def post(content: bytes) -> httpx.Response:
        return httpx.post(f"{url}/plain", content=content, timeout=60, trust_env=False)

    missing = post(b"{}")
    assert (missing.status_code, missing.text) == (422, "invalid_field: prompt is missing\n")
    unknown = post(b'{"prompt": "hi", "model": "x"}')
    assert unknown.status_code == 404
    assert unknown.text.startswith("unknown_model: model: 'x' is not served here")
    refused = httpx.get(f"{url}/plain", timeout=60, trust_env=False).text
    assert refused == "not_allowed: /plain: GET is not allowed here; these are: POST, OPTIONS\n"


def test_it_stands_in_the_document_beside_the_others(url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json", timeout=60, trust_env=False).json()["paths"]
    assert {"/plain", "/chat/completions", "/v1/chat/completions"} < paths.keys()
