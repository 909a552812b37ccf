"""New keys, and files that get one entry after the other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gateway.access.keys import KeyRing, KeysError, read_keys
from gateway.access.new_key import add_key, main, new_key
from tests.harness.process import ENDS, REPOSITORY

ENTRY = "name: zoë\n{0}sha256: " + "a" * 64 + "\n{0}concurrent: 4  # at most\n"
FILES = {
    "as we write it": "# ours\nkeys:\n  - " + ENTRY.format("    "),
    "not indented": "keys:\n- " + ENTRY.format("  "),
    "indented more": "keys:\n      - " + ENTRY.format("        "),
    "no line end": ("keys:\n  - " + ENTRY.format("    ")).rstrip(),
    "a comment at the end": "keys:\n  - " + ENTRY.format("    ") + "# bob comes back in May\n",
    "empty": "",
    "only comments": "# keys of the fleet\n",
    "no entry": "keys:\n",
    "an empty list": "keys: []  # none yet\n",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_entries_are_appended_and_the_rest_stays(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    before = read_keys(path) if "zoë" in text else {}
    made = [add_key(name, path) for name in ("alice", "Bob: the second", "ünal")]
    ring = KeyRing(path)
    names = [found.name for key in made if (found := ring.find(key))]
    assert names == ["alice", "Bob: the second", "ünal"]
    after = read_keys(path)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3
    written = path.read_text()
    assert all(comment in written for comment in text.split("\n") if comment.startswith("#"))
    assert not any(key in written for key in made)


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = add_key("alice", path)
    assert KeyRing(path).find(key)
    assert path.read_text().startswith("keys:\n  - name: alice\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("keys:\n  - name: alice\n    sha256: " + "b" * 64 + "\n", "alice has a key already"),
        ("keys: [{name: bob, sha256: " + "b" * 64 + "}]\n", "add the entry yourself"),
        ("keys:\n  - name: bob\n    sha256: 1\n", "keys.0."),
        ("other: 1\n", "keys: Field required"),
        ("keys: [", "is not YAML"),
    ],
)
def test_what_cannot_be_added_changes_nothing(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(KeysError) as refused:
        add_key("alice", path)
    assert str(refused.value).startswith(f"{path}: ")
    assert reason in str(refused.value)
    assert path.read_text() == text


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"keys/keys\.yaml: cannot be written: no such file or directory"):
        add_key("alice", tmp_path / "keys" / "keys.yaml")


def test_printed_entries_can_be_appended_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n")
    made = []
    for name in ("alice", "bob"):
        key, entry = new_key(name)
        made.append(key)
        with path.open("a") as file:
            file.write(entry)
    assert [entry["name"] for entry in yaml.safe_load(path.read_text())["keys"]] == ["alice", "bob"]
    assert all(KeyRing(path).find(key) for key in made)


def command(folder: Path, words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    shell = f"{sys.executable} -m gateway keys {words}"
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", **settings}
    return subprocess.run(
        shell, shell=True, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=ENDS
    )


def test_the_command_adds_to_the_file_that_it_or_the_setting_names(tmp_path: Path) -> None:
    for name, words, settings in (
        ("alice", "new alice keys.yaml", {}),
        ("bob", "new bob", {"GATEWAY_KEYS": "keys.yaml"}),
    ):
        done = command(tmp_path, words, **settings)
        assert (done.returncode, done.stderr) == (0, "")
        (header,) = [line for line in done.stdout.splitlines() if "Authorization: Bearer cf-" in line]
        found = KeyRing(tmp_path / "keys.yaml").find(header.rpartition(" ")[2])
        assert found is not None
        assert found.name == name


def test_output_that_goes_into_files_makes_a_file_of_keys_without_a_key(tmp_path: Path) -> None:
    made = [command(tmp_path, words).stderr for words in ("new alice > keys.yaml", "new bob >> keys.yaml")]
    keys = [re.search(r"^  (cf-\S+)$", shown, re.MULTILINE) for shown in made]
    ring = KeyRing(tmp_path / "keys.yaml")
    assert [found.name for key in keys if key and (found := ring.find(key[1]))] == ["alice", "bob"]
    assert "cf-" not in (tmp_path / "keys.yaml").read_text()


def test_the_key_does_not_get_into_the_file_that_gets_the_entry(tmp_path: Path) -> None:
    done = command(tmp_path, "new alice keys.yaml >> keys.yaml")
    assert done.returncode == 1
    assert "do not redirect" in done.stderr
    assert (tmp_path / "keys.yaml").read_text() == ""


def test_the_key_of_an_entry_that_must_be_added_by_hand_is_shown(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: [{name: bob, sha256: " + "b" * 64 + "}]\n")
    done = command(tmp_path, "new alice keys.yaml > entry")
    assert done.returncode == 1
    shown = re.search(r"^  (cf-\S+)$", done.stderr, re.MULTILINE)
    found = KeyRing(tmp_path / "entry").find(shown[1]) if shown else None
    assert found is not None
    assert found.name == "alice"


@pytest.mark.parametrize("name", ["", " ", "x" * 101])
def test_a_name_that_no_entry_can_have_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(name, tmp_path / "keys.yaml") == 1
    assert capsys.readouterr().err == "a key needs a name of 1 to 100 characters\n"
    assert not (tmp_path / "keys.yaml").exists()
