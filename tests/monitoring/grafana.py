"""Prints what is wrong with dashboards, whose files are named as arguments, by Grafana's own models of them.

Runs in the environment that ``tests/monitoring/conftest.py`` makes. The models forget what they do not know: so what
they give back must be what they were given.
"""

import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder  # type: ignore[import-not-found]
from grafana_foundation_sdk.cog.plugins import register_default_plugins  # type: ignore[import-not-found]
from grafana_foundation_sdk.models.dashboard import Dashboard  # type: ignore[import-not-found]

OF_A_SOURCE = ("titleFormat", "textFormat")
"""What Prometheus' annotations have besides: the models know only what those of every source have."""


def differences(given: Any, known: Any, place: str = "") -> list[str]:
    if isinstance(given, dict) and isinstance(known, dict):
        found = []
        for key, value in given.items():
            if key in OF_A_SOURCE:
                continue
            found += differences(value, known[key], f"{place}.{key}") if key in known else [f"{place}.{key}: unknown"]
        return found
    if isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        pairs = enumerate(zip(given, known, strict=True))
        return [one for number, pair in pairs for one in differences(*pair, f"{place}.{number}")]
    return [] if given == known else [f"{place}: given {given!r}, understood {known!r}"]


register_default_plugins()
for name in sys.argv[1:]:
    given = json.loads(Path(name).read_text())
    known = json.loads(json.dumps(Dashboard.from_json(given), cls=JSONEncoder))
    for difference in differences(given, known):
        print(f"{Path(name).name}{difference}")
