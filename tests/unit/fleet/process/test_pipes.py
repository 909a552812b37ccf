"""A pipe where a file is expected is refused by name: its reader would stand still until somebody writes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from doctor.certificates import _identity
from fleet.process import files
from fleet.security.identity import Identity, IdentityError
from fleet.security.tokens import TokenError, Tokens
from gateway.access.keys import KeysError, read_keys
from gateway.access.new_key import add_key
from identities.authority import Authority
from worker.serving.catalog import ModelsError, load_models

SAID = "is not a regular file"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize(
    "read",
    [
        read_keys,
        lambda path: add_key("alice", path),
        lambda path: Tokens(None, path),
        lambda path: load_models(path, {}),
    ],
    ids=["keys", "a new key", "a token", "models"],
)
def test_a_pipe_is_named_instead_of_read(pipe: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises((KeysError, TokenError, ModelsError), match=f"{pipe}.*{SAID}"):
        read(pipe)


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_pipe_among_tls_files_is_named(tmp_path: Path, pipe: Path, name: str) -> None:
    Authority(tmp_path / "made").update()
    good = {each: tmp_path / "made" / "host" / f"{each}.pem" for each in ("ca", "cert", "key")}
    identity = Identity(**good | {name: pipe})
    with pytest.raises(IdentityError, match=f"FLEET_TLS_{name.upper()}: {pipe}: {SAID}"):
        identity.check()
    (finding,) = _identity(identity, "host", "host")
    assert f"{pipe} cannot be read: {SAID}" in finding.text


def test_a_folder_and_a_file_that_is_not_there_are_errors_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.text(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.text(tmp_path / "a")
