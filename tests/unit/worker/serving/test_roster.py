"""What agents need is imported beside the event loop, which serves others while the files are read again."""

import importlib
import threading
from pathlib import Path

import pytest
import yaml

from worker.serving.roster import load_agents

WHERE = "import threading\n\nTHREAD = threading.current_thread()\n"


async def test_a_components_modules_are_imported_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agents").mkdir()
    for name in ("heavy_agent", "heavy_tool"):
        (tmp_path / "agents" / f"{name}.py").write_text(WHERE)
    monkeypatch.syspath_prepend(tmp_path / "agents")
    tool = {"provider": "heavy_tool.Tool", "component_type": "tool", "config": {}}
    agent = {"provider": "heavy_agent.Agent", "component_type": "agent", "config": {"tools": [tool]}}
    file = tmp_path / "agents.yaml"
    file.write_text(yaml.safe_dump({"agents": {"one": {"component": agent}}}))
    roster = await load_agents(file, {})
    assert "Tool" in roster.problems["agents.one"]  # what is wrong with a module is still told
    threads = {importlib.import_module(name).THREAD for name in ("heavy_agent", "heavy_tool")}
    assert threading.current_thread() not in threads
