"""Messages in another member's name are not believed."""

import pytest

from fleet.bus.senders import Senders
from protos import chat_pb2 as pb


@pytest.mark.parametrize(
    ("stamps", "believed"), [([], True), (["w"], True), (["w", "x"], True), (["x"], False), (["x", "w"], False)]
)
def test_the_first_stamp_counts(stamps: list[str], believed: bool) -> None:
    assert Senders().believes(pb.WorkerStatus(worker_id="w", sent_by=stamps), "w") is believed


def test_a_sender_that_goes_on_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    senders = Senders()
    for number in range(100):
        assert not senders.believes(pb.WorkerStatus(sent_by=["x"]), str(number))
    assert capsys.readouterr().out.count("another's name") == 1
