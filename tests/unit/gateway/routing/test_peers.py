"""The other gateways, as one of them shows them."""

from gateway.routing.peers import GONE, LARGEST, MOST, SILENT, Peers
from protos import chat_pb2 as pb


def status(gateway_id: str = "h", **fields: object) -> pb.GatewayStatus:
    return pb.GatewayStatus(gateway_id=gateway_id, **fields)  # type: ignore[arg-type]


def test_it_shows_all_but_its_own() -> None:
    peers = Peers("g")
    peers.heard(status("g"), 0.0)
    peers.heard(status(version="1.0", draining=True, in_flight=3, requests_total=9), 0.0)
    assert peers.describe(1.0) == [
        {
            "id": "h",
            "version": "1.0",
            "state": "DRAINING",
            "in_flight": 3,
            "requests_total": 9,
            "heard_seconds_ago": 1.0,
        }
    ]


def test_it_knows_what_waits_at_each() -> None:
    peers = Peers("g")
    peers.heard(status("g", waiting={"m": 1}), 0.0)
    peers.heard(status("h", waiting={"m": 2, "n": 3}), 0.0)
    peers.heard(status("i"), 0.0)
    assert (peers.waiting("m", 1.0), peers.waiting("n", 1.0)) == ({"h": 2}, {"h": 3})
    assert peers.waiting("m", SILENT + 0.1) == {}
    peers.heard(status("h"), 1.0)
    assert peers.waiting("m", 1.0) == {}


def test_one_that_says_nothing_is_silent_and_then_gone() -> None:
    peers = Peers("g")
    peers.heard(status(), 0.0)
    assert [peer["state"] for peer in peers.describe(SILENT)] == ["READY"]
    assert [peer["state"] for peer in peers.describe(SILENT + 0.1)] == ["SILENT"]
    assert peers.describe(GONE + 0.1) == []


def test_one_that_left_is_gone() -> None:
    peers = Peers("g")
    peers.heard(status(), 0.0)
    peers.left("h")
    peers.left("unknown")
    assert peers.describe(0.0) == []


def test_they_are_bounded() -> None:
    peers = Peers("g")
    for number in range(MOST + 10):
        peers.heard(status(f"h{number}"), 0.0)
    assert len(peers.describe(0.0)) == MOST
    peers.heard(status("late"), GONE + 1)
    assert [peer["id"] for peer in peers.describe(GONE + 1)] == ["late"]


def test_a_status_that_no_gateway_sends_is_not_kept() -> None:
    peers = Peers("g")
    peers.heard(status(version="x" * LARGEST), 0.0)
    assert peers.describe(0.0) == []
