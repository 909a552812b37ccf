"""Reads expressions of PromQL, one a line as JSON, and prints for each the metrics and labels that it names, as JSON.

Runs in the environment that ``tests/monitoring/conftest.py`` makes.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import promql_parser as promql  # type: ignore[import-not-found]


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of series under a node."""
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    else:
        for child in children(node):
            yield from selectors(child)


def children(node: Any) -> Iterator[Any]:
    yield from getattr(node, "args", ())
    for name in ("expr", "lhs", "rhs", "param"):
        if (child := getattr(node, name, None)) is not None:
            yield child


def groupings(node: Any) -> Iterator[tuple[list[str], list[str]]]:
    """The labels that each aggregation keeps, with the metrics that it aggregates."""
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        yield list(node.modifier.labels), [selector.name for selector in selectors(node)]
    for child in children(node):
        yield from groupings(child)


for line in sys.stdin:
    tree = promql.parse(json.loads(line))
    matched = [
        {"metric": selector.name, "labels": [matcher.name for matcher in selector.matchers.matchers]}
        for selector in selectors(tree)
    ]
    print(json.dumps({"selectors": matched, "groupings": list(groupings(tree))}))
