"""Changed files, taken in while runs go on."""

import asyncio
import gc
import os
import sys
import weakref
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fleet.lane import Outbox
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.harness.waiting import until
from tests.unit.worker.agents import mcp_server
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.serving.loaded import load_all, read_models
from worker.serving.offers import Offers
from worker.serving.registry import Registry
from worker.serving.reload import Reload
from worker.serving.sources import Sources
from worker.settings import WorkerSettings

Lines = list[MutableMapping[str, Any]]
MODEL = "{provider: OpenAIChatCompletionClient, config: {model: gpt-4o-mini, api_key: '%s'}}"
CODE = """
import asyncio

async def agent(context):
    yield "before"
    await asyncio.sleep(3600 if context.task == "wait" else 0)
"""


class Folder:
    """The files of a worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("agents", "secrets"):
            (path / name).mkdir()
        self.settings = WorkerSettings(
            models=path / "models.yaml", agents=path / "agents.yaml", secrets=path / "secrets", capacity=50
        )
        self.models(one="k1", two="k2")

    def models(self, **keys: str) -> None:
        self.write("models.yaml", "models:\n" + "".join(f"  {name}: {MODEL % key}\n" for name, key in keys.items()))

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        # Two writes within the clock's step must differ.
        self.later = getattr(self, "later", path.stat().st_mtime_ns) + 10**9
        os.utime(path, ns=(self.later, self.later))


class Running:
    """A worker's reload, without its link."""

    def __init__(self, folder: Folder, group: asyncio.TaskGroup) -> None:
        self._folder = folder
        self._group = group
        self.beats = 0

    async def start(self) -> "Running":
        settings = self._folder.settings
        sources = Sources(settings)
        loaded = await load_all(settings, read_models(settings, sources.secrets))
        offers = Offers(Turns(), Images(1000), None, Observer())
        outbox = Outbox("w", lambda *_: None, 0.001)
        made = offers.make(loaded.models, loaded.roster)
        self.registry = Registry(made, outbox, settings.capacity, self._group, Observer())
        self.reload = Reload(settings, sources, loaded, offers, self.registry, self._group, self._beat)
        return self

    async def refresh(self) -> list[str]:
        await self.reload.refresh()
        return list(self.registry.offers)

    def client(self, name: str) -> Any:
        return self.reload.loaded.models[name].client

    def begin(self, request_id: str, model: str, text: str = "wait") -> None:
        history = pb.ChatHistory(request_id=request_id, attempt=1, reply_to="g", model=model)
        history.messages.add(role=pb.ROLE_USER, source="user").content.add(text=text)
        self.registry.begin(history)

    def _beat(self) -> None:
        self.beats += 1


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    path = list(sys.path)
    yield Folder(tmp_path)
    sys.path[:] = path
    for name in ("RELOAD_KEY", "RELOAD_NEW"):
        os.environ.pop(name, None)
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(vars(module).get("__file__"))]:
        del sys.modules[name]


@pytest.fixture
async def running(folder: Folder) -> AsyncIterator[Running]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        made = await Running(folder, group).start()
        yield made
        made.registry.cancel_all("shutdown")


@pytest.fixture
def lines() -> Iterator[Lines]:
    with capture_logs() as found:
        yield found


def errors(lines: Lines) -> list[str]:
    return [str(line.get("reason")) for line in lines if line["log_level"] == "error"]


async def test_entries_come_change_and_go_and_others_keep_their_client(folder: Folder, running: Running) -> None:
    one, two = running.client("one"), running.client("two")
    assert await running.refresh() == ["one", "two"]
    assert running.beats == 0
    folder.models(three="k3", one="k1", two="other")
    assert await running.refresh() == ["three", "one", "two"]
    assert running.client("one") is one
    assert running.client("two") is not two
    folder.models(two="other")
    assert await running.refresh() == ["two"]
    assert running.beats == 2, "gateways are told at once"


async def test_the_capacity_follows(folder: Folder, running: Running) -> None:
    assert running.registry.capacity == 50
    folder.write("models.yaml", f"models: {{one: {MODEL[:-1] % 'k1'}, concurrency: 3}}}}")
    await running.refresh()
    assert running.registry.capacity == 3
    folder.models(one="k1")
    await running.refresh()
    assert running.registry.capacity == 50


