"""Projections and orders, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from query.document_projection import parse_projection, projector
from query.document_sort import parse_sort, place, sort_values
from query.refusals import Refusal

DOCUMENT = {"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 1, "g": 2}, 5, [{"f": 3, "g": 4}]], "n": [1, 2, 3, 4]}

CASES: list[tuple[Any, Any]] = [
    ({"a": 1}, {"a": 1}),
    (["a", "b.c"], {"a": 1, "b": {"c": 2}}),
    ({"e.f": 1}, {"e": [{"f": 1}, [{"f": 3}]]}),
    ({"a.x": 1}, {}),
    ({"b.c": 0, "e": 0, "n": 0}, {"a": 1, "b": {"d": 3}}),
    ({"e.f": 0, "a": 0, "b": 0, "n": 0}, {"e": [{"g": 2}, 5, [{"g": 4}]]}),
    ({"n": {"$slice": 2}, "a": 0, "b": 0, "e": 0}, {"n": [1, 2]}),
    ({"n": {"$slice": -3}, "a": 1}, {"a": 1, "n": [2, 3, 4]}),
    ({"n": {"$slice": [1, 2]}, "a": True}, {"a": 1, "n": [2, 3]}),
    ({"n": {"$elemMatch": {"$gt": 2}}}, {"n": [3]}),
    ({"e": {"$elemMatch": {"g": 2}}}, {"e": [{"f": 1, "g": 2}]}),
    ({"b": {"c": 1}}, {"b": {"c": 2}}),
    ({"b": {"c": 0}, "e": 0, "n": 0}, {"a": 1, "b": {"d": 3}}),
    ({"sum": {"$add": ["$a", "$b.c"]}, "a": 1}, {"a": 1, "sum": 3}),
    ({"x.y": "$b.d"}, {"x": {"y": 3}}),
    ({"x": "$nothing"}, {}),
    ({"x": "text", "y": ["$a", "$nothing"]}, {"x": "text", "y": [1, None]}),
    ({"n": {"$elemMatch": {"$gt": 9}}, "a": 1}, {"a": 1}),
    ({"a": {"$elemMatch": {"$gt": 0}}, "b": 1}, {"b": {"c": 2, "d": 3}}),
    ({"b": {"$elemMatch": {"c": 2}}, "a": 1}, {"a": 1}),
    ({"_id": 1}, {}),
    ({"_id": 0}, DOCUMENT),
    ({"_id": 0, "a": 1}, {"a": 1}),
]


@pytest.mark.parametrize(("projection", "expected"), CASES)
def test_what_is_kept(projection: Any, expected: Any) -> None:
    parsed = parse_projection(projection)
    assert not isinstance(parsed, Refusal), parsed.text
    assert projector(parsed)(DOCUMENT) == expected


@pytest.mark.parametrize(
    ("projection", "said"),
    [
        ({"a": 1, "b": 0}, "1s and 0s cannot stand together"),
        ({"a": 1, "a.b": 1}, "a.b lies within a: name one of them"),
        ({"a": None}, "projection.a: a path has 1 (keep) or 0 (leave out)"),
        ({"a": {"$slice": "x"}}, "$slice takes n, or [skip, n]"),
        ({"a": {"$where": 1}}, "$where is not supported"),
        ({"a": {"$meta": "textScore"}}, "a projection knows 1, 0, $slice, $elemMatch and expressions"),
        ({"a": {}}, "a projection knows 1, 0, $slice, $elemMatch and expressions"),
        ({"a": 0, "b": "$c"}, "1s and 0s cannot stand together"),
        ({"a": 1, "a.b": "$c"}, "lies within"),
        ({"a.$": 1, "b.$": 1}, "one path may end in $"),
        ({"a.$.b": 1}, "$ stands at the end of a path"),
        ({"a": {"$elemMatch": {"$where": 1}}}, "$where is not supported"),
        (5, "a projection is an object"),
        ({f"k{n}": 1 for n in range(1_001)}, "at most 1000 paths"),
    ],
)
def test_projections_that_are_refused(projection: Any, said: str) -> None:
    parsed = parse_projection(projection)
    assert isinstance(parsed, Refusal)
    assert said in parsed.text


def test_orders() -> None:
    parsed = parse_sort([{"a": -1}, "b"])
    assert not isinstance(parsed, Refusal)
    documents: list[Any] = [{"a": 1, "b": 2}, {"a": [0, 5]}, {"a": 1, "b": []}, {}, {"a": "x"}, {"a": 1}]
    ranked = sorted(documents, key=lambda d: place(parsed, sort_values(parsed, d), b""))
    assert ranked == [{"a": "x"}, {"a": [0, 5]}, {"a": 1, "b": []}, {"a": 1}, {"a": 1, "b": 2}, {}]


@pytest.mark.parametrize(
    ("sort", "said"),
    [
        ({"a": 2}, "sort.a: 1 ascends and -1 descends; found 2"),
        ([5], "a sort is an object"),
        (["a", "-a"], "a path is there twice"),
        ([f"k{n}" for n in range(33)], "at most 32 paths"),
    ],
)
def test_orders_that_are_refused(sort: Any, said: str) -> None:
    parsed = parse_sort(sort)
    assert isinstance(parsed, Refusal)
    assert said in parsed.text
