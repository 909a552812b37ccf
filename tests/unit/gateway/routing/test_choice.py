"""Least loaded first, as a share of capacity."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.choice import choose
from gateway.routing.directory import Worker
from gateway.routing.places import Places

WORKERS = st.lists(
    st.builds(
        Worker,
        id=st.uuids().map(str),
        models=st.sampled_from([("a",), ("b",), ("a", "b")]),
        capacity=st.integers(1, 8),
        in_flight=st.integers(0, 8),
        elsewhere=st.integers(0, 4),
        limited=st.dictionaries(
            st.sampled_from(["a", "b"]), st.builds(Places, capacity=st.integers(1, 3), in_flight=st.integers(0, 3))
        ),
    ),
    max_size=6,
)


@given(WORKERS, st.sampled_from(["", "a", "b", "c"]))
def test_the_chosen_one_serves_has_room_and_none_is_less_loaded(workers: list[Worker], model: str) -> None:
    able = [
        worker for worker in workers if worker.serves(model) and all(places.has_room for places in worker.places(model))
    ]
    chosen = choose(workers, model)
    if chosen is None:
        assert not able
    else:
        assert chosen in able
        assert all(chosen.share(model) <= worker.share(model) for worker in able)


@given(WORKERS)
def test_a_worker_to_avoid_is_taken_only_when_nobody_else_serves_the_model(workers: list[Worker]) -> None:
    avoid = {worker.id for worker in workers[:2]}
    chosen = choose(workers, "a", avoid)
    others = [worker for worker in workers if worker.serves("a") and worker.id not in avoid]
    if chosen is not None and chosen.id in avoid:
        assert not others


@given(WORKERS)
def test_a_failing_worker_is_better_than_one_to_avoid(workers: list[Worker]) -> None:
    avoid, failing = {worker.id for worker in workers[:2]}, {worker.id for worker in workers[2:]}
    chosen = choose(workers, "a", avoid, failing=failing)
    if chosen is not None and chosen.id in avoid:
        assert not [worker for worker in workers[2:] if worker.serves("a")]
    chosen = choose(workers, "a", failing=failing)
    if chosen is not None and chosen.id in failing:
        assert not [worker for worker in workers[:2] if worker.serves("a")]


def test_equals_share_by_lot() -> None:
    workers = [Worker("a", capacity=4), Worker("b", capacity=4)]
    rng = random.Random(1)
    picks = Counter(choice.id for _ in range(1000) if (choice := choose(workers, "", rng=rng)))
    assert min(picks.values()) > 400


def test_requests_given_one_by_one_end_up_even() -> None:
    workers = [Worker(str(number), capacity=100) for number in range(3)]
    for _ in range(150):
        chosen = choose(workers, "")
        assert chosen is not None
        chosen.in_flight += 1
    assert [worker.in_flight for worker in workers] == [50, 50, 50]


def test_a_models_own_limit_counts_where_it_is_nearer() -> None:
    busy = Worker("busy", models=("m",), capacity=100, limited={"m": Places(capacity=4, in_flight=3)})
    other = Worker("other", models=("m",), capacity=100, in_flight=50, limited={"m": Places(capacity=4)})
    assert choose([busy, other], "m") is other
    assert choose([busy, other], "") is other  # which stands for the first model
    shared = other.limited["m"] = busy.limited["m"]
    assert shared.has_room
    assert choose([busy, other], "m") is busy  # by its own places, where the model's are the same
    other.limited["m"].in_flight = busy.limited["m"].in_flight = 4
    assert choose([busy, other], "m") is None
