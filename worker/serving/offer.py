"""What a worker serves under a public name, and which names it serves."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from worker.contract.route import Route
from worker.services.endpoints import CHAT
from worker.services.service import Service
from worker.serving.document import nearest
from worker.wire.reach import Reach

DESCRIPTION = 1000
"""Characters of a description, which every status repeats."""


NOTHING = "there is nothing to serve: no public model, and no agent that loads"


class ServeError(Exception):
    """The names to serve are not there; the text is one line."""


@dataclass(frozen=True)
class Offer:
    """``route`` is how its model is reached; ``concurrency`` the runs at once, if they are fewer than the worker's.

    Those of a model are counted for all workers together, by the gateways; a worker alone stays within them too.
    ``reach`` tries whether the model's address can be reached, where that can be tried.
    """

    service: Service
    route: Route = field(default_factory=Route)
    description: str = ""
    concurrency: int | None = None
    endpoints: tuple[str, ...] = (CHAT,)
    reach: Reach | None = None

    def counts_as(self, name: str) -> str | int:
        """What its runs are counted together with, if it is served as ``name``: its server, or nothing else."""
        return (self.concurrency and self.route.server) or name


def chosen(public: Iterable[str], serve: Collection[str]) -> list[str]:
    """Those of the ``public`` names that are to be served: all, if ``serve`` is empty. Raises :class:`ServeError`."""
    public = [*public]
    for name in serve:
        if name not in public:
            raise ServeError(f"{name!r} is no public name of a model or an agent{nearest(name, public)}")
    return [name for name in public if name in serve or not serve]
