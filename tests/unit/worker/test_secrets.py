"""Variables from files: taken as they are named, after what is set, and never shown."""

from pathlib import Path

import pytest

from worker.secrets import Secrets, SecretsError


def test_each_file_sets_the_variable_that_it_is_named_after(tmp_path: Path) -> None:
    (tmp_path / "OPENAI_API_KEY").write_text("sk-1\n")
    (tmp_path / "..data").mkdir()  # Kubernetes' mounts have such a folder
    (tmp_path / ".gitignore").write_text("*\n")
    (tmp_path / "notes.txt").write_text("not a variable")
    environment: dict[str, str] = {}
    Secrets(tmp_path, environment).adopt()
    assert environment == {"OPENAI_API_KEY": "sk-1"}


@pytest.mark.parametrize(("given", "expected"), [("sk-shell", "sk-shell"), ("", "sk-file")])
def test_a_variable_that_has_a_value_goes_before_its_file(tmp_path: Path, given: str, expected: str) -> None:
    (tmp_path / "KEY").write_text("sk-file")
    environment = {"KEY": given}
    Secrets(tmp_path, environment).adopt()
    assert environment == {"KEY": expected}


@pytest.mark.parametrize(("content", "reason"), [(b"sk-\xff", "is not UTF-8 text"), (b"sk-\0", "holds a NUL byte")])
def test_a_file_that_cannot_be_a_variable_is_named_and_not_shown(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "KEY").write_bytes(content)
    with pytest.raises(SecretsError) as raised:
        Secrets(tmp_path, {}).adopt()
    assert str(raised.value) == f"{tmp_path / 'KEY'}: {reason}"


def test_a_file_that_cannot_be_read_says_who_must_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "KEY").write_text("sk-1")

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(
        SecretsError, match=r"KEY: cannot be read: permission denied: this process is user \d+, and .* has mode \d+"
    ):
        Secrets(tmp_path, {}).adopt()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="cannot be read"):
        Secrets(tmp_path / "none", {}).adopt()


def test_files_that_change_or_go_change_their_variables(tmp_path: Path) -> None:
    environment = {"SET": "shell"}
    secrets = Secrets(tmp_path, environment)
    for name in ("KEY", "OTHER", "SET"):
        (tmp_path / name).write_text("first")
    secrets.adopt()
    before = secrets.stamps()
    (tmp_path / "KEY").write_text("the second")
    (tmp_path / "OTHER").unlink()
    assert secrets.stamps() != before
    secrets.adopt()
    assert environment == {"SET": "shell", "KEY": "the second"}
    (tmp_path / "KEY").write_bytes(b"\xff")
    (tmp_path / "NEW").write_text("new")
    with pytest.raises(SecretsError):
        secrets.adopt()
    assert environment == {"SET": "shell", "KEY": "the second"}


def test_without_a_folder_there_are_none() -> None:
    secrets = Secrets(None, {})
    secrets.adopt()
    assert secrets.stamps() == []
