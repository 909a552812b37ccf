"""The offers that are made of what was loaded."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from fleet.process.turns import Turns
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.openai.client import Streaming
from worker.services.agent import AgentService
from worker.services.endpoints import CHAT, Endpoints
from worker.services.model import ModelService
from worker.services.passed_on import PassedOn
from worker.services.service import Service
from worker.serving.catalog import Model
from worker.serving.offer import Offer
from worker.serving.roster import Roster
from worker.wire.pacer import Pacer
from worker.wire.reach import reach


@runtime_checkable
class Translating(Protocol):
    """A client of a provider's own API. Claude's and Ollama's are imported where models.yaml has one: it takes 1 s."""

    def work_in(self, turns: Turns, images: Images, pacer: Pacer | None) -> None:
        """Convert conversations in ``turns``, admit images by ``images``, and read streams when ``pacer`` says."""


class Offers:
    """Makes offers whose services work in ``turns``, admit images by ``images`` and read models as ``pacer`` says."""

    def __init__(self, turns: Turns, images: Images, pacer: Pacer | None, observer: Observer) -> None:
        self._turns = turns
        self._images = images
        self._pacer = pacer
        self._observer = observer

    def make(self, models: Mapping[str, Model], roster: Roster) -> dict[str, Offer]:
        """By public name, the default first."""
        offers = {}
        for name, model in models.items():
            services = self._of_model(model)
            if name in roster.models:
                offers[name] = Offer(
                    Endpoints(services),
                    model.route,
                    model.description,
                    model.concurrency,
                    model.endpoints,
                    reach(model.client),
                )
        clients = {name: model.client for name, model in models.items()}
        for name, entry in roster.entries.items():
            service = AgentService(entry, clients, roster.workbenches, self._turns, self._images, self._observer)
            at = Endpoints({CHAT: service})
            offers[name] = Offer(at, description=entry.description, concurrency=entry.concurrency)
        return offers

    def _of_model(self, model: Model) -> dict[str, Service]:
        at: dict[str, Service] = {}
        if isinstance(model.client, Streaming):
            model.client.read_by(self._pacer)
            passed_on = [other for other in model.endpoints if other != CHAT]
            at = {other: PassedOn(model.name, model.client, other, self._turns, self._observer) for other in passed_on}
        elif isinstance(model.client, Translating):
            model.client.work_in(self._turns, self._images, self._pacer)
        if CHAT in model.endpoints:
            at[CHAT] = ModelService(
                model.name, model.client, model.system_message, self._turns, self._images, self._observer
            )
        return at
