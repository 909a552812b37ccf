"""The schedule that tests and backend share."""

import pytest

from tests.schedule import TRICKY, Schedule, echo, parse, reasoning_tokens, reply_text, reply_tokens


def test_a_schedule_survives_its_message() -> None:
    schedule = Schedule(tag="t", tokens=7, delay=0.5, reset_after=3, usage={"prompt_tokens": 1, "completion_tokens": 2})
    assert parse(schedule.message()) == schedule


def test_two_schedules_say_different_things() -> None:
    assert reply_text(Schedule()) != reply_text(Schedule())


def test_a_reply_never_repeats_a_token() -> None:
    tokens = list(reply_tokens(Schedule(tokens=5000)))
    assert len(set(tokens)) == len(tokens) == 5000


def test_a_reply_holds_every_tricky_ending() -> None:
    text = reply_text(Schedule(tokens=len(TRICKY)))
    assert all(ending in text for ending in TRICKY)


@pytest.mark.parametrize("size", [40, 41, 1000])
def test_tokens_have_the_size_asked_for(size: int) -> None:
    assert {len(token.encode()) for token in reply_tokens(Schedule(tokens=100, size=size))} == {size}


def test_exact_text_comes_out_exactly() -> None:
    assert reply_text(Schedule(text="漢字 and é")) == "漢字 and é"


def test_reasoning_is_not_the_reply() -> None:
    schedule = Schedule(tokens=5, reasoning=5)
    assert not set(reasoning_tokens(schedule)) & set(reply_tokens(schedule))


@pytest.mark.parametrize("content", ["Hello", "", "{}", "{not json", '{"colour": "red"}', "[1]"])
def test_plain_text_is_no_schedule(content: str) -> None:
    assert parse(content) is None
    assert content in reply_text(echo(content))


def test_the_first_fault_counts() -> None:
    assert Schedule(hang_after=9, reset_after=4).cut == 4
    assert Schedule().cut is None
