"""The runs of this worker: begun while there is room, ended when no gateway waits for them."""

import asyncio
from collections import Counter, defaultdict

from fleet.lane import Outbox
from protos import chat_pb2 as pb
from worker.contract.observer import Observer
from worker.services.endpoints import CHAT
from worker.serving.health import Judge, Judged
from worker.serving.offer import Offer
from worker.serving.run import Run
from worker.wire.reach import Reach

REQUEST_ID = 128
"""Characters of a request's id, which every event of its reply repeats; gateways' have 32."""

HISTORIES = 64 * 1024 * 1024
"""Bytes of all requests whose reply has not begun. A further one is refused, so that its gateway keeps it; a single
request may be larger. Each takes about three times as much while it is prepared."""


class Registry:
    """Runs up to ``capacity`` requests concurrently, each in a task of ``group``, on the service that they name.

    A name with a ``concurrency`` of its own has no more runs than that, together with the names of the same server.
    It has 14 attributes because it has several bounds, and counts what it refuses beside what it runs.
    """

    def __init__(
        self,
        offers: dict[str, Offer],
        outbox: Outbox,
        capacity: int,
        group: asyncio.TaskGroup,
        observer: Observer,
        histories: int = HISTORIES,
    ) -> None:
        self.judge = Judge()
        self.most = capacity
        self.offers: dict[str, Offer] = {}
        self.serve(offers)
        self.draining = False
        self.started_total = 0
        self.refused = Counter[str]()
        """By the error's code."""
        self._outbox = outbox
        self._group = group
        self._observer = observer
        self._histories = histories
        self._runs: dict[tuple[str, str], Run] = {}
        """By gateway and request: no gateway touches another's."""
        self._waiting: dict[Run, int] = {}
        """Bytes of the requests whose reply has not begun."""
        self._idle = asyncio.Event()
        self._idle.set()

    def serve(self, offers: dict[str, Offer]) -> None:
        """Run new requests on ``offers``, by public name, the default first. What runs goes on as it began."""
        for name in self.offers:
            if name not in offers or offers[name].route != self.offers[name].route:
                self.judge.forget(name)
        self.offers = offers
        limits = {offer.counts_as(name): offer.concurrency or self.most for name, offer in offers.items()}
        self.capacity = min(self.most, sum(limits.values()))

    @property
    def active(self) -> int:
        return len(self._runs)

    def reach(self, name: str) -> Reach | None:
        """How to try the address of a name's model, where that can be tried."""
        offer = self.offers.get(name)
        return offer.reach if offer is not None else None

    def alike(self, name: str) -> list[tuple[str, str]]:
        """The names with the same model server, each with its endpoints."""
        host = self.offers[name].route.host if name in self.offers else ""
        alike = [(other, offer) for other, offer in self.offers.items() if host and offer.route.host == host]
        return [(other, endpoint) for other, offer in alike for endpoint in offer.endpoints]

    def counts(self) -> dict[str, Counter[str]]:
        """By public name: how many runs each gateway has here."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for run in self._runs.values():
            counts[run.model][run.gateway_id] += 1
        return counts

    def begin(self, request: pb.ChatHistory) -> None:
        """Start a run, or refuse it with a terminal error. A newer attempt at the same request replaces an older one.

        A request whose id has more than :data:`REQUEST_ID` characters is ignored.
        """
        if len(request.request_id) > REQUEST_ID:
            return
        running = self._runs.get((request.reply_to, request.request_id))
        if running is not None:
            if running.attempt >= request.attempt:
                return
            running.cancel("superseded")
        sink = self._outbox.open(request.reply_to, request.request_id, request.attempt)
        request.model = request.model or next(iter(self.offers))
        size = request.ByteSize()
        offer = self._offer(request.model, size, replaces=running is not None)
        if isinstance(offer, pb.Error):
            self.refused[offer.code] += 1
            sink.finish(offer)
            return
        judged = Judged(self.judge, request.model, request.endpoint or CHAT, request.request_id)
        run = Run(
            request,
            offer.service,
            sink,
            self._observer,
            lambda: self._waiting.pop(run, None),
            offer.route,
            judged,
            self._outbox.clock(),
        )
        self._waiting[run] = size
        self._runs[request.reply_to, request.request_id] = run
        self._idle.clear()
        self.started_total += 1

        def ended(_: asyncio.Task[None]) -> None:
            sink.finish(pb.Cancelled(reason=run.reason))  # for a task that was cancelled before its first step
            self._forget(run)

        run.start(self._group).add_done_callback(ended)

    def cancel(self, gateway_id: str, request_id: str, attempt: int, reason: str) -> None:
        """End a run of that gateway; ``attempt`` 0 means any. An unknown one may just have ended, and is ignored."""
        run = self._runs.get((gateway_id, request_id))
        if run is not None and attempt in (0, run.attempt):
            run.cancel(reason)

    def keep_only(self, gateway_id: str, wanted: set[tuple[str, int]], knew: float) -> bool:
        """End the runs that their gateway did not name among all that it waits for.

        It was asked at ``knew``, by the outbox's clock: a run that began later may be a request that it sent after its
        answer, and that overtook it. Return whether there are such runs.
        """
        going_on = [run for run in self._of(gateway_id) if not run.is_cancelled]
        unnamed = [run for run in going_on if (run.request_id, run.attempt) not in wanted]
        for run in unnamed:
            if run.began < knew:
                run.cancel("unknown_request")
        return any(run.began >= knew for run in unnamed)

    def cancel_gateway(self, gateway_id: str) -> int:
        """End every run of a gateway that is gone; return how many there were."""
        gone = self._of(gateway_id)
        for run in gone:
            run.cancel("gateway_gone")
        return len(gone)

    def cancel_all(self, reason: str) -> None:
        for run in self._runs.values():
            run.cancel(reason)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Those of the runs that are active now."""
        return [run.task for run in self._runs.values() if run.task is not None]

    async def idle(self) -> None:
        await self._idle.wait()

    def _of(self, gateway_id: str) -> list[Run]:
        return [run for run in self._runs.values() if run.gateway_id == gateway_id]

    def _offer(self, name: str, size: int, replaces: bool) -> Offer | pb.Error:
        """What a new run runs on, or why nothing does. One that ``replaces`` an older attempt has its place."""
        if self.draining:
            return pb.Error(code="worker_draining", message="the worker is about to leave", retryable=True)
        if self.active >= self.capacity and not replaces:
            return pb.Error(code="worker_full", message="the worker is at its capacity", retryable=True)
        if self._waiting and sum(self._waiting.values()) + size > self._histories:
            return pb.Error(code="worker_full", message="the worker has too many large requests", retryable=True)
        offer = self.offers.get(name)
        if offer is None:
            return pb.Error(code="unknown_model", message="the worker does not serve this model", retryable=True)
        if offer.concurrency is not None and not replaces and self._active(offer.counts_as(name)) >= offer.concurrency:
            message = f"the worker runs no more than {offer.concurrency} of these at once"
            return pb.Error(code="worker_full", message=message, retryable=True, full=name)
        return offer

    def _active(self, counted: str | int) -> int:
        """The runs of every name that counts as this."""
        names = {name for name, offer in self.offers.items() if offer.counts_as(name) == counted}
        return sum(run.model in names for run in self._runs.values())

    def _forget(self, run: Run) -> None:
        self._waiting.pop(run, None)
        key = run.gateway_id, run.request_id
        if self._runs.get(key) is run:
            del self._runs[key]
        if not self._runs:
            self._idle.set()
