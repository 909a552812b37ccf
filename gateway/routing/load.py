"""How busy the fleet is, for people and autoscalers.

Pure: it counts what the directory and the queue hold.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.routing.directory import Worker
from gateway.routing.places import Places, ServerPlaces


def describe_load(workers: Iterable[Worker], ready: Sequence[Worker], waiting: Mapping[str, int]) -> dict[str, object]:
    """The ``load`` entry of ``GET /fleet``; ``waiting`` are requests by the name that they ask for.

    ``capacity`` is what the ready workers can run at once. ``ratio`` is (active + waiting) / capacity, or that of the
    fullest names with a limit of their own. ``workers_ratio`` leaves out who waits for a model's server: more workers
    would not help them. Without a ready worker there is no ratio.
    """
    active, waits = sum(worker.load for worker in workers), sum(waiting.values())
    described: dict[str, object] = {"active": active, "waiting": waits, "capacity": 0}
    if not ready:
        return described | {"ratio": None, "workers_ratio": None}
    limits = _limits(ready)
    places = sum(worker.capacity for worker in ready)
    capacity = places
    if all(name in limits for worker in ready for name in worker.models):
        capacity = min(places, sum(one.capacity for one in set().union(*limits.values())))
    ratios = [(active + waits) / capacity]
    at_servers = 0
    for name in waiting.keys() & limits.keys():
        if all(isinstance(one, ServerPlaces) and one.load >= one.capacity for one in limits[name]):
            at_servers += waiting[name]
    for names, shared in _groups(limits):
        wait = sum(waiting.get(name, 0) for name in names)
        ratios.append((sum(one.load for one in shared) + wait) / sum(one.capacity for one in shared))
    return described | {
        "capacity": capacity,
        "ratio": round(max(ratios), 4),
        "workers_ratio": round((active + waits - at_servers) / places, 4),
    }


def _groups(limits: Mapping[str, set[Places]]) -> list[tuple[list[str], set[Places]]]:
    """The names that share places with each other, and their places. Takes as long as there are names and places."""
    names_at: dict[Places, list[str]] = {}
    for name, own in limits.items():
        for one in own:
            names_at.setdefault(one, []).append(name)
    groups, left = [], dict(limits)
    for first in limits:
        if left.pop(first, None) is None:
            continue
        names, shared = [first], set[Places]()
        for name in names:  # which grows meanwhile
            for one in limits[name] - shared:
                shared.add(one)
                found = [other for other in names_at[one] if left.pop(other, None) is not None]
                names += found
        groups.append((names, shared))
    return groups


def _limits(ready: Sequence[Worker]) -> dict[str, set[Places]]:
    """By name: the places that its requests share. Names without a limit on one of the workers are left out."""
    limits: dict[str, set[Places]] = {}
    unlimited = set()
    for worker in ready:
        for name in worker.models:
            if name in worker.limited:
                limits.setdefault(name, set()).add(worker.limited[name])
            else:
                unlimited.add(name)
    return {name: places for name, places in limits.items() if name not in unlimited}