async def test_what_a_run_uses_is_closed_when_it_has_ended(folder: Folder) -> None:
    folder.write("agents/reload_waits.py", CODE)
    folder.write("agents.yaml", "agents: {waits: {factory: 'reload_waits:agent'}}")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        running.begin("a", "waits")
        await until(lambda: running.registry.active == 1)
        before = running.client("one")._client
        folder.models(one="other", two="k2")
        await running.refresh()
        running.begin("b", "waits")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not before.is_closed(), "a run has it"
        running.registry.cancel("g", "a", 0, "test")
        await until(before.is_closed)
        assert running.registry.active == 1, "a run that has begun since does not hold it"
        running.registry.cancel_all("shutdown")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("models.yaml", "models: [", "models.yaml: is not YAML"),
        ("models.yaml", "models: {}", "models: must map at least one"),
        ("models.yaml", f"models: {{one: {MODEL % '${NOT_THERE}'}}}", "api_key: the environment has no NOT_THERE"),
        ("models.yaml", "models: {one: {provider: nothing.Here}}", "models.one.provider: nothing.Here cannot be"),
        ("agents.yaml", "agents: {a: {factory: 'reload_missing:agent'}}", "agents.a.factory: reload_missing cannot be"),
        ("agents.yaml", "agents: {one: {factory: 'reload_code:agent'}}", "a model of models.yaml has this name"),
        ("agents.yaml", "agents: {a: {factory: 'reload_code:missing'}}", "reload_code has no 'missing'"),
        ("agents/reload_code.py", "def agent(:", "reload_code cannot be imported: reload_code.py line 1"),
        ("agents/reload_code.py", "raise SystemExit(1)", "reload_code cannot be imported"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_reported_once(
    folder: Folder, file: str, text: str, told: str, lines: Lines
) -> None:
    folder.write("agents/reload_code.py", CODE)
    folder.write("agents.yaml", "agents: {code: {factory: 'reload_code:agent'}}")
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        loaded = running.reload.loaded
        kept = (folder.path / file).read_text()
        for _ in range(2):
            folder.write(file, text)
            for _ in range(3):
                assert await running.refresh() == ["one", "two", "code"]
        assert running.reload.loaded is loaded
        (error,) = errors(lines)
        assert told in error
        folder.write(file, kept)
        folder.models(one="k1", three="k3")
        assert await running.refresh() == ["one", "three", "code"]


async def test_what_was_wrong_from_the_start_does_not_keep_other_changes_out(folder: Folder) -> None:
    folder.write("agents.yaml", "agents: {a: {factory: 'reload_missing:agent'}}")
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        folder.models(three="k3")
        assert await running.refresh() == ["three"]


async def test_what_was_wrong_may_be_wrong_in_other_words(folder: Folder, lines: Lines) -> None:
    folder.write("agents/reload_needs.py", "def agent(context):\n    context.model('absent')")
    folder.write("agents.yaml", "agents: {needs: {factory: 'reload_needs:agent'}}")
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        folder.models(three="k3")
        assert await running.refresh() == ["three"]
    assert errors(lines) == []
    (told,) = [line["reason"] for line in lines if line["event"] == "agent not served"]
    assert told.endswith("models.yaml has no model 'absent'; it has three")


@pytest.mark.parametrize("moved", [True, False], ids=["moved away", "overwritten"])
@pytest.mark.parametrize("file", ["models.yaml", "agents.yaml"])
async def test_a_file_that_comes_back_as_it_was_is_told(folder: Folder, lines: Lines, file: str, moved: bool) -> None:
    folder.write("agents.yaml", "agents: {}")
    path = folder.path / file
    kept = path.read_text()
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        if moved:
            path.rename(folder.path / "away")
        else:
            folder.write(file, "nonsense: [")
        await running.refresh()
        if moved:
            (folder.path / "away").rename(path)
        else:
            folder.write(file, kept)
        await running.refresh()
        await running.refresh()
    assert [line["event"] for line in lines if "reload" in line["event"]] == ["not reloaded", "reloaded"]


async def test_a_missing_file_is_no_empty_file(folder: Folder, running: Running, lines: Lines) -> None:
    folder.write("agents/reload_code.py", CODE)
    folder.write("agents.yaml", "agents: {code: {factory: 'reload_code:agent'}}")
    assert await running.refresh() == ["one", "two", "code"]
    folder.settings.agents.rename(folder.path / "away")
    assert await running.refresh() == ["one", "two", "code"]
    assert "is gone" in errors(lines)[0]
    folder.write("agents.yaml", "agents: {}")
    assert await running.refresh() == ["one", "two"]


async def test_a_name_to_serve_that_is_gone_changes_nothing(folder: Folder, lines: Lines) -> None:
    folder.settings = folder.settings.model_copy(update={"serve": ["two"]})
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        folder.models(one="k1")
        assert await running.refresh() == ["two"]
    assert "WORKER_SERVE: 'two' is no public name" in errors(lines)[0]


async def test_a_changed_secret_is_a_changed_entry(folder: Folder) -> None:
    folder.write("secrets/RELOAD_KEY", "first\n")
    folder.models(one="${RELOAD_KEY}", two="k2")
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        one, two = running.client("one"), running.client("two")
        assert one._client.api_key == "first"
        folder.write("secrets/RELOAD_KEY", "second\n")
        await running.refresh()
        assert running.client("one")._client.api_key == "second"
        assert running.client("two") is two
        folder.write("secrets/RELOAD_NEW", "new")
        folder.models(one="${RELOAD_KEY}", three="${RELOAD_NEW}")
        await running.refresh()
        assert running.client("three")._client.api_key == "new"


async def test_a_config_map_is_taken_in_when_its_link_moves(folder: Folder, running: Running) -> None:
    folder.settings.models.unlink()
    for version, keys in (("v1", {"one": "k1"}), ("v2", {"one": "k1", "new": "k2"})):
        (folder.path / version).mkdir()
        folder.models(**keys)
        (folder.path / "models.yaml").rename(folder.path / version / "models.yaml")
    (folder.path / "..data").symlink_to("v1")
    folder.settings.models.symlink_to("..data/models.yaml")
    assert await running.refresh() == ["one"]
    (folder.path / "..next").symlink_to("v2")
    (folder.path / "..next").rename(folder.path / "..data")
    assert await running.refresh() == ["one", "new"]


async def test_changed_code_serves_new_runs_and_the_others_go_on_with_theirs(folder: Folder) -> None:
    folder.write("agents/reload_words.py", "WORD = 'before'\n")
    folder.write("agents/reload_says.py", "import reload_words\n" + CODE.replace('"before"', "reload_words.WORD"))
    folder.write("agents.yaml", "agents: {says: {factory: 'reload_says:agent'}}")
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        entry = running.reload.loaded.roster.entries["says"]
        folder.write("agents/reload_words.py", "WORD = 'after'\n")
        await running.refresh()
        changed = running.reload.loaded.roster.entries["says"]
        words = [made.factory.__globals__["reload_words"].WORD for made in (entry, changed)]
        assert words == ["before", "after"]
        folder.models(one="k1", three="k3")
        await running.refresh()
        assert running.reload.loaded.roster.entries["says"] == changed, "code that is as it was is not imported again"


async def test_code_that_could_not_be_imported_is_served_once_it_is_mended(folder: Folder) -> None:
    folder.write("agents/reload_mended.py", "def agent(:")
    folder.write("agents.yaml", "agents: {mended: {factory: 'reload_mended:agent'}}")
    async with asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        assert await running.refresh() == ["one", "two"]
        folder.write("agents/reload_mended.py", CODE)
        assert await running.refresh() == ["one", "two", "mended"]


async def test_a_changed_mcp_server_stops_with_the_runs_that_may_use_it(folder: Folder) -> None:
    def servers(*arguments: str) -> str:
        found = ", ".join(f"{name}: {{command: {sys.executable}, args: [{mcp_server.__file__}]}}" for name in arguments)
        return f"{{{found}}}"

    folder.write("agents/reload_waits2.py", CODE)
    agents = "agents: {waits: {factory: 'reload_waits2:agent'}}\n"
    folder.write("agents.yaml", f"{agents}mcp: {servers('kept', 'gone')}")
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:  # each server may take 30 s to start
        running = await Running(folder, group).start()
        benches = running.reload.loaded.roster.workbenches
        kept, gone = benches["kept"], benches["gone"]
        await asyncio.gather(kept.list_tools(), gone.list_tools())
        running.begin("a", "waits")
        folder.write("agents.yaml", f"{agents}mcp: {servers('kept')}")
        await running.refresh()
        assert running.reload.loaded.roster.workbenches == {"kept": kept}
        assert gone._session is not None, "a run may use it"
        running.registry.cancel_all("test")
        await until(lambda: gone._session is None)
        assert kept._session is not None
        await kept.stop()


async def test_a_file_that_lost_its_name_to_another_is_told_once(
    folder: Folder, running: Running, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.process.files.is_orphan", lambda path: path == folder.settings.models)
    for _ in range(3):
        await running.refresh()
    told = [line["path"] for line in lines if line["log_level"] == "warning"]
    assert told == [str(folder.settings.models)]


async def test_an_unknown_defect_ends_nothing(
    folder: Folder, running: Running, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("worker.serving.reload.read_models", fail)
    folder.models(one="k1")
    for _ in range(3):
        assert await running.refresh() == ["one", "two"]
    assert len(errors(lines)) == 1


COMPONENT = """{"provider": "autogen_agentchat.agents.AssistantAgent", "component_type": "agent", "config": {
  "name": "%s", "description": "d", "system_message": "s", "model_client": {
    "provider": "OpenAIChatCompletionClient", "component_type": "model",
    "config": {"model": "gpt-4o-mini", "api_key": "${RELOAD_KEY}"}}}}"""


async def test_the_file_of_a_component_is_watched_from_the_start(folder: Folder) -> None:
    folder.write("secrets/RELOAD_KEY", "one")
    folder.write("team.json", COMPONENT % "first")
    folder.write("agents.yaml", "agents: {team: {component: team.json}}")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        before = running.reload.loaded.roster.recipes["team"]
        folder.write("team.json", COMPONENT % "second")
        await running.refresh()
        assert running.reload.loaded.roster.recipes["team"] is not before


async def test_a_component_gets_a_client_with_the_changed_secret(folder: Folder) -> None:
    folder.write("secrets/RELOAD_KEY", "first-key")
    folder.write("team.json", COMPONENT % "agent")
    folder.write("agents.yaml", "agents: {team: {component: team.json}}")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        [client] = running.reload.loaded.roster.own
        folder.write("secrets/RELOAD_KEY", "second-key")
        await running.refresh()
        [changed] = running.reload.loaded.roster.own
        assert changed is not client
        assert changed._client.api_key == "second-key"  # type: ignore[union-attr]


async def test_a_key_that_an_sdk_finds_by_itself_is_a_part_of_the_entry(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    folder.write("secrets/OPENAI_API_KEY", "first-key")
    folder.write("models.yaml", "models: {one: {provider: OpenAIChatCompletionClient, config: {model: gpt-4o-mini}}}")
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            running = await Running(folder, group).start()
            assert running.client("one")._client.api_key == "first-key"
            folder.write("secrets/OPENAI_API_KEY", "second-key")
            await running.refresh()
            assert running.client("one")._client.api_key == "second-key"
    finally:
        os.environ.pop("OPENAI_API_KEY", None)


async def test_code_is_that_of_the_folder_whose_link_has_moved(folder: Folder, tmp_path: Path) -> None:
    """As a release of which ``current`` is a link."""
    for name in ("one", "two"):
        code = tmp_path / name / "agents"
        code.mkdir(parents=True)
        (code / "linked.py").write_text(f"NAME = {name!r}\n\nasync def agent(context):\n    yield NAME\n")
        (tmp_path / name / "agents.yaml").write_text(f"agents: {{a: {{factory: 'linked:agent', description: {name}}}}}")
    current = tmp_path / "current"
    current.symlink_to("one")
    folder.settings = folder.settings.model_copy(update={"agents": current / "agents.yaml"})
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        assert running.reload.loaded.roster.entries["a"].factory.__globals__["NAME"] == "one"
        current.unlink()
        current.symlink_to("two")
        await running.refresh()
        assert running.reload.loaded.roster.entries["a"].factory.__globals__["NAME"] == "two"


async def test_a_component_is_served_once_its_file_is_there(folder: Folder, lines: Lines) -> None:
    folder.write("secrets/RELOAD_KEY", "one")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        folder.write("agents.yaml", "agents: {team: {component: team.json}}")
        assert await running.refresh() == ["one", "two"]
        folder.write("team.json", COMPONENT % "late")
        assert await running.refresh() == ["one", "two", "team"]
        assert [line["event"] for line in lines if "reload" in line["event"]] == ["not reloaded", "reloaded"]


async def test_nothing_is_kept_of_what_was_replaced(folder: Folder) -> None:
    folder.write("secrets/RELOAD_KEY", "one")
    folder.write("team.json", COMPONENT % "first")
    folder.write("agents.yaml", "agents: {team: {component: team.json}}")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = await Running(folder, group).start()
        former = [weakref.ref(part) for part in running.reload.loaded.roster.own]
        for number in range(3):
            folder.write("team.json", COMPONENT % f"next{number}")
            await running.refresh()
    gc.collect()
    assert [client() for client in former] == [None]
