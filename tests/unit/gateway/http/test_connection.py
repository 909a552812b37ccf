"""A connection's states: whatever happens on it, in whatever order, it ends in time and holds little."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import NotHttp
from gateway.http.connection import MOVES, RUNNING, UNPARSED, Bounds, Connection, Event, State, Verdict

BOUNDS = Bounds(max_headers=1000, header_timeout=30, body_timeout=20, answer_timeout=650, stall_timeout=10)
LONGEST = {
    State.PROXY: BOUNDS.header_timeout,
    State.WAITING: BOUNDS.header_timeout,
    State.HEAD: BOUNDS.header_timeout,
    State.BODY: BOUNDS.answer_timeout,
    State.ANSWERING: BOUNDS.answer_timeout,
    State.LAST: BOUNDS.answer_timeout,
    State.DISCARDING: BOUNDS.body_timeout,
    State.IDLE: BOUNDS.keep_alive,
    State.CLOSING: max(BOUNDS.body_timeout, BOUNDS.stall_timeout),
}
"""How long a connection may be in a state, whatever its client does."""
ROUTES: dict[State, list[Event]] = {
    State.WAITING: [],
    State.HEAD: [Event.BEGIN],
    State.BODY: [Event.BEGIN, Event.HEAD_END],
    State.ANSWERING: [Event.BEGIN, Event.HEAD_END, Event.MESSAGE_END],
    State.LAST: [Event.BEGIN, Event.HEAD_END, Event.MESSAGE_END, Event.BEGIN],
    State.DISCARDING: [Event.BEGIN, Event.HEAD_END, Event.ANSWERED],
    State.IDLE: [Event.BEGIN, Event.HEAD_END, Event.MESSAGE_END, Event.ANSWERED],
}
"""How each state is reached."""


def connection_in(state: State, now: float = 0.0) -> Connection:
    connection = Connection(BOUNDS, now)
    for event in ROUTES[state]:
        connection.move(event, now)
    assert connection.state is state
    return connection


class Walk(RuleBasedStateMachine):
    """Everything that a client, the parser, the application and time can do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.entered = 0.0
        self.connection = Connection(BOUNDS, 0.0)
        self.last = State.WAITING

    def noted(self) -> None:
        """Note when the connection entered its state; a client's second request is part of the same answer."""
        state = self.connection.state
        if state is not self.last and not (state in RUNNING and self.last in RUNNING):
            self.entered = self.now
        self.last = state

    @initialize(start=st.floats(0, 1e9), proxied=st.booleans())
    def begins(self, start: float, proxied: bool) -> None:
        self.now = self.entered = start
        self.connection = Connection(BOUNDS, start, proxied=proxied)
        self.last = self.connection.state

    @rule(event=st.sampled_from(Event))
    def an_event(self, event: Event) -> None:
        before = self.connection.state
        if event is Event.ANSWERED and before is State.LAST:
            self.connection.close(self.now, 0)  # the application closes after its last answer
        after = self.connection.move(event, self.now)
        assert after is MOVES.get((before, event), self.connection.state)
        self.noted()

    @rule(size=st.integers(1, 5000), payload=st.floats(0, 1))
    def bytes_arrive(self, size: int, payload: float) -> None:
        deadline, state = self.connection.deadline, self.connection.state
        self.connection.payload(int(size * payload) if state in (State.BODY, State.DISCARDING) else 0)
        try:
            if not self.connection.count(size):
                self.connection.lost()
        except NotHttp:
            assert state not in UNPARSED
            self.connection.close(self.now, 0)
            assert self.connection.deadline <= self.now + LONGEST[State.CLOSING]
        else:
            assert self.connection.state is State.CLOSED or self.connection.deadline == deadline
        self.noted()

    @rule(unread=st.integers(0, 100_000))
    def it_is_closed(self, unread: int) -> None:
        deadline, before = self.connection.deadline, self.connection.state
        sends = self.connection.close(self.now, unread)
        if before in (State.CLOSING, State.CLOSED):
            assert not sends
            assert self.connection.deadline == deadline
        self.noted()

    @rule(unread=st.integers(1, 100_000))
    def the_client_stops_reading(self, unread: int) -> None:
        self.connection.pause(self.now, unread)
        if self.connection.is_running:
            assert self.connection.deadline <= self.now + BOUNDS.stall_timeout + BOUNDS.linger

    @rule()
    def the_client_reads(self) -> None:
        self.connection.resume()

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.now >= self.connection.deadline)
    @rule(unread=st.integers(0, 100_000))
    def the_deadline_comes(self, unread: int) -> None:
        before = self.connection.state
        verdict = self.connection.expire(self.now, unread)
        if verdict is Verdict.ABORT:
            self.connection.lost()
        elif verdict is Verdict.CLOSE:
            assert before is State.IDLE
            assert self.connection.state is State.CLOSING
        else:
            assert before in RUNNING
            assert self.connection.deadline > self.now
        self.noted()

    @invariant()
    def it_ends(self) -> None:
        if self.connection.state is State.CLOSED:
            assert self.connection.deadline == math.inf
        else:
            assert self.connection.deadline <= self.entered + LONGEST[self.connection.state]


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=100, stateful_step_count=40)


