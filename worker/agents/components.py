"""AutoGen's component configs, as its Studio exports them, made into agents and teams.

Models, tools and workbenches of a component are made once and shared; agents, teams and all that keeps state are made
for each request. What would not work on a worker is repaired or refused when the component is read.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Self

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import ChatAgent, Response, Team
from autogen_agentchat.messages import BaseChatMessage, HandoffMessage
from autogen_core import CancellationToken, Component, ComponentBase, ComponentLoader
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseTool, Workbench
from pydantic import BaseModel, ValidationError

from worker.agents.assembly import Target
from worker.agents.entry import Context
from worker.agents.ledger import RunOver

Json = dict[str, Any]
LoadModel = Callable[[str, str, Json], ChatCompletionClient]
"""Makes a model's client of where it stands, its provider and its config; its errors name the place."""

SHARED: dict[str, Any] = {"model": ChatCompletionClient, "tool": BaseTool, "workbench": Workbench}
"""Types of components that are made once."""

USER_PROXIES = frozenset({"autogen_agentchat.agents.UserProxyAgent", "UserProxyAgent", "user_proxy_agent"})

ASSISTANTS = frozenset({"autogen_agentchat.agents.AssistantAgent", "AssistantAgent", "assistant_agent"})

ASSISTANT_DEFAULTS: Json = {
    "description": "An agent that provides assistance with ability to use tools.",
    "reflect_on_tool_use": False,
    "tool_call_summary_format": "{result}",
}
"""Fields that version 2 of the agent's config requires and older exports do not have."""

HIDDEN = frozenset({"", "**********", "sk-...", "your-api-key", "YOUR_API_KEY"})
"""Keys as exports have them where there was a real one."""


class ComponentError(Exception):
    """A component cannot be served; its text names the place in it."""


class HandedBack(RunOver):
    """It is the user's turn, which ends the run; the user's next message goes on."""


class _UserConfig(BaseModel):
    name: str
    description: str = "the user"


