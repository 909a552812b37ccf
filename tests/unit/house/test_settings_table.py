"""The operators' table has every setting."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from fleet.settings import FleetSettings
from gateway.settings import GatewaySettings
from host.settings import HostSettings
from worker.settings import WorkerSettings

OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("kind", [FleetSettings, GatewaySettings, HostSettings, WorkerSettings])
def test_every_setting_stands_in_the_operators_table_with_its_default(kind: type[BaseSettings]) -> None:
    lines = [line.split("|") for line in OPERATIONS.splitlines() if "| `" in line]
    rows = {name: line[2].strip() for line in lines for name in line[1].replace(",", " ").split()}
    prefix = kind.model_config["env_prefix"]
    for name, field in kind.model_fields.items():
        shown = rows[f"`{prefix}{name.upper()}`"].strip("`")
        if field.default not in (None, ""):
            assert shown == _text(field.default), name


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
