"""The agents that a worker serves, loaded from ``agents.yaml``. What is wrong with one of them leaves the others."""

import asyncio
import dataclasses
import importlib
import inspect
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autogen_core.models import ChatCompletionClient
from autogen_core.tools import Workbench
from pydantic import BaseModel, ConfigDict, Field

from fleet.process import files
from protos import chat_pb2 as pb
from worker.agents.components import ComponentError, Recipe, find
from worker.agents.entry import Context, Entry
from worker.agents.ledger import Ledger
from worker.agents.mcp_config import McpConfig
from worker.agents.transcript import Transcript
from worker.serving.catalog import OURS, Model, ModelsError, client, expand
from worker.serving.document import Concurrency, DocumentError, checked, nearest, read
from worker.serving.offer import DESCRIPTION, chosen

if TYPE_CHECKING:
    from worker.agents.mcp import McpServer

FOLDER = "agents"
"""Beside the file: where own code is imported from."""


class AgentConfig(BaseModel):
    """One entry of ``agents``, with ``factory`` or ``component``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    factory: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$")
    arguments: dict[str, Any] = Field(default_factory=dict)
    component: str | dict[str, Any] | None = None
    model: str | None = None
    description: str = Field(default="", max_length=DESCRIPTION)
    speakers: list[str] | None = Field(default=None, min_length=1)
    max_turns: int | None = Field(default=None, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    on_tool_error: Literal["tell", "fail"] = "tell"
    concurrency: Concurrency = None


@dataclasses.dataclass
class Roster:
    """``problems`` are lines that name file, entry and field, by the entry's place. ``recipes`` are what components
    were made of, by name.

    ``models`` are the public names of models that are to be served. ``files`` are those that entries name, with
    the stamps that they had before they were read.
    """

    models: list[str] = dataclasses.field(default_factory=list)
    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    workbenches: dict[str, "McpServer"] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    recipes: dict[str, tuple[Any, Recipe]] = dataclasses.field(default_factory=dict)
    files: dict[Path, object] = dataclasses.field(default_factory=dict)

    @property
    def own(self) -> list[ChatCompletionClient | Workbench]:
        """What components brought along."""
        return [part for _, recipe in self.recipes.values() for part in recipe.own]


async def load_agents(
    path: Path,
    models: Mapping[str, Model],
    serve: Collection[str] = (),
    environment: Mapping[str, str] = os.environ,
    before: Roster | None = None,
) -> Roster:
    """Every agent that is to be served and can be. A file that is not there has none.

    MCP servers and components of entries that are as ``before`` are the same objects.

    Each factory is called once, with an empty conversation, to see that it works. No network is used. An agent that is
    not to be served is not imported: what it needs may be missing here. Raises :class:`ServeError`.
    """
    roster, before = Roster(), before or Roster()
    entries: dict[str, Any] = {}
    servers: dict[str, Any] = {}
    try:
        entries, servers = _sections(path, roster.problems)
    except DocumentError as error:
        roster.problems[str(error)] = str(error)  # the whole file's
    public = [name for name, model in models.items() if not model.internal]
    names = chosen(dict.fromkeys([*public, *map(str, entries)]), serve)
    roster.models = [name for name in public if name in names]
    for name, given in servers.items():
        try:
            where = f"{path}: mcp.{name}"
            config = checked(where, McpConfig, expand(given, where, environment))
            known = before.workbenches.get(str(name))
            same = known is not None and known.config == config
            roster.workbenches[str(name)] = known if known and same else await _mcp_server(str(name), config)
        except (DocumentError, ModelsError) as error:
            roster.problems[f"mcp.{name}"] = str(error)
    loader = _Loader(path, roster, before, models, environment)
    for name, given in entries.items():
        if str(name) not in names:
            continue
        await asyncio.sleep(0)  # in a worker that runs, streams go on in between
        try:
            await loader.load(str(name), given)
        except (DocumentError, ComponentError, ModelsError) as error:
            roster.problems[f"agents.{name}"] = str(error)
    return roster


async def _mcp_server(name: str, config: McpConfig) -> "McpServer":
    await _import(["worker.agents.mcp"])
    from worker.agents.mcp import McpServer

    return McpServer(name, config)


async def _import(modules: Iterable[str]) -> None:
    """Import in a thread, because SDKs take up to a second. What cannot be imported says so where it is used."""

    def each() -> None:
        for name in modules:
            with suppress(Exception, SystemExit):
                importlib.import_module(name)

    with ThreadPoolExecutor(1) as thread:
        await asyncio.get_running_loop().run_in_executor(thread, each)


def _modules(component: Any) -> Iterator[str]:
    """The modules of all providers in it."""
    if isinstance(component, dict):
        provider = component.get("provider")
        if isinstance(provider, str) and "." in (ours := OURS.get(provider, provider)):
            yield ours.rpartition(".")[0]
        component = list(component.values())
    if isinstance(component, list):
        for part in component:
            yield from _modules(part)


def _sections(path: Path, problems: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The agents and the MCP servers of the file, whose folder for own code becomes importable."""
    if not path.exists():
        return {}, {}
    document = read(path, ("agents", "mcp"), problems) or {}
    if not isinstance(document, dict):
        raise DocumentError(f"{path}: must have agents, mcp or both")
    if unknown := set(document) - {"agents", "mcp"}:
        raise DocumentError(f"{path}: {min(map(str, unknown))}: is not known here; agents and mcp are")
    entries, servers = document.get("agents") or {}, document.get("mcp") or {}
    for name, section in (("agents", entries), ("mcp", servers)):
        if not isinstance(section, dict):
            raise DocumentError(f"{path}: {name}: must map names to their entries")
    folder = str(path.parent.absolute() / FOLDER)  # not resolved: a link may move to another release
    if folder not in sys.path:
        sys.path.append(folder)  # behind the others: a file of that folder must not hide a package
    return entries, servers


