"""What is logged, how, and what never is."""

import asyncio
import json
import logging

import pytest
import structlog
from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]

from fleet import logs

SECRET = "the user's prompt"


pytestmark = pytest.mark.usefixtures("restored_logs")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_an_event_is_one_line_of_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway")
    logs.logger("gateway.test").info("link lost", reason="host ended")
    (line,) = lines(capsys)
    assert line.startswith("time=20")
    assert line.endswith('level=info process=gateway event="link lost" reason="host ended"')


def test_an_event_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", form="json")
    logs.logger("worker.test").info("link lost", tries=3)
    (line,) = lines(capsys)
    event = json.loads(line)
    assert event.pop("time").endswith("Z")
    assert event == {"level": "info", "process": "worker", "event": "link lost", "tries": 3}


@pytest.mark.parametrize(("level", "logged"), [("debug", 3), ("INFO", 2), ("warning", 1), ("error", 0)])
def test_our_loggers_follow_the_level(level: str, logged: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("host", level)
    log = logs.logger("host.test")
    log.debug("one")
    log.info("two")
    log.warning("three")
    assert len(lines(capsys)) == logged


def test_libraries_are_heard_from_warnings_on_at_any_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("host", "debug")
    library = logging.getLogger("some.library")
    library.info(SECRET)
    library.warning("disk full")
    (line,) = lines(capsys)
    assert 'process=host event="disk full"' in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_logged_by_type_and_place_without_its_text(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("worker", form=form)
    try:
        int(SECRET)
    except ValueError as error:
        logging.getLogger("some.library").exception("failed")
        logs.logger("worker.test").error("failed", exc_info=error)
    found = lines(capsys)
    assert len(found) == 2
    for line in found:
        assert SECRET not in line
        assert "ValueError" in line
        assert "test_logs.py:" in line


def test_a_team_that_was_cancelled_and_a_call_whose_member_left_are_no_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("worker")
    for raised in (asyncio.CancelledError(), ExecuteBatchError("Failed grpc_call_start_batch"), KeyError("a")):
        try:
            raise raised
        except BaseException:
            logging.getLogger("some.library").exception("failed")
    (line,) = lines(capsys)
    assert "KeyError" in line


@pytest.mark.both_loops
async def test_what_a_loop_says_of_itself_without_an_exception_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker")
    asyncio.get_running_loop().call_exception_handler({"message": "Task was destroyed but it is pending!"})
    (line,) = lines(capsys)
    assert "level=error" in line
    assert "Task was destroyed" in line


def test_what_agents_own_code_logs_is_counted_under_no_name_of_its_own() -> None:
    counts = logs.configure("worker")
    own = structlog.get_logger("own_agent")
    for event in (SECRET, ValueError(SECRET), None):
        own.warning(event)
    logs.logger("worker.serving").warning("chat failed")
    assert counts == {("warning", logs.LIBRARIES): 3, ("warning", "chat failed"): 1}
