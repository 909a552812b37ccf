"""Which of the names of ``models.yaml`` and ``agents.yaml`` a worker serves."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.serving.catalog import Model, ModelsError, load_models
from worker.serving.check import check
from worker.serving.offer import DESCRIPTION, NOTHING, ServeError
from worker.serving.roster import Roster, load_agents
from worker.settings import WorkerSettings

CLIENT = "provider: OpenAIChatCompletionClient, config: {model: gpt-4o-mini, api_key: x}"
MODELS = f"""
models:
  hidden: {{internal: true, {CLIENT}}}
  open: {{description: Answers., concurrency: 3, {CLIENT}}}
  other: {{{CLIENT}}}
"""
AGENTS = """
agents:
  writer: {factory: offered:writer, description: Writes., concurrency: 2}
  hidden: {factory: offered:writer}
  other: {factory: offered:writer}
  lacking: {factory: lacking:agent}
"""
CODE = """
async def writer(context):
    context.model("hidden")
    yield "text"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "agents.yaml").write_text(AGENTS)
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "offered.py").write_text(CODE)
    (tmp_path / "agents" / "lacking.py").write_text("import no_such_package")
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in ("offered", "lacking"):
        sys.modules.pop(name, None)


def models(folder: Path) -> dict[str, Model]:
    return load_models(folder / "models.yaml", {})


async def agents(folder: Path, *serve: str) -> Roster:
    return await load_agents(folder / "agents.yaml", models(folder), serve, {})


def test_what_an_entry_says_of_its_model_besides(folder: Path) -> None:
    found = {name: (model.internal, model.description, model.concurrency) for name, model in models(folder).items()}
    assert found == {"hidden": (True, "", None), "open": (False, "Answers.", 3), "other": (False, "", None)}


async def test_an_internal_model_is_for_agents_only(folder: Path) -> None:
    roster = await agents(folder)
    assert roster.models == ["open", "other"]
    assert roster.entries["writer"].concurrency == 2


async def test_an_agent_named_like_any_model_is_named_and_the_others_are_served(folder: Path) -> None:
    roster = await agents(folder)
    assert list(roster.entries) == ["writer"]
    assert list(roster.problems.values()) == [
        f"{folder}/agents.yaml: agents.hidden: a model of models.yaml has this name",
        f"{folder}/agents.yaml: agents.other: a model of models.yaml has this name",
        f"{folder}/agents.yaml: agents.lacking.factory: lacking cannot be imported: No module named 'no_such_package'",
    ]


async def test_only_what_is_to_be_served_is_imported_and_its_models_are_there_all_the_same(folder: Path) -> None:
    roster = await agents(folder, "writer")
    assert (roster.models, list(roster.entries), roster.problems) == ([], ["writer"], {})
    assert "lacking" not in sys.modules
    roster = await agents(folder, "other", "open")
    assert (roster.models, list(roster.entries)) == (["open", "other"], []), "in the files' order"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("writers", "'writers' is no public name of a model or an agent; did you mean writer?"),
        ("hidden", "'hidden' is no public name"),
        ("x", "'x' is no public name of a model or an agent; known: open, other, writer, lacking"),
    ],
)
async def test_a_name_to_serve_that_is_not_public_is_an_error_with_the_nearest(
    folder: Path, name: str, told: str
) -> None:
    (folder / "agents.yaml").write_text(AGENTS.replace("  hidden: {factory: offered:writer}\n", ""))
    with pytest.raises(ServeError) as refused:
        await agents(folder, "open", name)
    assert str(refused.value).startswith(told)


async def test_a_check_names_what_would_be_served(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = WorkerSettings(agents=folder / "agents.yaml", serve=["writer"])
    assert await check(models(folder), settings) == []
    assert capsys.readouterr().out.splitlines() == [
        "internal model hidden: StreamingOpenAIClient",
        "agent writer: Writes.",
    ]
    assert await check(models(folder), settings.model_copy(update={"serve": ["nobody"]})) == [
        "WORKER_SERVE: 'nobody' is no public name of a model or an agent; known: open, other, writer, hidden, lacking"
    ]


async def test_a_worker_with_nothing_to_serve_is_told_so(folder: Path) -> None:
    (folder / "models.yaml").write_text(f"models: {{hidden: {{internal: true, {CLIENT}}}}}")
    settings = WorkerSettings(agents=folder / "agents.yaml", serve=["lacking"])
    problems = await check(models(folder), settings)
    assert problems[0].startswith(f"{folder}/agents.yaml: agents.lacking.factory: lacking cannot be imported")
    assert problems[1:] == [f"WORKER_MODELS: {NOTHING}"]


def test_the_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_SERVE", " writers, support ,")
    assert WorkerSettings().serve == ["writers", "support"]


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("internal: 1", "models.open.internal: Input should be a valid boolean"),
        ("concurrency: 0", "models.open.concurrency: Input should be greater than or equal to 1"),
        (f"description: {'x' * (DESCRIPTION + 1)}", f"description: String should have at most {DESCRIPTION} char"),
    ],
)
def test_a_bad_value_is_named(folder: Path, field: str, told: str) -> None:
    (folder / "models.yaml").write_text(f"models: {{open: {{{field}, {CLIENT}}}}}")
    with pytest.raises(ModelsError, match=told):
        models(folder)


def test_the_first_public_model_must_chat(folder: Path) -> None:
    entries = f"a: {{internal: true, {CLIENT}}}, b: {{endpoints: [embeddings], {CLIENT}}}"
    (folder / "models.yaml").write_text(f"models: {{{entries}}}")
    with pytest.raises(ModelsError, match=r"models\.b\.endpoints: must have chat"):
        models(folder)
