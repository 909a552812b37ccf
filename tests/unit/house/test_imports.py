"""Dependencies point one way: down the rooms of a process, never into another process, never in a circle."""

from pathlib import Path

import pytest

from tests.harness.process import REPOSITORY
from tests.unit.house.imports import Order, faults, libraries

ORDER = Order(
    packages={
        "protos": "",
        "fleet": "protos",
        "host": "fleet protos",
        "gateway": "fleet protos",
        "worker": "fleet protos",
        "model": "fleet",
        "identities": "fleet",
        "installation": "",
        "launcher": "fleet.settings fleet.process doctor",
        "doctor": "fleet gateway.access gateway.settings host.settings worker.settings model.settings",
        "monitoring": "fleet.metrics",
    },
    rooms={
        "monitoring": ["__main__", "files", "alerts dashboards", "rules grafana outcomes"],
        "gateway": ["__main__", "http", "metrics", "faces", "access", "chats", "routing", "errors settings"],
        "worker": [
            "__main__",
            "metrics",
            "serving",
            "services",
            "agents claude ollama",
            "openai",
            "wire",
            "contract",
            "settings secrets",
        ],
        "fleet": ["metrics", "bus", "settings", "security", "tracing", "process", "logs lane", "logfmt usage"],
    },
    aliases={
        "fleet.__main__": "launcher.__main__",
        "fleet.security.__main__": "identities.__main__",
    },
)


def test_every_import_points_down() -> None:
    wrong = faults(REPOSITORY, ORDER)
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_lane_is_pure() -> None:
    assert libraries(REPOSITORY / "fleet" / "lane") <= {"fleet", "protos"}


def test_what_sets_up_needs_no_package() -> None:
    assert libraries(REPOSITORY / "installation") <= {"installation"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small product in which every import points down."""
    write(tmp_path, "worker/wire/connection.py", "from worker.contract import utf8\nfrom worker import settings\n")
    write(tmp_path, "worker/contract/utf8.py", "import worker.settings\nimport fleet.logs\n")
    write(tmp_path, "worker/settings.py", "from fleet.settings import Address\n")
    write(tmp_path, "worker/openai/sse.py")
    write(tmp_path, "worker/serving/status.py", "TOPIC = 'gateway.members'\nNAME = 'gateway'\n")
    write(tmp_path, "gateway/errors.py", "from protos import chat_pb2\n")
    write(tmp_path, "launcher/stack.py", "from fleet.process import ports\n")
    write(tmp_path, "fleet/settings.py")
    write(tmp_path, "fleet/logs.py")
    write(tmp_path, "fleet/process/ports.py")
    write(tmp_path, "fleet/__main__.py", "from launcher.__main__ import main\n")
    write(tmp_path, "launcher/__main__.py", "import launcher.stack\n")
    write(tmp_path, "protos/chat_pb2.py")
    return tmp_path


def write(root: Path, file: str, text: str = "") -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.relative_to(root).parents:
        if folder.name:
            (root / folder / "__init__.py").touch()
    path.write_text(text)


def test_imports_that_point_down_are_allowed(tree: Path) -> None:
    assert faults(tree, ORDER) == []


UPWARD = [
    "from worker.openai.sse import LIMIT",
    "from worker.openai import sse",
    "import worker.openai.sse as events",
    "from ..openai import sse",
    "def later():\n    from worker.openai.sse import LIMIT",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from worker.openai.sse import LIMIT",
    "CLIENT = 'worker.openai.sse.Decoder'",
]


@pytest.mark.parametrize("text", UPWARD)
def test_an_upward_import_is_named(text: str, tree: Path) -> None:
    write(tree, "worker/wire/answers.py", text)
    (fault,) = faults(tree, ORDER)
    line = 1 + text.count("\n")
    assert fault.startswith(f"worker/wire/answers.py:{line}: worker.wire.answers -> worker.openai.sse: worker goes ")


@pytest.mark.parametrize(
    ("file", "text", "target"),
    [
        ("gateway/chats/chats.py", "from worker.contract import utf8", "worker.contract.utf8"),
        ("fleet/bus/runtime.py", "import gateway.errors", "gateway.errors"),
        ("launcher/console.py", "from fleet import logs", "fleet.logs"),
        ("fleet/__main__.py", "import launcher.stack", "launcher.stack"),
        ("worker/strange/new.py", "from worker import settings", "worker.settings"),
        ("worker/secrets.py", "from worker import settings", "worker.settings"),
    ],
    ids=["another process", "fleet of a process", "launcher of logs", "alias", "unknown room", "same row"],
)
def test_an_import_that_no_rule_allows_is_named(file: str, text: str, target: str, tree: Path) -> None:
    write(tree, file, text)
    (fault,) = faults(tree, ORDER)
    assert fault.startswith(f"{file}:1: ")
    assert f"-> {target}: " in fault


def test_a_circle_is_named_by_its_imports(tree: Path) -> None:
    write(tree, "worker/wire/a.py", "from worker.wire.b import B\n")
    write(tree, "worker/wire/b.py", "\nimport worker.wire.c\n")
    write(tree, "worker/wire/c.py", "def late():\n    from worker.wire import a\n")
    (fault,) = faults(tree, ORDER)
    for one in (
        "worker/wire/a.py:1: worker.wire.a -> worker.wire.b",
        "worker/wire/b.py:2: worker.wire.b -> worker.wire.c",
        "worker/wire/c.py:2: worker.wire.c -> worker.wire.a",
    ):
        assert one in fault


def test_a_library_in_the_lane_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, "fleet/lane/sender.py", "import asyncio\nfrom protos import chat_pb2\nimport orjson\n")
    assert libraries(tmp_path / "fleet" / "lane") == {"protos", "orjson"}
