"""How gateways share the places of a model's server."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.directory import Directory
from gateway.routing.peers import Peers
from gateway.routing.places import Places, Shares, Sum, Told
from protos import chat_pb2 as pb

GATEWAYS = "abc"


def fair(me: str, capacity: int, turn: int = 0, **others: int) -> int | None:
    """Our share if so many requests wait at other gateways."""
    places = Places()
    Shares(me).count(places, Sum([("m", Told(7, capacity, {}, others))]), turn)
    return places.fair


@pytest.mark.parametrize(
    ("capacity", "others", "ours"),
    [
        (4, {}, None),
        (4, {"b": 9}, 2),
        (4, {"b": 1}, 3),
        (6, {"b": 9, "c": 9}, 2),
        (6, {"b": 1, "c": 9}, 3),
        (8, {"b": 1, "c": 2}, 5),
    ],
)
def test_each_gets_an_equal_share_unless_it_wants_less(capacity: int, others: dict[str, int], ours: int | None) -> None:
    assert fair("a", capacity, **others) == ours


@given(st.integers(1, 20), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30), min_size=2))
def test_the_shares_of_all_who_wait_are_the_capacity(capacity: int, demands: dict[str, int]) -> None:
    for turn in range(len(demands)):
        shares = {}
        for me, wanted in demands.items():
            others = {gateway: demand for gateway, demand in demands.items() if gateway != me}
            shares[me] = min(wanted, fair(me, capacity, turn, **others) or 0)
        total = sum(demands.values())
        assert min(capacity, total) - len(demands) <= sum(shares.values()) <= capacity
        if total >= capacity and all(wanted >= capacity for wanted in demands.values()):
            assert sum(shares.values()) == capacity


def test_what_cannot_be_shared_goes_round() -> None:
    def owners(turn: int) -> list[str]:
        return [me for me in GATEWAYS if fair(me, 1, turn, **dict.fromkeys(GATEWAYS.replace(me, ""), 5))]

    assert [owners(turn) for turn in range(6)] == [["a"], ["b"], ["c"]] * 2


def test_workers_tell_of_the_same_requests_that_wait_and_of_others_that_run() -> None:
    places, told = Places(), Sum([("m", Told(7, 9, {"b": 1}, {"b": 2}))] * 3)
    Shares("a").count(places, told, 0)
    assert (places.elsewhere, places.fair) == (3, 5)


def test_the_share_holds_only_while_others_wait() -> None:
    places = Places()
    Shares("a").count(places, Sum([("m", Told(7, 4, {}, {"b": 5}))]), 0)
    places.in_flight = 2
    assert not places.has_room
    Shares("a").count(places, Sum([("m", Told(7, 4, {"b": 1}))]), 0)
    assert places.has_room


class Gateway:
    """Asks again and again, by its own directory."""

    def __init__(self, name: str, users: int) -> None:
        self.name = name
        self.wall = 0.0
        self.peers = Peers(name)
        self.known = Directory(name, 30.0, self.peers, lambda: self.wall)
        self.waiting = users
        self.served = 0
        self.ends: list[float] = []

    def step(self, now: float, lasts: float) -> None:
        [worker] = self.known
        for end in [end for end in self.ends if end <= now]:
            self.ends.remove(end)
            worker.limited["m"].in_flight -= 1
            self.waiting += 1
            self.served += 1
        while self.waiting and worker.limited["m"].has_room:
            worker.limited["m"].in_flight += 1
            self.waiting -= 1
            self.ends.append(now + lasts)


@pytest.mark.parametrize(("slots", "users"), [(4, (10, 10)), (4, (30, 3)), (1, (5, 5)), (3, (9, 9, 9)), (8, (1, 30))])
def test_no_gateway_starves_and_places_are_used(slots: int, users: tuple[int, ...]) -> None:
    """Each hears once a second, at its own times, of what the others did a second before."""
    draw = random.Random(1)
    gateways = [Gateway(f"g{number}", count) for number, count in enumerate(users)]
    seconds = 300
    for tick in range(seconds * 10):
        now = tick / 10
        for number, gateway in enumerate(gateways):
            gateway.wall = 1e9 + now
            if not len(gateway.known) or tick % 10 == 3 * number:
                for other in gateways:
                    told = pb.GatewayStatus(gateway_id=other.name, waiting={"m": other.waiting})
                    gateway.peers.heard(told, now)
                details = pb.Details(
                    concurrency=slots,
                    server=7,
                    active_by_gateway={other.name: len(other.ends) for other in gateways},
                )
                gateway.known.heard(
                    pb.WorkerStatus(worker_id="w", models=["m"], capacity=99, details={"m": details}), now
                )
            gateway.step(now, draw.uniform(0.5, 2.0))
    served = sum(gateway.served for gateway in gateways)
    assert served > 0.55 * seconds * slots / 1.25, "places stand empty"
    equal = served / len(gateways)
    for gateway, count in zip(gateways, users, strict=True):
        if count >= slots:
            assert gateway.served > 0.5 * equal, [one.served for one in gateways]
        else:
            assert gateway.served > 0.25 * count * seconds / 3, "it has few users, whom it serves"


def test_what_a_worker_tells_is_taken_away_again() -> None:
    known = Directory("g", 30.0)

    def hear(worker: str, *, concurrency: int = 4, runs: int = 1) -> None:
        details = pb.Details(concurrency=concurrency, server=7, active_by_gateway={"b": runs})
        status = pb.WorkerStatus(worker_id=worker, models=["m", "n"], details={"m": details, "n": details})
        known.heard(status, 0.0)

    def places() -> tuple[int, int]:
        [own] = {places for worker in known for places in worker.limited.values()}
        return own.capacity, own.elsewhere

    hear("v", concurrency=3)
    for runs in (5, 2):
        hear("w", runs=runs)
        assert places() == (3, 2 + 2 * runs)
    known.heard(pb.WorkerStatus(worker_id="v", state=pb.WORKER_STATE_LEFT), 0.0)
    assert places() == (4, 4)