class _Loader:
    def __init__(
        self,
        path: Path,
        roster: Roster,
        before: Roster,
        models: Mapping[str, Model],
        environment: Mapping[str, str],
    ) -> None:
        self._path = path
        self._roster = roster
        self._before = before
        self._models = models
        self._clients = {name: model.client for name, model in models.items()}
        self._environment = environment

    async def load(self, name: str, given: Any) -> None:
        """Add an entry. Raises what :func:`load_agents` notes."""
        where = f"{self._path}: agents.{name}"
        if not name:
            raise DocumentError(f"{where}: must have a name")
        if name in self._models:
            raise DocumentError(f"{where}: a model of models.yaml has this name")
        config = _config(where, expand(given, where, self._environment))
        recipe = (
            _factory(where, config.factory) if config.factory is not None else await self._recipe(where, name, config)
        )
        entry = Entry(
            name=name,
            factory=recipe,
            arguments=config.arguments,
            description=config.description,
            speakers=frozenset(config.speakers) if config.speakers is not None else None,
            max_turns=config.max_turns,
            timeout=config.timeout,
            on_tool_error=config.on_tool_error,
            concurrency=config.concurrency,
        )
        await self._try(where, entry)
        self._roster.entries[name] = entry

    async def _recipe(self, where: str, name: str, config: AgentConfig) -> Recipe:
        model = None
        if config.model is not None:
            model = self._clients.get(config.model)
            if model is None:
                raise DocumentError(
                    f"{where}.model: models.yaml has no {config.model!r}{nearest(config.model, self._clients)}"
                )
        where = f"{where}.component"
        component = self._component(where, config.component)
        # SDKs find keys in the environment by themselves.
        made_of = component, id(model), dict(self._environment) if model is None else None
        known = self._before.recipes.get(name)
        if known is None or known[0] != made_of:
            await _import(_modules(component))
            # It is kept, so it must not know the loader, which knows the roster before, and so all before that.
            known = made_of, Recipe(where, component, model, partial(_client, self._environment))
        self._roster.recipes[name] = known
        return known[1]

    def _component(self, where: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, str):
            return find(where, given)
        file, _, label = given.partition("#")
        path = self._path.parent / file
        self._roster.files[path] = files.existing(path)
        try:
            document = json.loads(files.text(path))
        except OSError as error:
            raise DocumentError(f"{where}: {path} cannot be read: {files.reason(path, error)}") from None
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"{where}: {path} is not JSON: {error}") from None
        return find(where, document, label)

    async def _try(self, where: str, entry: Entry) -> None:
        """Build it once, as a request does."""
        transcript = Transcript(_Nowhere())
        context = Context(entry.arguments, {}, (), "", self._clients, self._roster.workbenches, Ledger(), transcript)
        try:
            built = await entry.build(context)
        except Exception as error:
            raise DocumentError(f"{where}: cannot be built: {_told(error)}") from None
        if isinstance(built, AsyncGenerator):
            await built.aclose()


def _client(environment: Mapping[str, str], where: str, provider: str, config: dict[str, Any]) -> ChatCompletionClient:
    return client(where, provider, expand(config, f"{where}.config", environment))


class _Nowhere:
    """A sink for what is only built."""

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        pass

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        pass

    def event(self, event: pb.ReplyEvent) -> None:
        pass

    def attach(self, producer: object) -> None:
        pass

    async def ready(self) -> None:
        await asyncio.sleep(0)


def _config(where: str, given: Any) -> AgentConfig:
    config = checked(where, AgentConfig, given)
    if (config.factory is None) == (config.component is None):
        raise DocumentError(f"{where}: must have either factory or component")
    if config.model is not None and config.component is None:
        raise DocumentError(f"{where}.model: goes with component; a factory calls context.model(name)")
    if config.arguments and config.factory is None:
        raise DocumentError(f"{where}.arguments: goes with factory")
    return config


def _factory(where: str, named: str) -> Callable[[Context], Any]:
    """The callable ``package.module:name``."""
    where = f"{where}.factory"
    module_name, _, name = named.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the module's own code runs
        raise DocumentError(f"{where}: {module_name} cannot be imported: {_told(error)}") from None
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            raise DocumentError(f"{where}: {module_name} has no {name!r}{nearest(name, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise DocumentError(f"{where}: {named} is a {type(found).__name__}, which cannot be called")
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        raise DocumentError(f"{where}: {named} must take one argument, the context") from None
    except ValueError:  # written in C
        pass
    made: Callable[[Context], Any] = found
    return made


def _told(error: BaseException) -> str:
    """An error of own code in one line, with its place for a syntax error."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '').name} line {error.lineno}: {error.msg}"
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text if isinstance(error, ImportError | LookupError) else f"{type(error).__name__}: {text}"
