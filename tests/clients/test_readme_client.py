"""The README's Python client, copied as it stands, behind a real nginx that cuts and merges HTTP chunks."""

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.tools import clean_environment
from tests.harness.fleet import Fleet
from tests.harness.nginx import nginx
from tests.harness.process import REPOSITORY
from tests.schedule import Schedule, reply_text

(SECTION,) = re.findall(
    r"^## Use it from Python\n(.*?)^## ", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE
)
(CODE, *_) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
URL = "http://localhost:8501"
LAST_TURN = '"Say hello by my name and introduce yourself."'

PROXIES = {
    # As deploy/kubernetes/components/ingress configures ingress-nginx.
    "as the ingress": "proxy_buffering off; proxy_read_timeout 3600s; proxy_next_upstream off;",
    # It writes more slowly than it reads, so that its chunks are never the gateway's.
    "slow": "proxy_buffering on; proxy_buffer_size 4k; proxy_buffers 4 4k; proxy_busy_buffers_size 4k; limit_rate 50k;",
}


class Ended(NamedTuple):
    code: int | None
    output: str
    errors: str


@pytest.fixture(params=PROXIES.values(), ids=list(PROXIES))
def url(fleet: Fleet, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with nginx(fleet.address, tmp_path, request.param) as (host, port):
        yield f"http://{host}:{port}"


async def run(url: str, schedule: Schedule) -> Ended:
    """Run the README's code; its last turn tells the backend what to say."""
    assert CODE.count(URL) == CODE.count(LAST_TURN) == 1
    code = CODE.replace(URL, url).replace(LAST_TURN, repr(schedule.message()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env=clean_environment() | {"PYTHONIOENCODING": "utf-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return Ended(process.returncode, output.decode(), errors.decode())


async def test_it_prints_whole_replies(url: str) -> None:
    schedules = [Schedule(tokens=1_000, delay=0.001) for _ in range(4)]
    ends = await asyncio.gather(*(run(url, schedule) for schedule in schedules))
    assert ends == [Ended(0, reply_text(schedule), "") for schedule in schedules]


async def test_it_shows_an_error_in_the_middle_and_fails(url: str) -> None:
    schedule = Schedule(tokens=50, delay=0.01, error_after=20)
    end = await run(url, schedule)
    assert end.code == 1
    assert reply_text(schedule).startswith(end.output)
    assert end.output
    assert '"code":"model_failed"' in end.errors
    assert "request_id" in end.errors


async def test_it_shows_why_a_request_was_refused_and_fails(url: str) -> None:
    end = await run(url, Schedule(status=400))
    assert (end.code, end.output) == (1, "")
    assert '"code":"model_rejected_request"' in end.errors
    assert "Traceback" not in end.errors