@pytest.mark.parametrize("state", ROUTES)
def test_bytes_move_no_deadline(state: State) -> None:
    connection = connection_in(state)
    deadline = connection.deadline
    for _ in range(100):
        connection.count(1)
        assert connection.deadline == deadline


@pytest.mark.parametrize("state", ROUTES)
def test_what_is_not_payload_is_limited_in_every_state(state: State) -> None:
    connection = connection_in(state)
    connection.count(1)  # the read in which the state began
    limit = BOUNDS.max_headers
    with_room = Bounds(1000, 30, 20, 650, 10, discard_limit=10_000)
    connection._bounds = with_room
    refused = dropped = 0
    for _ in range(20 * limit // 100):
        try:
            dropped += not connection.count(100)
        except NotHttp:
            refused += 1
            break
    assert refused or dropped
    assert bool(dropped) == (state in (State.ANSWERING, State.LAST))


def test_the_proxys_header_and_the_request_share_one_deadline() -> None:
    connection = Connection(BOUNDS, 0.0, proxied=True)
    connection.move(Event.PROXIED, 20.0)
    assert connection.state is State.WAITING
    assert connection.deadline == BOUNDS.header_timeout


def test_payload_and_the_framing_that_it_needs_are_not_limited() -> None:
    connection = connection_in(State.BODY)
    for _ in range(1000):
        connection.payload(4096)
        assert connection.count(4096 + 8)


def test_chunks_of_one_byte_are_limited() -> None:
    """They cost the parser more than anything else that as few bytes can ask for."""
    connection = connection_in(State.BODY)

    def chunks(number: int) -> None:
        for _ in range(number):
            connection.payload(1)
            connection.count(len(b"1\r\na\r\n"))

    chunks(BOUNDS.max_headers // 5)
    with pytest.raises(NotHttp):
        chunks(BOUNDS.max_headers // 5)


def test_a_body_that_comes_after_its_answer_is_discarded_until_it_should_have_come() -> None:
    connection = connection_in(State.BODY)
    connection.move(Event.ANSWERED, 1.0)
    assert connection.deadline == BOUNDS.body_timeout
    late = connection_in(State.BODY)
    late.move(Event.ANSWERED, BOUNDS.body_timeout)
    assert late.deadline == BOUNDS.body_timeout + BOUNDS.linger


def test_a_client_that_reads_slowly_keeps_its_answer_until_the_last_resort() -> None:
    connection = connection_in(State.ANSWERING)
    connection.pause(0.0, 1_000_000)
    unread = 1_000_000
    while (now := connection.deadline) < BOUNDS.answer_timeout:
        unread -= 1
        assert connection.expire(now, unread) is Verdict.WAIT
    assert now == BOUNDS.answer_timeout
    assert connection.expire(now, unread - 1) is Verdict.ABORT


def test_a_client_that_reads_nothing_does_not() -> None:
    connection = connection_in(State.ANSWERING)
    connection.pause(0.0, 1000)
    assert connection.expire(connection.deadline, 1000) is Verdict.ABORT


def test_an_answer_whose_request_was_complete_leaves_nothing_to_read() -> None:
    assert not connection_in(State.ANSWERING).close(0.0, 0)
    for state in (State.WAITING, State.HEAD, State.BODY, State.LAST, State.DISCARDING, State.IDLE):
        assert connection_in(state).close(0.0, 0), state
