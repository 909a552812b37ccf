"""The operators' table has every setting of every process."""

import importlib
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from tests.harness.process import REPOSITORY

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()


def _settings() -> dict[str, type[BaseSettings]]:
    """Every class of settings in any module that is called ``settings``."""
    found: dict[str, type[BaseSettings]] = {}
    for file in sorted(REPOSITORY.glob("[a-z]*/settings.py")):
        module = importlib.import_module(f"{file.parent.name}.settings")
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, BaseSettings)]
        found |= {kind.__name__: kind for kind in kinds if kind.__module__ == module.__name__}
    return found


SETTINGS = _settings()


def test_all_processes_are_covered() -> None:
    assert {"FleetSettings", "GatewaySettings", "HostSettings", "ModelSettings", "WorkerSettings"} < SETTINGS.keys()


def test_settings_are_only_read_where_the_table_is_compared() -> None:
    folders = [path for path in REPOSITORY.iterdir() if (path / "__init__.py").exists() and path.name != "tests"]
    files = {file for folder in folders for file in folder.rglob("*.py") if "(BaseSettings)" in file.read_text()}
    assert {Path(f"{kind.__module__.replace('.', '/')}.py") for kind in SETTINGS.values()} == {
        file.relative_to(REPOSITORY) for file in files
    }


@pytest.mark.parametrize("kind", SETTINGS.values(), ids=list(SETTINGS))
def test_every_setting_stands_in_the_operators_table_with_its_default(kind: type[BaseSettings]) -> None:
    lines = [line.split("|") for line in OPERATIONS.splitlines() if "| `" in line]
    rows = {name: line[2].strip() for line in lines for name in line[1].replace(",", " ").split()}
    prefix = kind.model_config.get("env_prefix", "")
    for name, field in kind.model_fields.items():
        shown = rows[f"`{prefix}{name.upper()}`"].strip("`")
        if field.default not in (None, "") and field.default_factory is None:
            assert shown == _text(field.default), name


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
