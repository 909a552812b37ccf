"""API keys and their limits."""

from pathlib import Path

import pytest
import yaml

from gateway.errors import OverLimit
from gateway.keys import Key, KeyRing, KeysError, digest, new_key, read_keys
from gateway.limits import Limits
from gateway.reply import Completed
from protos import chat_pb2 as pb


def write(path: Path, *keys: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump({"keys": list(keys)}))
    return path


def entry(name: str = "alice", key: str = "secret", **limits: object) -> dict[str, object]:
    return {"name": name, "sha256": digest(key), **limits}


def key(**limits: int) -> Key:
    return Key(name="alice", sha256=digest("secret"), **limits)  # type: ignore[arg-type]


def test_a_new_key_is_found_by_its_entry(tmp_path: Path) -> None:
    made, text = new_key("alice")
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    found = KeyRing(path).find(made)
    assert found is not None
    assert found.name == "alice"
    assert made not in text


def test_a_changed_file_is_taken_over_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", entry())
    ring = KeyRing(path)
    path.write_text("keys: [")
    ring.refresh()
    assert ring.find("secret") is not None
    write(path, entry(key="other"))
    ring.refresh()
    assert ring.find("secret") is None
    assert ring.find("other") is not None
    path.unlink()
    ring.refresh()
    assert ring.find("other") is not None


def test_models_may_be_named() -> None:
    assert key().allows("anything")
    limited = Key(name="a", sha256=digest("s"), models=frozenset({"m"}))
    assert limited.allows("m")
    assert not limited.allows("n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: [", "is not YAML"),
        ("", "valid dictionary"),
        ("keys: [{name: a}]", "keys.0.sha256: Field required"),
        ("keys: [{name: a, sha256: short}]", "keys.0.sha256"),
        (f"keys: [{{name: a, sha256: {'a' * 64}, limit: 1}}]", "keys.0.limit"),
        (f"keys: [{{name: a, sha256: {'a' * 64}}}, {{name: a, sha256: {'b' * 64}}}]", "the same name"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(KeysError, match=r"keys\.yaml") as refused:
        read_keys(path)
    assert said in str(refused.value)


async def test_requests_a_minute() -> None:
    limits = Limits()
    limited = key(requests_per_minute=2)
    first = await limits.enter(limited)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    await limits.enter(limited)
    with pytest.raises(OverLimit) as refused:
        await limits.enter(limited)
    headers = refused.value.headers()
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-remaining-requests"] == "0"


async def test_tokens_a_minute_are_counted_when_a_reply_ends() -> None:
    limits = Limits()
    limited = key(tokens_per_minute=10)
    grant = await limits.enter(limited)
    await limits.close(grant, Completed("stop", pb.Usage(prompt_tokens=6, completion_tokens=60)))
    with pytest.raises(OverLimit, match="10 tokens a minute"):
        await limits.enter(limited)


async def test_requests_at_once() -> None:
    limits = Limits()
    limited = key(concurrent=1)
    grant = await limits.enter(limited)
    with pytest.raises(OverLimit, match="at once"):
        await limits.enter(limited)
    await limits.close(grant, None)
    await limits.enter(limited)


async def test_one_keys_limits_are_not_anothers() -> None:
    limits = Limits()
    await limits.enter(key(requests_per_minute=1))
    await limits.enter(Key(name="bob", sha256=digest("b"), requests_per_minute=1))
