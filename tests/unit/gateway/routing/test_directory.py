"""Who is there, by what the workers and the host say."""

from gateway.routing.directory import DESCRIPTION, FRESH, RETURN_WITHIN, Directory
from protos import chat_pb2 as pb

GONE_AFTER = 30.0


def status(worker_id: str = "w", **fields: object) -> pb.WorkerStatus:
    values: dict[str, object] = {"models": ["m"], "capacity": 4, "state": pb.WORKER_STATE_READY, **fields}
    return pb.WorkerStatus(worker_id=worker_id, **values)  # type: ignore[arg-type]


def left(worker_id: str = "w", cause: pb.LeaveCause = pb.LEAVE_CAUSE_CLOSED) -> pb.MemberLeft:
    return pb.MemberLeft(member_id=worker_id, kind="worker", cause=cause)


def directory() -> Directory:
    known = Directory("g", GONE_AFTER)
    known.heard(status(), 0.0)
    return known


def ready(known: Directory, now: float) -> list[str]:
    return [worker.id for worker in known.ready(now)]


def test_a_worker_is_ready_from_its_first_status() -> None:
    assert ready(directory(), 0.0) == ["w"]


def test_a_silent_worker_is_not_chosen_but_stays_known_until_it_is_given_up() -> None:
    known = directory()
    assert ready(known, FRESH) == ["w"]
    assert ready(known, FRESH + 0.1) == []
    assert next(iter(known)).describe(FRESH + 0.1)["state"] == "SILENT"
    assert known.expire(GONE_AFTER) == []
    assert known.expire(GONE_AFTER + 0.1) == ["w"]
    assert len(known) == 0


def test_a_worker_whose_connection_closed_is_gone_unless_it_comes_back_at_once() -> None:
    known = directory()
    assert known.left(left(), 1.0)
    assert ready(known, 1.0) == []
    assert known.expire(1.0 + RETURN_WITHIN) == []
    known.heard(status(), 1.5)
    assert known.expire(1.1 + RETURN_WITHIN) == []
    assert ready(known, 2.0) == ["w"]
    known.left(left(), 3.0)
    assert known.expire(3.1 + RETURN_WITHIN) == ["w"]


def test_a_silent_members_leaving_is_not_its_death() -> None:
    known = directory()
    assert not known.left(left(cause=pb.LEAVE_CAUSE_SILENT), 1.0)
    assert ready(known, 1.0) == ["w"]


def test_a_gateways_leaving_is_none_of_the_directorys_business() -> None:
    assert not directory().left(pb.MemberLeft(member_id="w", kind="gateway", cause=pb.LEAVE_CAUSE_CLOSED), 1.0)


def test_a_draining_worker_is_not_chosen() -> None:
    known = directory()
    known.heard(status(state=pb.WORKER_STATE_DRAINING), 0.5)
    assert ready(known, 0.5) == []


def test_the_last_word_of_a_worker_removes_it() -> None:
    known = directory()
    assert known.heard(status(state=pb.WORKER_STATE_LEFT), 0.5)
    assert not known.heard(status(state=pb.WORKER_STATE_LEFT), 0.6)
    assert len(known) == 0


def test_other_gateways_requests_count_and_our_own_are_counted_by_us() -> None:
    known = directory()
    known.heard(status(active=5, active_by_gateway={"g": 2, "other": 3}), 0.5)
    worker = known.get("w")
    assert worker is not None
    worker.in_flight = 1
    assert worker.load == 4
    assert not worker.has_room


def test_after_our_own_links_loss_every_silence_counts_anew() -> None:
    known = directory()
    known.left(left(), 1.0)
    known.relinked(20.0)
    assert known.expire(20.0 + GONE_AFTER) == []
    assert ready(known, 20.5) == []
    known.heard(status(), 21.0)
    assert ready(known, 21.0) == ["w"]


def test_a_state_of_a_later_version_is_not_chosen_and_does_no_harm() -> None:
    known = directory()
    known.heard(pb.WorkerStatus.FromString(status().SerializeToString() + b"\x28\x63"), 0.5)
    assert ready(known, 0.5) == []
    assert next(iter(known)).describe(0.5)["state"] == "UNKNOWN"


def test_a_status_without_capacity_counts_as_one() -> None:
    known = Directory("g", GONE_AFTER)
    known.heard(status(capacity=0), 0.0)
    assert next(iter(known)).capacity == 1


def test_a_worker_that_refused_is_full_until_its_next_status() -> None:
    directory = Directory("g", 30.0)
    status = pb.WorkerStatus(worker_id="w", models=["m"], capacity=4, state=pb.WORKER_STATE_READY)
    directory.heard(status, 0.0)
    [worker] = directory
    worker.in_flight = 1
    worker.mark_full()
    worker.in_flight -= 1
    assert not worker.has_room
    directory.heard(status, 1.0)
    assert worker.has_room


