"""Keys and limits before a client that tries to have more than it may, and key files that are large or broken."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from tests.harness.chat import body_of
from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.harness.waiting import eventually, wait_until
from tests.integration.keyed import KeyedGateway
from tests.schedule import Schedule, reply_text

SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
BOTH = pytest.mark.parametrize("path", [SEED, OPENAI], ids=["seed", "openai"])
MANY = 10_000
"""Keys of a large file."""
SETTINGS = {
    "GATEWAY_FIRST_TOKEN_TIMEOUT": "5",
    "GATEWAY_TOKEN_TIMEOUT": "5",
    "GATEWAY_STALL_TIMEOUT": "2",
    "GATEWAY_MAX_ATTEMPTS": "2",
}

LEAVES = ("closes", "resets", "half-closes", "leaves a whole reply", "breaks", "is broken by the model", "stalls")
ZERO = {"prompt_tokens": 0, "completion_tokens": 0}
LIMITS: dict[str, dict[str, Any]] = {
    "free": {},
    "other": {"models": ["other"]},
    "parallel": {"tokens_per_minute": 50},
    "one": {"concurrent": 1},
    "two": {"concurrent": 2, "requests_per_minute": 1000, "tokens_per_minute": 1_000_000},
}
for _path in (SEED, OPENAI):
    LIMITS |= {f"{way}{_path}": {"tokens_per_minute": 50} for way in (*LEAVES, "zero", "tools")}


@pytest.fixture(scope="module")
def gateway(shared_fleet: Fleet) -> Iterator[KeyedGateway]:
    with KeyedGateway(shared_fleet, LIMITS, **SETTINGS) as gateway:
        yield gateway


def body(path: str, schedule: Schedule, **fields: Any) -> dict[str, Any]:
    who = "source" if path == SEED else "role"
    return {"messages": [{who: "user", "content": schedule.message()}]} | fields


def ask(client: httpx.Client, path: str, schedule: Schedule, **fields: Any) -> httpx.Response:
    return client.post(path, json=body(path, schedule, **fields))


def request(gateway: KeyedGateway, key: str, path: str, schedule: Schedule, **fields: Any) -> bytes:
    content = json.dumps(body(path, schedule, **fields)).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {gateway.keys[key]}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def read_until(sock: socket.socket, wanted: bytes) -> None:
    received = b""
    while wanted not in received:
        piece = sock.recv(65536)
        assert piece, received[-500:]
        received = received[-100:] + piece


# ---------------------------------------------------------------- who, and what

SPELLINGS = (
    "{key}",
    "Basic {key}",
    "Bearer",
    "Bearer{key}",
    "Bearer\t{key}",
    "Bearer: {key}",
    "Bearer '{key}'",
    'Bearer "{key}"',
    "Bearer <{key}>",
    "Bearer {key},",
    "Bearer {key} {key}",
    "Bearer {key}\xa0x",
    "Bearer {prefix}",
    "Bearer {key}x",
    "Bearer {upper}",
    "Bearer {sha256}",
    "Bearer {name}",
    "Bearer wrong, Bearer {key}",
    "Token {key}",
    "Digest {key}",
)


@BOTH
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_other_spelling_of_a_key_is_one(gateway: KeyedGateway, path: str, spelling: str) -> None:
    key = gateway.keys["free"]
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    header = spelling.format(key=key, prefix=key[:-1], upper=key.upper(), sha256=sha256, name="free")
    with gateway.client() as client:
        headers = [(b"authorization", header.encode("latin-1"))]
        assert client.post(path, json=body(path, Schedule(tokens=1)), headers=headers).status_code == 401


@BOTH
def test_a_key_elsewhere_than_in_the_first_such_header_is_none(gateway: KeyedGateway, path: str) -> None:
    key = gateway.keys["free"]
    right, wrong = (b"authorization", f"Bearer {key}".encode()), (b"authorization", b"Bearer wrong")
    others: list[dict[str, Any]] = [
        {"headers": [wrong, right]},
        {"headers": [(b"x-api-key", b"wrong"), (b"x-api-key", key.encode())]},
        {"headers": {"proxy-authorization": f"Bearer {key}"}},
        {"headers": {"cookie": f"authorization=Bearer {key}"}},
        {"params": {"api_key": key, "authorization": f"Bearer {key}"}},
    ]
    with gateway.client() as client:
        for other in others:
            assert client.post(path, json=body(path, Schedule(tokens=1)), **other).status_code == 401, other
        assert client.post(path, json=body(path, Schedule(tokens=1)), headers=[right, wrong]).status_code == 200


@BOTH
def test_no_spelling_of_a_model_passes_a_keys_list(gateway: KeyedGateway, path: str) -> None:
    schedule = Schedule(tag=f"passes{path}".replace("/", "-"), tokens=1)
    plain = json.dumps(body(path, schedule))[:-1]
    spellings = ['"test"', '"other,test"', '"other/../test"', '"TEST"', '" other"', '"other\\u0000"', '["other"]', '""']
    bodies = [f'{plain}, "model": {spelling}}}' for spelling in [*spellings, "null", "1", "{}", "true"]]
    bodies += [f'{plain}, "model": "other", "model": "test"}}', f'{plain}, "Model": "other"}}', plain + "}"]
    with gateway.client("other") as client:
        for text in bodies:
            for query in ("", "?model=other"):
                answer = client.post(path + query, content=text, headers={"content-type": "application/json"})
                assert answer.status_code in (400, 403, 404, 422), text
        assert client.get("/v1/models/test").status_code == 404
        assert ask(client, path, Schedule(tokens=1), model="other").status_code == 200
    assert gateway.fleet.backend.requests(schedule.tag) == []


@pytest.mark.parametrize(("name", "places"), [("one", 1), ("two", 2)])
async def test_so_many_requests_run_at_once_and_not_one_more(gateway: KeyedGateway, name: str, places: int) -> None:
    key = {"authorization": f"Bearer {gateway.keys[name]}", "content-type": "application/json"}
    endless = body_of(Schedule(tokens=100_000, delay=0.05))

    async def status(connection: Connection) -> int:
        return (await connection.request("POST", SEED, endless, key)).status

    for _ in range(3):
        async with contextlib.AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(Connection(gateway.address)) for _ in range(20)]
            statuses = await asyncio.gather(*(status(connection) for connection in connections))
            assert sorted(statuses) == [200] * places + [429] * (20 - places)
        await eventually(lambda: gateway.fleet.backend.active() == 0, 20, "the streams are over")


# ---------------------------------------------------------------- what was written counts


def leave(gateway: KeyedGateway, way: str, path: str) -> None:
    """Have nearly all of a reply, or none of a whole one, and never the end."""
    key = f"{way}{path}"
    if way in ("breaks", "is broken by the model"):
        broken = Schedule(tokens=300, error_after=299) if way == "breaks" else Schedule(tokens=300, reset_after=299)
        with gateway.client(key) as client:
            answer = ask(client, path, broken, stream=True)
            assert '"error"' in answer.text
        return
    with socket.create_connection(gateway.address, 30) as sock:
        if way == "leaves a whole reply":
            sock.sendall(request(gateway, key, path, Schedule(tokens=300, hang_after=299), stream=False))
            with gateway.client(key) as client:

                def is_over() -> bool:
                    return ask(client, path, Schedule(), model="no-such").status_code == 429

                wait_until(is_over, 20, "the running reply counts")
        elif way == "stalls":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            said = gateway.process.log_size()
            sock.sendall(request(gateway, key, path, Schedule(tokens=2000, size=4096), stream=True))
            wait_until(lambda: "code=client_stalled" in gateway.process.log(said), 30, "the client is dropped")
        else:
            sock.sendall(request(gateway, key, path, Schedule(tokens=300, hang_after=299), stream=True))
            read_until(sock, b"290:")
        if way == "resets":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way == "half-closes":
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


@BOTH
@pytest.mark.parametrize("way", LEAVES)
def test_what_was_written_counts_however_the_request_ends(gateway: KeyedGateway, way: str, path: str) -> None:
    leave(gateway, way, path)
    with gateway.client(f"{way}{path}") as client:
        answer = ask(client, path, Schedule(tokens=1), stream=False)
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert "50 tokens a minute" in error["message"]
    assert "counts in full" in error["message"]
    assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


@BOTH
def test_a_model_that_reports_no_usage_is_counted(gateway: KeyedGateway, path: str) -> None:
    with gateway.client(f"zero{path}") as client:
        answers = [ask(client, path, Schedule(tokens=300, usage=ZERO), stream=stream) for stream in (True, False)]
    assert [answer.status_code for answer in answers] == [200, 429]


@BOTH
def test_tool_calls_are_counted(gateway: KeyedGateway, path: str) -> None:
    calls = [{"id": "c", "name": "f", "arguments": json.dumps({"x": "y" * 1000})}]
    with gateway.client(f"tools{path}") as client:
        answers = [ask(client, path, Schedule(tool_calls=calls, usage=ZERO), stream=True) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_requests_at_once_cannot_all_pass_a_limit_that_one_of_them_exhausts(gateway: KeyedGateway) -> None:
    schedule = Schedule(tokens=1000)
    headers = {"authorization": f"Bearer {gateway.keys['parallel']}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60, trust_env=False) as client:
        asked = [client.post(SEED, json=body(SEED, schedule, stream=True)) for _ in range(20)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 5  # each takes the estimate of its prompt, of more than ten tokens, when it comes


def test_a_place_is_given_back_however_a_request_ends(gateway: KeyedGateway) -> None:
    endless = Schedule(tokens=100_000, delay=0.01)
    with gateway.client("one") as client:
        for way in ("close", "reset", "half-close"):
            with socket.create_connection(gateway.address, 30) as sock:
                sock.sendall(request(gateway, "one", SEED, endless, stream=True))
                read_until(sock, b"3:")
                assert ask(client, SEED, Schedule(tokens=1)).status_code == 429
                if way == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif way == "half-close":
                    sock.shutdown(socket.SHUT_WR)
                    read_until(sock, b"3:")
                    assert ask(client, SEED, Schedule(tokens=1)).status_code == 429
            wait_until(lambda: ask(client, SEED, Schedule(tokens=1)).status_code == 200, 20, f"the place after {way}")
        for schedule, status in (
            (Schedule(status=400), 400),
            (Schedule(hang=True), 504),
            (Schedule(reset_after=0), 502),
        ):
            assert ask(client, SEED, schedule, stream=False).status_code == status
            assert ask(client, SEED, Schedule(tokens=1)).status_code == 200


# ---------------------------------------------------------------- time


@BOTH
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_first_token_has_the_time_that_is_set(gateway: KeyedGateway, path: str, stream: bool) -> None:
    with gateway.client("free") as client:
        began = time.monotonic()
        answer = ask(client, path, Schedule(hang=True), stream=stream)
        took = time.monotonic() - began
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "first_token_timeout")
    assert 4.9 < took < 20


@BOTH
def test_the_next_token_has_the_time_that_is_set(gateway: KeyedGateway, path: str) -> None:
    with gateway.client("free") as client:
        began = time.monotonic()
        answer = ask(client, path, Schedule(hang_after=3), stream=True)
        took = time.monotonic() - began
    assert "token_timeout" in answer.text
    assert 4.9 < took < 20


# ---------------------------------------------------------------- models


def test_a_key_for_some_models_is_not_refused_for_good_while_no_worker_is_ready() -> None:
    entries: dict[str, dict[str, Any]] = {
        "default": {"models": ["test"]},
        "other": {"models": ["other"]},
        "none": {"models": []},
    }
    with Fleet(workers=0, start=False) as fleet:
        fleet.backend.start()
        fleet.host.start()
        with KeyedGateway(fleet, entries) as gateway:
            clients = {name: gateway.client(name) for name in entries}
            for name, path in itertools.product(entries, (SEED, OPENAI)):
                answer = ask(clients[name], path, Schedule(tokens=1))
                error = answer.json()["error"]
                assert (answer.status_code, error["code"], error["retryable"]) == (503, "no_worker", True)
                assert int(answer.headers["retry-after"]) >= 1
                if name != "default":
                    assert ask(clients[name], path, Schedule(tokens=1), model="test").status_code == 403
            fleet.new_worker().start()
            wait_until(lambda: clients["none"].get("/readyz").status_code == 200, 60, "the worker is ready")
            for name, path in itertools.product(entries, (SEED, OPENAI)):
                status = 200 if name == "default" else 403
                assert ask(clients[name], path, Schedule(tokens=1)).status_code == status
            for client in clients.values():
                client.close()


# ---------------------------------------------------------------- files of keys


def file_of(first: Sequence[str], count: int) -> str:
    """The text of a file of the entries ``first``, and so many others."""
    lines = ["keys:", *first]
    for number in range(count):
        sha256 = hashlib.sha256(f"key {number}".encode()).hexdigest()
        lines += [f"- name: user{number}", f"  sha256: {sha256}", "  models: [test, other]", "  concurrent: 4"]
    return "\n".join(lines) + "\n"


async def gaps(gateway: KeyedGateway, until: Callable[[], object]) -> list[float]:
    """Seconds between the lines of a stream of 10 ms, while something else goes on."""
    arrived = []
    key = {"authorization": f"Bearer {gateway.keys['free']}", "content-type": "application/json"}
    waiting = asyncio.create_task(eventually(until, 60, "the gateway has read its keys"))
    async with Connection(gateway.address) as connection:
        response = await connection.request("POST", SEED, body_of(Schedule(tokens=100_000, delay=0.01)), key)
        chunks = response.chunks()
        while not waiting.done():
            await anext(chunks)
            arrived.append(time.monotonic())
    await waiting
    return [after - before for before, after in itertools.pairwise(arrived)]


@pytest.mark.parametrize("broken", [False, True], ids=["good", "broken"])
async def test_a_large_file_is_read_beside_the_streams(
    gateway: KeyedGateway, broken: bool, figures: Callable[[str], None]
) -> None:
    kept = gateway.file.read_text()
    text = file_of(kept.splitlines()[1:], MANY) + ("- name: last\n" if broken else "")
    said = gateway.process.log_size()
    event = "keys not reloaded" if broken else f'keys reloaded" keys={MANY + len(LIMITS)}'
    gateway.replace(text)
    before = gateway.process.cpu()
    longest = max(await gaps(gateway, lambda: event in gateway.process.log(said)))
    figures(f"longest gap {longest * 1000:.0f} ms, {gateway.process.cpu() - before:.1f} s of CPU for {MANY} keys")
    assert longest < 3  # 8 s of standing still before; 30 to 60 ms where the machine does nothing else
    with gateway.client(key="key 9999") as client, gateway.client("free") as free:
        assert client.get("/v1/models").status_code == (401 if broken else 200)
        assert free.get("/v1/models").status_code == 200
    if broken:
        before = gateway.process.cpu()
        await asyncio.sleep(3)  # three looks at the file
        assert gateway.process.cpu() - before < 0.5, "the broken file is parsed again and again"
        assert gateway.process.log(said).count("keys not reloaded") == 1
    said = gateway.process.log_size()
    gateway.replace(kept)
    await eventually(lambda: "keys reloaded" in gateway.process.log(said), 20)


# ---------------------------------------------------------------- lines


@BOTH
def test_every_line_is_one_for_clients_that_split_as_unicode_does(gateway: KeyedGateway, path: str) -> None:
    ends = "".join(f"{number}\x85\u2028\u2029\x0b\x0c\x1c\r\n" for number in range(20))
    schedule = Schedule(text=ends)
    with (
        gateway.client("free") as client,
        client.stream("POST", path, json=body(path, schedule, stream=True)) as answer,
    ):
        lines = [line for line in answer.read().decode().splitlines() if line and line != "data: [DONE]"]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    if path == SEED:
        said = "".join(event["content"] for event in events)
    else:
        said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert said == reply_text(schedule) == ends


# ---------------------------------------------------------------- memory


async def test_histories_do_not_outlive_the_first_token(gateway: KeyedGateway, figures: Callable[[str], None]) -> None:
    """Thirty conversations of a megabyte, whose replies run."""
    key = {"authorization": f"Bearer {gateway.keys['free']}", "content-type": "application/json"}
    schedule = Schedule(tokens=100_000, delay=0.1)
    history = [{"source": "user", "content": "x" * 1_000_000}, {"source": "user", "content": schedule.message()}]

    before = gateway.process.memory()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(30):  # one after the other: what reading a body takes for a moment is not what is asked for
            connection = await stack.enter_async_context(Connection(gateway.address))
            response = await connection.request("POST", SEED, body_of(history), key)
            assert response.status == 200
            await anext(response.chunks())
        grown = await asyncio.to_thread(gateway.process.memory) - before
    figures(f"{grown / 2**20:.1f} MiB for 30 histories of 1 MB")
    assert grown < 20 * 2**20
