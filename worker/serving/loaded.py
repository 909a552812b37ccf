"""All that a worker has loaded from its files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autogen_core.models import ChatCompletionClient
from autogen_core.tools import Workbench

from fleet import logs
from worker.secrets import Secrets, SecretsError
from worker.serving.catalog import Model, ModelsError, load_models
from worker.serving.offer import NOTHING, ServeError
from worker.serving.roster import Roster, load_agents
from worker.settings import WorkerSettings

log = logs.logger(__name__)

Part = ChatCompletionClient | Workbench


class LoadError(Exception):
    """The files cannot be used; the text is one line that names the setting, and what is wrong.

    ``named`` are the files that entries name, with their stamps, as far as the entries were read.
    """

    def __init__(self, text: str, named: Mapping[Path, object] | None = None) -> None:
        super().__init__(text)
        self.named = named or {}


@dataclass(frozen=True)
class Loaded:
    models: Mapping[str, Model]
    roster: Roster

    @property
    def parts(self) -> list[Part]:
        """Clients and servers, which end when nothing needs them any longer."""
        return [*(model.client for model in self.models.values()), *self.roster.own, *self.roster.workbenches.values()]

    def changes(self, before: "Loaded") -> dict[str, list[str]]:
        """The names that are ``added``, ``changed`` and ``removed``."""
        now, then = self._named(), before._named()
        return {
            "added": [name for name in now if name not in then],
            "changed": [name for name in now if name in then and now[name] != then[name]],
            "removed": [name for name in then if name not in now],
        }

    def _named(self) -> dict[str, Any]:
        roster = self.roster
        return {**self.models, **roster.entries, **{f"mcp.{name}": part for name, part in roster.workbenches.items()}}


def read_models(
    settings: WorkerSettings, secrets: Secrets, before: Mapping[str, Model] | None = None
) -> dict[str, Model]:
    """The models, with ``secrets`` as they are now; one whose entry is as ``before`` is the same object.

    Raises :class:`LoadError`.
    """
    try:
        secrets.adopt()
        return load_models(settings.models, before=before)
    except SecretsError as error:
        raise LoadError(f"WORKER_SECRETS: {error}") from None
    except ModelsError as error:
        raise LoadError(f"WORKER_MODELS: {error}") from None


async def load_all(settings: WorkerSettings, models: Mapping[str, Model], before: Roster | None = None) -> Loaded:
    """``models`` and the agents with them. Raises :class:`LoadError`.

    An entry that is wrong leaves the others, unless it was right, or not there, ``before``.
    """
    try:
        roster = await load_agents(settings.agents, models, settings.serve, before=before)
    except ServeError as error:
        raise LoadError(f"WORKER_SERVE: {error}") from None
    new = [problem for place, problem in roster.problems.items() if before is not None and place not in before.problems]
    if new:
        raise LoadError(f"WORKER_AGENTS: {new[0]}", roster.files)
    if not (roster.models or roster.entries):
        raise LoadError(f"WORKER_MODELS: {NOTHING}")
    return Loaded(models, roster)


async def end(parts: Iterable[Part]) -> None:
    """Close connections and stop servers."""
    for part in parts:
        try:
            await (part.stop() if isinstance(part, Workbench) else part.close())
        except Exception as error:  # of a class that is not ours; nothing depends on its end
            log.info("a client or a tool server did not close", kind=type(part).__name__, reason=str(error))
