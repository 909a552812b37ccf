"""The result of one load, seen from its clients."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import orjson

from bench.figures import percentile
from bench.recording import Recording, Reply

EXAMPLES = 5


@dataclass
class Result:
    """Counts, and times in milliseconds. Percentiles are [p50, p95, p99]; None where nothing was measured."""

    requests: int
    complete: int
    cut: int
    """Requests whose client left."""
    faulty: int
    """Requests whose reply was not exact as far as it was read."""
    examples: list[str]
    tokens: int
    window_tokens: int
    """Tokens that arrived in the window."""
    window: float
    """Its length in seconds."""
    busy: float
    """Seconds until the last token: less than the window if every reply was complete before its end."""
    first_token: list[float] | None
    """From the request to the first token."""
    delay: list[float] | None
    """From a token's sending by the backend to its arrival; tokens of the window."""
    added_gap: list[float] | None
    """How much longer the time between two tokens of a stream was than at the backend; tokens of the window."""
    cpu: float
    """Seconds of CPU that the load generator used."""
    left: dict[str, float]
    """When clients left, by the ids of their orders, in seconds of the monotonic clock."""

    def as_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, line: str) -> Self:
        return cls(**orjson.loads(line))


def summarise(
    replies: Sequence[Reply], recordings: Sequence[Recording], window: tuple[float, float], cpu: float
) -> Result:
    """Count tokens and faults, and measure times."""
    begin, end = window
    delays: list[float] = []
    gaps: list[float] = []
    for reply in replies:
        before = None
        for arrival in reply.arrivals:
            if begin <= arrival.at < end:
                delay = arrival.delay * 1000
                delays.append(delay)
                if before is not None:
                    gaps.append(delay - before)
                before = delay
    first = [reply.first_token * 1000 for reply in replies if reply.first_token is not None]
    faulty = [reply for reply in replies if reply.faults]
    return Result(
        requests=len(replies),
        complete=sum(recording.complete for recording in recordings),
        cut=sum(recording.cut is not None for recording in recordings),
        faulty=len(faulty),
        examples=[f"{reply.order.id}: {reply.faults[0]}" for reply in faulty[:EXAMPLES]],
        tokens=sum(len(reply.arrivals) for reply in replies),
        window_tokens=len(delays),
        window=end - begin,
        busy=min(end, max((reply.arrivals[-1].at for reply in replies if reply.arrivals), default=end)) - begin,
        first_token=_percentiles(first),
        delay=_percentiles(delays),
        added_gap=_percentiles(gaps),
        cpu=cpu,
        left={recording.order.id: recording.cut for recording in recordings if recording.cut is not None},
    )


def _percentiles(values: Sequence[float]) -> list[float] | None:
    return [percentile(values, percent) for percent in (50, 95, 99)] if values else None
