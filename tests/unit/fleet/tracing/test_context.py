import pytest
from opentelemetry import trace

from fleet.tracing.context import STATE_LIMIT, carried, checked, headers, remote, trace_id

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "x",
        PARENT[:-1],
        f"{PARENT}-more",
        f"{PARENT},{PARENT}",
        f" {PARENT}",
        f"{PARENT}\n",
        PARENT.upper(),
        PARENT.replace("00-4", "ff-4"),
        PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        PARENT.replace("00f067aa0ba902b7", "0" * 16),
        PARENT.replace("4bf9", "\uff14bf9"),
        "0" * 100_000,
    ],
)
def test_an_invalid_traceparent_counts_as_none(parent: str) -> None:
    assert checked(parent, "a=1") == ("", "")
    assert remote(parent, "a=1") is None


def test_a_later_version_is_read_as_ours() -> None:
    assert checked(PARENT.replace("00-4", "01-4") + "-what-else", "") == (PARENT, "")


@pytest.mark.parametrize("state", ["a=1", "a=1,b@c=x y", "a=1 , ,\tb=2", "0a@b=1", "a=" + "x" * 250])
def test_a_valid_tracestate_is_kept(state: str) -> None:
    assert checked(PARENT, state) == (PARENT, state)


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "A=1",
        "a=1=2",
        "a=",
        "a=1,a=2",
        "a=é",
        "a=1\nlevel=error",
        ",".join(f"a{number}=1" for number in range(33)),
        ",".join(f"a{number}=" + "x" * 100 for number in range(STATE_LIMIT // 100)),
    ],
)
def test_an_invalid_or_long_tracestate_is_left_out(state: str, caplog: pytest.LogCaptureFixture) -> None:
    assert checked(PARENT, state) == (PARENT, "")
    assert remote(PARENT, state) is not None
    assert not caplog.records  # the library would log what a client has sent


def test_what_was_received_is_passed_on() -> None:
    within = remote(PARENT, "b=2 , a=1")
    assert carried(trace.get_current_span(within).get_span_context()) == {
        "traceparent": PARENT,
        "tracestate": "b=2,a=1",
    }
    assert trace_id(PARENT) == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_nothing_is_passed_on_outside_of_a_trace() -> None:
    assert not trace.get_current_span().get_span_context().is_valid
    assert headers() == {}