class UserTurn(BaseChatAgent, Component[_UserConfig]):
    """Stands in for a ``UserProxyAgent``, which would read the worker's standard input: its turn is the user's."""

    component_config_schema = _UserConfig
    reached = False

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (HandoffMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        self.reached = True
        raise HandedBack(self.name)

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        pass

    @classmethod
    def _from_config(cls, config: _UserConfig) -> Self:
        return cls(config.name, config.description)


class _PartConfig(BaseModel):
    key: int


class SharedPart(ComponentBase[_PartConfig], Component[_PartConfig]):
    """Takes the place of a shared part in a component's config, and becomes that part when the component is loaded."""

    component_type: ClassVar[Any] = "shared"
    component_config_schema = _PartConfig

    @classmethod
    def _from_config(cls, config: _PartConfig) -> Any:
        return _parts.get()[config.key]


_parts: ContextVar[list[Any]] = ContextVar("parts")
_PART = f"{__name__}.SharedPart"


class Recipe:
    """A component that is loaded for each request.

    ``model`` takes the place of every client in it; without one ``load_model`` makes each client, once. Raises
    :class:`ComponentError`.
    """

    def __init__(self, where: str, component: Any, model: ChatCompletionClient | None, load_model: LoadModel) -> None:
        self._where = where
        self._model = model
        self._load_model = load_model
        self._shared: list[Any] = []
        self._config = self._prepare(component, "")
        self._load(self._shared)  # so that what is wrong with it is known at start

    def __call__(self, context: Context) -> Target:
        """A fresh agent or team, whose models belong to the run of ``context``."""
        return self._load(
            [context.own(part) if isinstance(part, ChatCompletionClient) else part for part in self._shared]
        )

    def _load(self, parts: list[Any]) -> Target:
        token = _parts.set(parts)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made: Any = ComponentLoader.load_component(copy.deepcopy(self._config), object)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise ComponentError(f"{self._where}.{field}: {problem['msg']}") from None
        except (ImportError, AttributeError) as error:
            raise ComponentError(f"{self._where}: cannot be loaded: {error}") from None
        except Exception as error:  # a component's constructor may raise anything
            raise ComponentError(f"{self._where}: {_first_line(error)}") from None
        finally:
            _parts.reset(token)
        if not isinstance(made, ChatAgent | Team):
            raise ComponentError(f"{self._where}: is a {type(made).__name__}; an agent or a team can be served")
        return made

    # ------------------------------------------------------------ what it becomes

    def _prepare(self, value: Any, path: str) -> Any:
        """``value`` with its shared parts made, and its traps repaired or refused."""
        if isinstance(value, list):
            return [self._prepare(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if not isinstance(value.get("provider"), str):
            return {key: self._prepare(item, f"{path}.{key}") for key, item in value.items()}
        kind = value.get("component_type") or _kind(path)
        if kind in SHARED:
            return {"provider": _PART, "config": {"key": self._share(kind, value, path)}}
        config = value.get("config") or {}
        if not isinstance(config, dict):
            raise ComponentError(f"{self._where}{path}.config: must be a mapping")
        config = {key: self._prepare(item, f"{path}.config.{key}") for key, item in config.items()}
        if value["provider"] in USER_PROXIES:
            told = {key: item for key, item in config.items() if key in ("name", "description") and item}
            return {"provider": f"{__name__}.UserTurn", "config": told}
        if value["provider"] in ASSISTANTS:
            given = {key: item for key, item in config.items() if item not in (None, [])}
            return {**value, "version": 2, "component_version": 2, "config": ASSISTANT_DEFAULTS | given}
        return {**value, "config": config}

    def _share(self, kind: str, component: Json, path: str) -> int:
        self._shared.append(self._made(kind, component, f"{self._where}{path}"))
        return len(self._shared) - 1

    def _made(self, kind: str, component: Json, where: str) -> Any:
        config = component.get("config") or {}
        if kind == "model":
            if self._model is not None:
                return self._model
            if config.get("api_key") in HIDDEN:
                raise ComponentError(f"{where}.config.api_key: the export hides it; set it, or the entry's model")
            return self._load_model(where, component["provider"], config)
        if kind == "tool" and "source_code" in config and "def " not in str(config["source_code"]):
            raise ComponentError(f"{where}.config.source_code: is no function; AutoGen cannot load lambdas")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ComponentLoader.load_component(component, SHARED[kind])
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise ComponentError(f"{where}.config.{field}: {problem['msg']}") from None
        except Exception as error:  # it may run a tool's own code
            raise ComponentError(f"{where}: {_first_line(error)}") from None

    @property
    def own(self) -> list[Any]:
        """The clients and workbenches that were made for this component; their owner closes them."""
        kinds = (ChatCompletionClient, Workbench)
        return [part for part in self._shared if isinstance(part, kinds) and part is not self._model]


def find(where: str, document: Any, label: str = "") -> Json:
    """The component in a file: the file itself, what a row of Studio's database holds, or one of a gallery's.

    Raises :class:`ComponentError`.
    """
    if isinstance(document, dict) and isinstance(document.get("component"), dict):
        document = document["component"]
    if isinstance(document, dict) and isinstance(document.get("provider"), str):
        return document
    found = list(_listed(document)) if isinstance(document, dict) else []
    if not found:
        raise ComponentError(f"{where}: holds no component: it has no provider")
    chosen = [one for one in found if label in ("", one.get("label"))]
    if len(chosen) != 1:
        labels = ", ".join(sorted({str(one.get("label")) for one in found})) or "none"
        raise ComponentError(f"{where}: is a gallery; name one of its components as FILE#LABEL: {labels}")
    return chosen[0]


def _listed(gallery: Json) -> Iterator[Json]:
    """The teams and agents of a gallery: in its ``components``, or in its ``items``, as the first ones had them."""
    items = gallery.get("items")
    inner = items.get("components") if isinstance(items, dict) else None
    for section in (gallery.get("components"), items, inner):
        if isinstance(section, dict):
            for kind in ("teams", "agents"):
                yield from (one for one in section.get(kind) or () if isinstance(one, dict))


def _kind(path: str) -> str:
    """What a component without a type must be, by the field that holds it."""
    field = path.rpartition(".")[2].partition("[")[0]
    return {"model_client": "model", "tools": "tool", "workbench": "workbench"}.get(field, "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