def test_a_model_has_only_chat_unless_its_worker_says_otherwise() -> None:
    known = directory()
    more = {"n": pb.Endpoints(names=["embeddings"]), "unknown": pb.Endpoints(names=["embeddings"])}
    known.heard(status("v", models=["m", "n"], endpoints=more), 0.0)
    w, v = known
    assert [(w.serves("m"), w.serves("m", "embeddings")), (v.serves("n"), v.serves("n", "embeddings"))] == [
        (True, False),
        (False, True),
    ]
    assert (v.serves(""), v.serves("", "embeddings")) == (True, False)
    assert (known.models(), known.models("embeddings"), known.models("completions")) == (["m"], ["n"], [])
    assert known.named_since("n", "embeddings", 0.0)
    assert not known.named_since("m", "embeddings", 0.0)
    assert v.describe(0.0)["endpoints"] == {"n": ["embeddings"]}


def test_a_models_own_places_are_kept_from_status_to_status() -> None:
    known = directory()
    details = {"m": pb.Details(concurrency=2, active_by_gateway={"g": 1, "other": 1})}
    known.heard(status(details=details), 1.0)
    [worker] = known
    places = worker.limited["m"]
    places.in_flight = 1
    assert (places.capacity, places.has_room, worker.has_room) == (2, False, True)
    places.mark_full()
    known.heard(status(details={"m": pb.Details(concurrency=3)}), 2.0)
    assert worker.limited["m"] is places
    assert (places.capacity, places.load) == (3, 1)
    assert worker.describe(2.0)["limited"] == {"m": {"concurrency": 3, "active": 1}}
    known.heard(status(), 3.0)
    assert worker.limited == {}


def served_by(server: int, concurrency: int, **runs: int) -> dict[str, pb.Details]:
    return {"m": pb.Details(server=server, concurrency=concurrency, active_by_gateway=runs)}


def test_workers_that_reach_one_server_share_its_places() -> None:
    known = Directory("g", GONE_AFTER)
    for worker_id, server in (("v", 7), ("w", 7), ("x", 8)):
        known.heard(status(worker_id, details=served_by(server, 4, g=1, other=1)), 1.0)
    v, w, x = (worker.limited["m"] for worker in known)
    assert v is w
    assert (v.capacity, v.load, x.load) == (4, 2, 1)
    v.in_flight = 2
    assert not v.has_room
    known.heard(status("w", details=served_by(7, 4)), 2.0)
    assert (v.load, v.has_room) == (3, True), "what was told before is not counted again"
    known.heard(status("w", details=served_by(7, 3)), 3.0)
    assert not v.has_room, "workers differ in a rollout; the smaller number holds"
    known.heard(status("v", state=pb.WORKER_STATE_LEFT), 4.0)
    assert (v.load, v.has_room) == (2, True)


def test_a_name_that_moves_to_another_server_leaves_the_first_ones_places() -> None:
    known = Directory("g", GONE_AFTER)
    known.heard(status("v", details=served_by(7, 4, other=2)), 1.0)
    known.heard(status("w", details=served_by(7, 2, other=1)), 1.0)
    before = next(iter(known)).limited["m"]
    known.heard(status("w", details=served_by(9, 2, other=1)), 2.0)
    after = [worker.limited["m"] for worker in known]
    assert after[0] is before
    assert [(places.capacity, places.load) for places in after] == [(4, 2), (2, 1)]
    known.heard(status("w", details={"m": pb.Details(concurrency=5)}), 3.0)
    assert [worker.limited["m"].capacity for worker in known] == [4, 5]
    for at in (40.0, 50.0):
        known.expire(at)
    known.heard(status("v", details=served_by(7, 1)), 60.0)
    assert next(iter(known)).limited["m"].load == 0


def test_many_names_of_one_server_are_counted_in_no_time() -> None:
    known, names = Directory("g", GONE_AFTER), [f"m{number}" for number in range(1000)]
    details = dict.fromkeys(names, pb.Details(server=7, concurrency=4, active_by_gateway={"other": 1}))
    for worker_id in "vw":
        known.heard(status(worker_id, models=names, details=details), 1.0)
    assert next(iter(known)).limited["m1"].load == 2000


def test_a_description_is_bounded_and_only_that_of_a_name_that_is_served() -> None:
    known = directory()
    details = {name: pb.Details(description="x" * (DESCRIPTION + 1)) for name in ("m", "other")}
    known.heard(status(details=details, models=["n", "m"]), 1.0)
    known.heard(status("v", details={"n": pb.Details(description="Writes.")}, models=["n"]), 1.0)
    assert known.described(1.0) == {"n": "Writes.", "m": "x" * DESCRIPTION}
    assert next(iter(known)).describe(1.0)["descriptions"] == {"m": "x" * DESCRIPTION}


def test_a_worker_whose_first_model_has_no_chat_serves_no_request_without_a_model() -> None:
    known = directory()
    known.heard(status(endpoints={"m": pb.Endpoints(names=["embeddings"])}), 1.0)
    assert not next(iter(known)).serves("")
