"""Component configs, as Studio exports them, become agents that share their models and tools."""

import copy
from typing import Any

import pytest

from tests.unit.worker.agents.scripted import Says, ScriptedModel, service, told
from worker.agents.components import ComponentError, Recipe, find

MODEL: dict[str, Any] = {
    "provider": "autogen_ext.models.openai.OpenAIChatCompletionClient",
    "component_type": "model",
    "version": 1,
    "component_version": 1,
    "config": {"model": "gpt-4o-mini"},
}
TOOL: dict[str, Any] = {
    "provider": "autogen_core.tools.FunctionTool",
    "component_type": "tool",
    "version": 1,
    "component_version": 1,
    "config": {
        "source_code": "def double(number: int) -> int:\n    return 2 * number\n",
        "name": "double",
        "description": "Doubles.",
        "global_imports": [],
        "has_cancellation_support": False,
    },
}


def agent(name: str, **config: Any) -> dict[str, Any]:
    """As Studio exports it: in the first version of its config."""
    return {
        "provider": "autogen_agentchat.agents.AssistantAgent",
        "component_type": "agent",
        "version": 1,
        "component_version": 1,
        "config": {"name": name, "model_client": copy.deepcopy(MODEL), "tools": [], "handoffs": [], **config},
    }


def team(*participants: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {
        "provider": "autogen_agentchat.teams.RoundRobinGroupChat",
        "component_type": "team",
        "label": "Team",
        "config": {
            "participants": [*participants],
            "termination_condition": {
                "provider": "autogen_agentchat.base.OrTerminationCondition",
                "component_type": "termination",
                "config": {
                    "conditions": [
                        {
                            "provider": "autogen_agentchat.conditions.TextMentionTermination",
                            "component_type": "termination",
                            "config": {"text": "TERMINATE"},
                        },
                        {
                            "provider": "autogen_agentchat.conditions.MaxMessageTermination",
                            "component_type": "termination",
                            "config": {"max_messages": 10},
                        },
                    ]
                },
            },
            **config,
        },
    }


class Loader:
    """Makes one client of every model's config, and counts them."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.made = 0

    def __call__(self, where: str, provider: str, config: dict[str, Any]) -> Any:
        self.made += 1
        return self.model


async def test_a_team_of_an_export_runs_and_its_model_is_made_once() -> None:
    load = Loader(ScriptedModel("one", "two TERMINATE", "three TERMINATE"))
    recipe = Recipe("file", team(agent("a"), agent("b")), None, load)
    serving = service(recipe)
    _, kept = await told(serving, "go")
    assert kept.told == [("text", "a", "one"), ("text", "b", "two TERMINATE")]
    _, kept = await told(serving, "again")
    assert kept.told == [("text", "a", "three TERMINATE")]
    assert load.made == 2


async def test_a_model_of_ours_takes_the_place_of_every_client() -> None:
    model = ScriptedModel("one", "two TERMINATE")
    load = Loader(model)
    await told(service(Recipe("file", team(agent("a"), agent("b")), model, load)), "go")
    assert load.made == 0


async def test_tools_of_an_export_run() -> None:
    model = ScriptedModel(Says(calls=[("c", "double", '{"number": 4}')]), "8 TERMINATE")
    made = team(agent("a", tools=[TOOL], reflect_on_tool_use=True))
    _, kept = await told(service(Recipe("file", made, model, Loader(model))), "go")
    assert ("tool_result", "a", "8") in kept.told


async def test_a_user_proxy_hands_the_turn_back() -> None:
    user = {"provider": "autogen_agentchat.agents.UserProxyAgent", "component_type": "agent", "config": {"name": "me"}}
    model = ScriptedModel("what do you think?")
    done, kept = await told(service(Recipe("file", team(agent("a"), user), model, Loader(model))), "go")
    assert kept.told == [("text", "a", "what do you think?"), ("handoff", "me", "user")]
    assert done.finish_reason == "stop"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            agent("a", model_client={**MODEL, "config": {"model": "m", "api_key": "sk-..."}}),
            "config.api_key: the expor",
        ),
        (
            agent("a", tools=[{**TOOL, "config": {**TOOL["config"], "source_code": "lambda x: x"}}]),
            "cannot load lambdas",
        ),
        (agent("a b"), "valid Python identifier"),
        ({**agent("a"), "provider": "no.such.Agent"}, "cannot be loaded: No module named 'no'"),
        (team(), "participant"),
        (agent("a", nonsense=1, max_tool_iterations=0), "max_tool_iterations"),
    ],
    ids=["a hidden key", "a lambda", "an agent's name", "a class", "nobody", "a field"],
)
def test_what_cannot_be_served_is_refused_at_start(made: dict[str, Any], told: str) -> None:
    model = ScriptedModel()
    given = model if "api_key" not in told else None
    with pytest.raises(ComponentError, match="file") as refused:
        Recipe("file", made, given, Loader(model))
    assert told in str(refused.value)


def test_a_component_is_found_in_what_studio_writes() -> None:
    made = agent("a")
    assert find("f", made) == made
    assert find("f", {"id": 1, "component": made}) == made
    gallery = {"components": {"teams": [team()], "agents": [{**made, "label": "A"}]}}
    assert find("f", gallery, "Team") == team()
    with pytest.raises(ComponentError, match="A, Team"):
        find("f", gallery)
    first = {"items": {"teams": [team()], "components": {"agents": [{**made, "label": "A"}]}}}
    assert find("f", first, "A")["config"] == made["config"]
    with pytest.raises(ComponentError, match="no provider"):
        find("f", [])
