"""Fields of a model's chunks, as they come from a worker, and as one object."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from fleet.process.turns import at_once
from gateway.errors import WorkerLost
from gateway.faces import fields
from gateway.faces.fields import Fields, merged, merged_parts
from protos import chat_pb2 as pb
from tests.growth import assert_linear


def event(value: object, **more: bool) -> pb.Fields:
    return pb.Fields(json=json.dumps(value), **more)


def test_an_object_in_pieces_is_read_when_it_is_complete() -> None:
    reader = Fields()
    text = json.dumps({"delta": {"images": ["a" * 100_000]}})
    for start in range(0, len(text), 16_000):
        cut = start + 16_000 < len(text)
        assert reader.add(pb.Fields(json=text[start : start + 16_000], cut=cut)) is not cut
    assert reader.take()["delta"] == {"images": ["a" * 100_000]}
    assert reader.add(event({"chunk": {"a": 1}}))
    assert reader.take()["chunk"] == {"a": 1}
    assert not reader


def test_what_is_beside_something_waits_for_it() -> None:
    reader = Fields()
    assert not reader.add(event({"chunk": {"a": 1}}, beside=True))
    assert reader
    assert reader.take({"content": "x"}) == {"delta": {"content": "x"}, "chunk": {"a": 1}, "choice": {}, "logprobs": {}}


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"delta": 1}', '{"delta": [1]}', '{"delta": ' * 300, "{}x"])
def test_anything_else_is_the_workers_fault(text: str) -> None:
    with pytest.raises(WorkerLost, match="no JSON object"):
        Fields().add(pb.Fields(json=text))


def add_often(reader: Fields, piece: pb.Fields) -> None:
    for _ in range(200):
        reader.add(piece)


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "LIMIT", 1000)
    for piece in (pb.Fields(json='{"delta": {"a": "aaaa', cut=True), event({"chunk": {"a": 1}}, beside=True)):
        with pytest.raises(WorkerLost):
            add_often(Fields(), piece)
    with pytest.raises(WorkerLost):
        Fields().add(event({"delta": {"a": [[[]]] * 100_000}}))


@pytest.mark.parametrize(
    ("deltas", "one"),
    [
        ([{"a": "x"}, {"a": "y"}], {"a": "xy"}),
        ([{"a": [1]}, {"a": [2, 3]}], {"a": [1, 2, 3]}),
        ([{"a": 1}, {"a": 2}, {"b": True}], {"a": 2, "b": True}),
        ([{"a": {"b": "x", "c": 1}}, {"a": {"b": "y", "d": 2}}], {"a": {"b": "xy", "c": 1, "d": 2}}),
        ([{"a": "x"}, {"a": None}, {"b": None}], {"a": "x", "b": None}),
        ([{"a": "x"}, {"a": 1}], {"a": 1}),
        (
            [{"type": "t", "id": "i", "text": "x"}, {"type": "t", "id": "i", "text": "y"}],
            {"type": "t", "id": "i", "text": "xy"},
        ),
        (
            [
                {"a": [{"index": 0, "t": "x"}, {"index": 1, "t": "p"}]},
                {"a": [{"index": 1, "t": "q"}, {"index": 0, "t": "y"}]},
            ],
            {"a": [{"index": 0, "t": "xy"}, {"index": 1, "t": "pq"}]},
        ),
        ([{"a": [{"t": "x"}]}, {"a": [{"t": "y"}]}], {"a": [{"t": "x"}, {"t": "y"}]}),
        ([{"a": [{"index": 0}, {"index": 0}]}], {"a": [{"index": 0}, {"index": 0}]}),
    ],
)
def test_deltas_are_merged_by_kind(deltas: list[Any], one: Any) -> None:
    assert at_once(merged(deltas)) == one


def test_of_choices_and_chunks_the_last_values_count() -> None:
    parts: list[Any] = [
        {"choice": {"a": "x"}, "chunk": {"b": [1]}},
        {"choice": {"a": "y"}, "chunk": {"b": [2], "c": 1}},
    ]
    assert at_once(merged_parts(parts)) == {
        "choice": {"a": "y"},
        "chunk": {"b": [2], "c": 1},
        "delta": {},
        "logprobs": {},
    }


def test_an_empty_value_takes_the_place_of_no_other() -> None:
    """Azure's last chunk has no filter results."""
    results = {"hate": {"filtered": False}}
    parts = [{"choice": {"a": results, "b": 1}}, {"choice": {"a": {}, "b": 0, "c": []}}]
    assert at_once(merged_parts(parts))["choice"] == {"a": results, "b": 0, "c": []}


def test_deep_values_are_merged_without_an_end_of_the_stack() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": deep}
    assert at_once(merged([deep, deep]))


class Read(dict[str, Any]):
    """Counts how often it is read."""

    count = 0

    def get(self, *args: Any) -> Any:
        Read.count += 1
        return super().get(*args)

    def items(self) -> Any:
        Read.count += 1
        return super().items()


@pytest.mark.parametrize("indexes", [1, 300])
def test_a_step_of_a_long_merge_reads_few_of_its_objects(indexes: int) -> None:
    Read.count = 0
    parts: list[Any] = [
        Read(delta=Read(details=[Read(index=n % indexes, text="a")]), choice=Read(a=n)) for n in range(600)
    ]
    steps, before = merged_parts(parts), list[int]()
    while True:
        before.append(Read.count)
        try:
            next(steps)
        except StopIteration as done:
            details = done.value["delta"]["details"]
            break
    assert [len(detail["text"]) for detail in details] == [600 // indexes] * indexes
    assert Read.count >= 3 * 600
    assert max(after - first for first, after in pairwise([*before, Read.count])) <= 5


def test_a_merge_takes_no_longer_than_there_are_objects() -> None:
    def merge(count: int) -> Callable[[], object]:
        parts: list[Any] = [{"delta": {"details": [{"index": n % (count // 2), "text": "a"}]}} for n in range(count)]
        return lambda: at_once(merged_parts(parts))

    assert_linear(merge, 4000)
