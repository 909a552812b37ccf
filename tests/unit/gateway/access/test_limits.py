"""What a key may ask for, on a clock of the test's own."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keys import Key, digest
from gateway.access.limits import Grant, Limits, prompt_tokens
from gateway.chats.reply import STEP, Completed, Reply
from gateway.errors import GatewayError, OverLimit, WorkerLost
from protos import chat_pb2 as pb


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(name: str = "alice", **limits: int) -> Key:
    return Key(name=name, sha256=digest("secret"), **limits)  # type: ignore[arg-type]


def run(limits: Limits, limited: Key, texts: Iterable[str] = (), prompt: int = 0) -> tuple[Grant, Reply]:
    """A request with a reply of these texts so far, each a token."""
    grant = limits.enter(limited, prompt)
    reply = Reply()
    grant.follow(reply)
    for text in texts:
        reply.push(pb.ReplyEvent(text=text, tokens=1), "text")
    return grant, reply


def left(limits: Limits, limited: Key) -> int:
    """What remains of the tokens, as a refused or admitted client is told."""
    try:
        grant = limits.enter(limited)
    except OverLimit as error:
        return int(error.headers()["x-ratelimit-remaining-tokens"])
    grant.close()
    return int(grant.headers["x-ratelimit-remaining-tokens"])


# ---------------------------------------------------------------- requests


def test_requests_a_minute() -> None:
    clock = Clock()
    limits = Limits(clock)
    limited = key(requests_per_minute=2)
    first = limits.enter(limited)
    assert first.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "60s",
    }
    clock.now += 20
    limits.enter(limited)
    with pytest.raises(OverLimit, match="2 requests a minute") as refused:
        limits.enter(limited)
    headers = refused.value.headers()
    assert headers["retry-after"] == "40"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 40
    limits.enter(limited)


def test_requests_at_once() -> None:
    limits = Limits()
    limited = key(concurrent=1)
    grant = limits.enter(limited)
    with pytest.raises(OverLimit, match="1 requests at once"):
        limits.enter(limited)
    grant.close()
    limits.enter(limited)


def test_a_refused_request_takes_no_place() -> None:
    limits = Limits(Clock())
    limited = key(concurrent=2, requests_per_minute=1)
    limits.enter(limited).close()
    for _ in range(3):
        with pytest.raises(OverLimit, match="a minute"):
            limits.enter(limited)


def test_one_keys_limits_are_not_anothers() -> None:
    limits = Limits()
    limits.enter(key(requests_per_minute=1))
    limits.enter(key("bob", requests_per_minute=1))


# ---------------------------------------------------------------- tokens


def ended(reply: Reply, end: Completed | GatewayError) -> Reply:
    reply.finish(end.after(1, reply.tokens) if isinstance(end, GatewayError) else end)
    return reply


LOST = "worker_lost", "the worker is gone"


@pytest.mark.parametrize(
    ("tokens", "end", "counted"),
    [
        (3, Completed("stop", pb.Usage(prompt_tokens=6, completion_tokens=60)), 66),
        (300, Completed("stop", pb.Usage()), 307),
        (300, Completed("stop", pb.Usage(prompt_tokens=5)), 305),
        (0, Completed("stop", pb.Usage(completion_tokens=9)), 16),
        (0, Completed("stop", pb.Usage()), 7),
        (300, None, 307),
        (0, None, 0),
        (300, WorkerLost(*LOST), 307),
        (0, WorkerLost(*LOST), 0),
    ],
    ids=str,
)
def test_a_request_counts_as_its_model_counted_it_or_by_what_was_written(
    tokens: int, end: Completed | GatewayError | None, counted: int
) -> None:
    limits, limited = Limits(Clock()), key(tokens_per_minute=1000)
    grant, reply = run(limits, limited, ["x"] * tokens, prompt=7)
    if end is not None:
        ended(reply, end)
    grant.close()
    assert left(limits, limited) == 1000 - counted


def test_a_prompt_counts_when_its_client_left_after_a_worker_had_accepted_it() -> None:
    limits, limited = Limits(Clock()), key(tokens_per_minute=1000)
    grant, reply = run(limits, limited, [], prompt=7)
    reply.accepted = True
    grant.close()
    assert left(limits, limited) == 993


def test_a_failure_that_the_model_counted_counts_as_it_did() -> None:
    limits, limited = Limits(Clock()), key(tokens_per_minute=1000)
    grant, reply = run(limits, limited, ["x"] * 10, prompt=7)
    failure = WorkerLost(*LOST)
    failure.usage = pb.Usage(prompt_tokens=2, completion_tokens=20)
    ended(reply, failure)
    grant.close()
    assert left(limits, limited) == 978


def test_over_the_limit_the_next_request_waits_and_is_told_why() -> None:
    clock = Clock()
    limits, limited = Limits(clock), key(tokens_per_minute=10)
    grant, _ = run(limits, limited, ["x"] * 60)
    clock.now += 15
    with pytest.raises(
        OverLimit, match="10 tokens a minute; a reply that passes it is finished and counts in full"
    ) as e:
        limits.enter(limited)
    assert e.value.headers()["retry-after"] == "45"
    grant.close()
    clock.now += 45
    assert left(limits, limited) == 10


def test_a_running_reply_counts_while_it_runs() -> None:
    limits, limited = Limits(Clock()), key(tokens_per_minute=1000)
    _, reply = run(limits, limited, ["x"])
    assert left(limits, limited) == 999
    for _ in range(5 * STEP):
        reply.push(pb.ReplyEvent(text="x", tokens=1), "text")
    assert left(limits, limited) == 999 - 5 * STEP


def test_all_kinds_of_output_count() -> None:
    limits, limited = Limits(Clock()), key(tokens_per_minute=1000)
    grant, reply = run(limits, limited)
    reply.push(pb.ReplyEvent(reasoning="r", tokens=2), "reasoning")
    reply.push(pb.ReplyEvent(text="t", tokens=3), "text")
    for _ in range(4):
        reply.push(pb.ReplyEvent(tool_call=pb.ToolCall(arguments="{")), "tool_call")
    reply.push(pb.ReplyEvent(logprobs="[]"), "logprobs")  # of the text, which has counted
    grant.close()
    assert left(limits, limited) == 1000 - 9


def test_requests_at_once_see_each_others_prompts() -> None:
    limits, limited = Limits(Clock()), key(tokens_per_minute=50)
    grants = []
    for _ in range(20):
        try:
            grants.append(limits.enter(limited, 20))
        except OverLimit:
            continue
    assert len(grants) == 3
    for grant in grants:  # none of them was answered
        grant.close()
    assert left(limits, limited) == 50


def test_each_token_counts_in_the_minute_in_which_it_came() -> None:
    clock = Clock()
    limits, limited = Limits(clock), key(tokens_per_minute=10_000)
    grant, reply = run(limits, limited, ["x"] * (STEP + 1), prompt=100)
    clock.now += 60
    assert left(limits, limited) == 10_000
    for _ in range(STEP):
        reply.push(pb.ReplyEvent(text="x", tokens=1), "text")
    assert left(limits, limited) == 10_000 - STEP
    ended(reply, Completed("stop", pb.Usage(prompt_tokens=1, completion_tokens=1)))
    grant.close()  # less than was counted: what counted in an earlier minute is not given back in this one
    assert left(limits, limited) == 10_000


def test_a_key_without_such_a_limit_is_not_metered() -> None:
    limits = Limits()
    grant, _ = run(limits, key(concurrent=1), ["x"] * 100)
    assert grant.headers == {}
    grant.close()
    assert not limits._windows
    assert not limits._running


def test_counts_outlive_a_change_of_the_keys_limits() -> None:
    limits = Limits(Clock())
    grant, _ = run(limits, key(tokens_per_minute=10, concurrent=5), ["x"] * (3 * STEP + 1))
    assert left(limits, key(tokens_per_minute=100)) == 99 - 3 * STEP
    with pytest.raises(OverLimit):
        limits.enter(key(tokens_per_minute=3 * STEP))
    with pytest.raises(OverLimit):
        limits.enter(key(concurrent=1))
    grant.close()


def test_what_is_kept_is_bounded_by_the_keys_of_the_last_minute() -> None:
    clock = Clock()
    limits = Limits(clock)
    for number in range(1000):
        clock.now += 1
        limits.enter(key(f"user {number}", requests_per_minute=1)).close()
    assert len(limits._windows) <= 60
    assert not limits._running


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.floats(0, 40), st.integers(0, 500)), max_size=30),
    st.integers(0, 50),
)
def test_no_count_is_ever_negative_and_every_place_is_given_back(
    steps: list[tuple[int, int, float, int]], prompt: int
) -> None:
    clock = Clock()
    limits, limited = Limits(clock), key(tokens_per_minute=10_000_000, concurrent=4)
    running: dict[int, tuple[Grant, Reply]] = {}
    for place, tokens, pause, usage in steps:
        clock.now += pause
        if place in running:
            grant, reply = running.pop(place)
            if usage:
                reply.finish(Completed("stop", pb.Usage(prompt_tokens=1, completion_tokens=usage)))
            grant.close()
        else:
            running[place] = run(limits, limited, ["x"] * tokens, prompt)
        assert limits.window(limited).tokens >= 0
    for grant, _ in running.values():
        grant.close()
    assert limits.window(limited).tokens >= 0
    assert not limits._running


# ---------------------------------------------------------------- prompts


def test_a_prompt_is_estimated_by_its_text_and_its_tools_without_its_images_and_files() -> None:
    history = pb.ChatHistory(request_id="r" * 100)
    assert prompt_tokens(history) == 0
    message = history.messages.add(source="user")
    message.content.add(text="x" * 4000)
    assert prompt_tokens(history) == pytest.approx(1000, rel=0.05)
    message.content.add().image.data = b"x" * 1_000_000
    message.content.add().other = '{"type": "file", "file": "' + "x" * 1_000_000 + '"}'
    message.content.add().image.url = "data:image/png;base64," + "x" * 1_000_000
    assert prompt_tokens(history) == pytest.approx(1000, rel=0.05)
    history.options.tools.add(name="f", parameters="x" * 4000)
    assert prompt_tokens(history) == pytest.approx(2000, rel=0.05)
