"""API keys and their file."""

import gc
import os
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from gateway.access import keys
from gateway.access.keys import Key, KeyRing, KeysError, digest, read_keys


def write(path: Path, *keys: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump({"keys": list(keys)}))
    return path


def entry(name: str = "alice", key: str = "secret", **limits: object) -> dict[str, object]:
    return {"name": name, "sha256": digest(key), **limits}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read since."""
    made: list[Path] = []

    def note(path: Path) -> dict[str, Key]:
        made.append(path)
        return read_keys(path)

    monkeypatch.setattr(keys, "read_keys", note)
    return made


async def test_a_changed_file_is_taken_over_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", entry())
    ring = KeyRing(path)
    path.write_text("keys: [")
    await ring.refresh()
    assert ring.find("secret") is not None
    write(path, entry(key="other"))
    await ring.refresh()
    assert ring.find("secret") is None
    assert ring.find("other") is not None
    path.unlink()
    await ring.refresh()
    assert ring.find("other") is not None


@pytest.mark.parametrize("text", ["keys: [", "keys: []\nother: 1", "keys: [{name: b, sha256: short}]", "\x00"])
async def test_a_file_is_parsed_once_a_change_also_when_it_is_broken(
    tmp_path: Path, reads: list[Path], text: str
) -> None:
    path = write(tmp_path / "keys.yaml", entry())
    ring = KeyRing(path)
    reads.clear()
    for content in (text, text + "\n#"):
        path.write_text(content)
        for _ in range(5):
            await ring.refresh()
        assert ring.find("secret") is not None
    assert len(reads) == 2
    write(path, entry(key="other"))
    for _ in range(5):
        await ring.refresh()
    assert ring.find("other") is not None
    assert len(reads) == 3


async def test_a_file_that_cannot_be_opened_is_tried_again_though_it_has_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "keys.yaml", entry())
    ring = KeyRing(path)
    write(path, entry(key="other", concurrent=1))  # of another size: both may be written at one tick of the clock

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        await ring.refresh()
    assert ring.find("secret") is not None
    await ring.refresh()
    assert ring.find("other") is not None


async def test_a_file_that_comes_back_as_it_was_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", entry())
    ring = KeyRing(path)
    with capture_logs() as lines:
        path.rename(tmp_path / "away")
        await ring.refresh()
        (tmp_path / "away").rename(path)
        await ring.refresh()
        await ring.refresh()
    assert [line["event"] for line in lines] == ["keys not reloaded", "keys reloaded"]


def test_many_keys_are_found_by_their_hash(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", *(entry(f"user {number}", f"secret {number}") for number in range(300)))
    ring = KeyRing(path)
    found = [ring.find(f"secret {number}") for number in range(300)]
    assert [key.name if key else None for key in found] == [f"user {number}" for number in range(300)]
    for spelling in ("secret 300", "", " secret 1", "SECRET 1", digest("secret 1"), "\xff"):
        assert ring.find(spelling) is None


def test_reading_keys_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", entry())
    read_keys(path)
    assert gc.isenabled()
    path.write_text("keys: [")
    with pytest.raises(KeysError):
        read_keys(path)
    assert gc.isenabled()


def test_models_may_be_named() -> None:
    assert Key(name="a", sha256=digest("s")).allows("anything")
    limited = Key(name="a", sha256=digest("s"), models=frozenset({"m"}))
    assert limited.allows("m")
    assert not limited.allows("n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: [", "is not YAML (line "),
        ("keys:\n  - name: a\n  sha256: [", "is not YAML (line 3)"),
        ("", "holds no mapping"),
        ("keys: [{name: a}]", "keys.0.sha256: Field required"),
        ("keys: [{name: a, sha256: short}]", "keys.0.sha256"),
        (f"keys: [{{name: a, sha256: {'a' * 64}, limit: 1}}]", "keys.0.limit"),
        (f"keys: [{{name: a, sha256: {'a' * 64}}}, {{name: a, sha256: {'b' * 64}}}]", "the same name: a"),
        (f"keys: [{{name: a, sha256: {'a' * 64}}}, {{name: b, sha256: {'a' * 64}}}]", "the same sha256: a and b"),
        ("keys: " + "[" * 100_000, "nested more than 20 deep"),
        ("keys: []\nkey: []", "key: is not known here"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(KeysError, match=r"keys\.yaml") as refused:
        read_keys(path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "keys:\n  - {name: a, sha256: 0}\nkeys:\n  - {name: b, sha256: 1}\n",
            "`keys:` stands twice, in lines 1 and 3",
        ),
        ("keys:\n- name: a\n  sha256: 00\n  name: b\n", "`name:` stands twice, in lines 2 and 4"),
        ("The key, which is shown only now: cf-x\nkeys: []\n", "The key, which is shown only now: is not known here"),
        ("- name: a\n", "holds no mapping"),
        ("just words\n", "holds no mapping"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_form(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(KeysError) as refused:
        read_keys(path)
    assert str(refused.value).startswith(f"{path}: {reason}")
    assert keys.FORM in str(refused.value)


def test_a_file_that_is_not_there_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"is not there; make it .*: python -m gateway keys new NAME .*keys\.yaml$"):
        read_keys(tmp_path / "keys.yaml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_this_user_cannot_read_is_an_error_with_user_and_mode(closed: str, tmp_path: Path) -> None:
    for folder in (*tmp_path.parents, tmp_path):
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    path = tmp_path / "private" / "keys.yaml"
    path.parent.mkdir()
    write(path, entry())
    path.chmod(0o600 if closed == "file" else 0o644)
    path.parent.chmod(0o755 if closed == "file" else 0o700)
    os.seteuid(10001)
    try:
        with pytest.raises(KeysError) as refused:
            read_keys(path)
    finally:
        os.seteuid(0)
    place, mode = (path, 600) if closed == "file" else (path.parent, 700)
    who = f"this process is user 10001, and {place} belongs to user 0 and has mode {mode}"
    assert str(refused.value) == f"{path}: cannot be read: permission denied: {who}"
