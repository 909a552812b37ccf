"""The files that make what a worker serves, and whether they have changed."""

from collections.abc import Mapping
from pathlib import Path

from fleet.process import files
from worker.secrets import Secrets
from worker.serving.code import OwnCode
from worker.serving.roster import FOLDER
from worker.settings import WorkerSettings


class Sources(files.Changes[tuple[str, str]]):
    """Both YAML files, the secrets, own code, and the files that entries name."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._named: Mapping[Path, object] = {}
        self.secrets = Secrets(settings.secrets)
        self.code = OwnCode(settings.agents.parent / FOLDER)
        self._settings = settings
        super().__init__(self._stamps)

    def orphans(self) -> list[Path]:
        """Files that are mounted by themselves, and whose names were given to others outside."""
        return [path for path in (self._settings.models, self._settings.agents) if files.is_orphan(path)]

    def name(self, named: Mapping[Path, object]) -> None:
        """Watch the files that entries name, each with the stamp that it had before it was read."""
        self._named = dict(named)
        self._seen = self._seen[0], str(self._named)

    def _stamps(self) -> tuple[str, str]:
        found = [files.existing(path) for path in (self._settings.models, self._settings.agents)]
        named = {path: files.existing(path) for path in self._named}
        return str((found, self.secrets.stamps(), self.code.stamps())), str(named)
