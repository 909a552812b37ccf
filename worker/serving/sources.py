"""The files that make what a worker serves, and whether they have changed."""

from collections.abc import Collection
from pathlib import Path

from fleet.process import files
from worker.secrets import Secrets
from worker.serving.code import OwnCode
from worker.serving.roster import FOLDER
from worker.settings import WorkerSettings


class Sources(files.Changes):
    """Both YAML files, the secrets, own code, and ``named``: the files that entries name."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.named: Collection[Path] = ()
        self.secrets = Secrets(settings.secrets)
        self.code = OwnCode(settings.agents.parent / FOLDER)
        self._settings = settings
        super().__init__(self._stamps)

    def orphans(self) -> list[Path]:
        """Files that are mounted by themselves, and whose names were given to others outside."""
        return [path for path in (self._settings.models, self._settings.agents) if files.is_orphan(path)]

    def _stamps(self) -> str:
        settings = self._settings
        found = [files.existing(path) for path in (settings.models, settings.agents, *sorted(self.named))]
        return str((found, self.secrets.stamps(), self.code.stamps()))
