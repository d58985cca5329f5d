"""Aggregations: against plain Python, in one part and in several; and what ends them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from core.json_values import parse, render
from query.accumulators import HELD_MAX
from query.document_filter import ALL, parse_filter
from query.document_match import predicate
from query.document_values import order_key
from query.pipeline import parse_pipeline
from query.pipeline_stages import GROUPS_MAX
from query.refusals import Refusal
from tests.query.document_oracle import canonical, sorted_by
from tests.query.documents import DOCUMENTS


def run(stages: Any, documents: Sequence[Any], parts: int = 1, seed: int = 1) -> Any:
    """As peers do it: each its share, states as JSON text, merged in order."""
    pipeline = parse_pipeline(stages)
    assert not isinstance(pipeline, Refusal), pipeline.text
    below = Random(seed).randrange
    meets = predicate(pipeline.filter)
    whole = pipeline.whole(below)
    for number in range(parts):
        part = pipeline.part(below)
        for document in documents[number::parts]:
            if meets(document) and not part.push(document):
                break
        state = part.state()
        if isinstance(state, Refusal):
            return state
        whole.absorb(parse(render(state)))
    return whole.results()


def fraction(value: Any) -> Fraction:
    return Fraction(repr(value) if isinstance(value, float) else str(value))


def numbers_of(group: list[Any], key: str) -> list[Fraction]:
    found = [document.get(key) for document in group]
    return [
        fraction(value)
        for value in found
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    ]


GROUP = [
    {
        "$group": {
            "_id": "$a",
            "n": {"$sum": 1},
            "count": {"$count": {}},
            "total": {"$sum": "$b"},
            "mean": {"$avg": "$b"},
            "low": {"$min": "$b"},
            "high": {"$max": "$b"},
            "all": {"$push": "$c"},
            "each": {"$addToSet": "$c"},
            "spread": {"$stdDevPop": "$b"},
        }
    }
]


@settings(max_examples=200, deadline=None)
@given(st.lists(DOCUMENTS, max_size=12), st.integers(1, 4))
def test_groups_are_what_plain_python_makes_of_them(documents: list[Any], parts: int) -> None:
    groups: dict[Any, list[Any]] = {}
    for document in documents:
        groups.setdefault(canonical(document.get("a")), []).append(document)
    found = run(GROUP, documents, parts)
    assert len(found) == len(groups)
    for row in found:
        group = groups[canonical(row["_id"])]
        numbers = numbers_of(group, "b")
        assert row["n"] == row["count"] == len(group)
        assert fraction(row["total"]) == sum(numbers)
        if numbers:
            mean = sum(numbers) / len(numbers)
            assert math.isclose(float(fraction(row["mean"])), float(mean), rel_tol=1e-15, abs_tol=1e-30)
            spread = sum((n - mean) ** 2 for n in numbers) / len(numbers)
            assert math.isclose(float(row["spread"]), math.sqrt(spread), rel_tol=1e-9, abs_tol=1e-12)
        else:
            assert row["mean"] is None
            assert row["spread"] is None
        kept = sorted((d["b"] for d in group if d.get("b") is not None), key=order_key)
        assert canonical(row["low"]) == canonical(kept[0] if kept else None)
        assert canonical(row["high"]) == canonical(kept[-1] if kept else None)
        listed = sorted(canonical(d["c"]) for d in group if "c" in d) if _comparable(group) else None
        if listed is not None:
            assert sorted(canonical(v) for v in row["all"]) == listed
        assert {canonical(v) for v in row["each"]} == {canonical(d["c"]) for d in group if "c" in d}
        assert len(row["each"]) == len({canonical(v) for v in row["each"]})


def _comparable(group: list[Any]) -> bool:
    return all(isinstance(d.get("c", ""), str) for d in group)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(DOCUMENTS, max_size=12), st.integers(1, 3), st.booleans(), st.integers(0, 3), st.integers(1, 5)
)
def test_sorted_limited_documents(
    documents: list[Any], parts: int, descending: bool, skip: int, limit: int
) -> None:
    documents = [{**document, "_id": str(n)} for n, document in enumerate(documents)]
    stages = [{"$sort": {"a.b": -1 if descending else 1, "_id": 1}}, {"$skip": skip}, {"$limit": limit}]
    found = run(stages, documents, parts)
    keys = sorted({_Key(sorted_by(d, ["a", "b"], descending)) for d in documents}, reverse=descending)
    expected = [
        document
        for key in keys
        for document in sorted(documents, key=lambda d: str(d["_id"]))
        if sorted_by(document, ["a", "b"], descending) == key.key
    ]
    assert [d["_id"] for d in found] == [d["_id"] for d in expected[skip : skip + limit]]


class _Key:
    """Hashable by its text, ordered by itself."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash(repr(self.key))

    def __lt__(self, other: _Key) -> bool:
        return bool(self.key < other.key)


BOOKS = [
    {"_id": "1", "title": "한", "year": 1999, "price": 10.5, "tags": ["a", "b"], "on": "1999-12-31"},
    {"_id": "2", "title": "Du", "year": 2001, "price": 20, "tags": ["b"], "on": "2001-02-03T04:05:06Z"},
    {"_id": "3", "title": "Se", "year": 2001, "tags": [], "on": "2001-02-04"},
    {"_id": "4", "title": "Ne", "year": 2010, "price": Decimal("0.10000000000000000001")},
]

ONE_BY_ONE: list[tuple[Any, Any]] = [
    ([{"$count": "n"}], [{"n": 4}]),
    ([{"$match": {"year": 2001}}, {"$count": "n"}], [{"n": 2}]),
    ([{"$unwind": "$tags"}, {"$sortByCount": "$tags"}], [{"_id": "b", "count": 2}, {"_id": "a", "count": 1}]),
    (
        [{"$unwind": {"path": "$tags", "includeArrayIndex": "at", "preserveNullAndEmptyArrays": True}},
         {"$project": {"tags": 1, "at": 1}}, {"$skip": 1}, {"$limit": 3}],
        [{"_id": "1", "tags": "b", "at": 1}, {"_id": "2", "tags": "b", "at": 0}, {"_id": "3", "at": None}],
    ),
    (
        [{"$project": {"_id": 0, "total": {"$multiply": ["$price", 2]}}}],
        [{"total": 21}, {"total": 40}, {"total": None}, {"total": Decimal("0.20000000000000000002")}],
    ),
    (
        [{"$bucket": {"groupBy": "$year", "boundaries": [1990, 2000, 2005], "default": "later",
                      "output": {"n": {"$sum": 1}, "titles": {"$push": "$title"}}}}],
        [{"_id": 1990, "n": 1, "titles": ["한"]}, {"_id": 2000, "n": 2, "titles": ["Du", "Se"]},
         {"_id": "later", "n": 1, "titles": ["Ne"]}],
    ),
    ([{"$match": {"_id": "2"}}, {"$replaceRoot": {"newRoot": {"t": "$title", "all": "$$ROOT.tags"}}}],
     [{"t": "Du", "all": ["b"]}]),
    ([{"$limit": 2}, {"$addFields": {"a.b": {"$concat": ["$title", "!"]}}}, {"$project": {"a": 1, "_id": 0}}],
     [{"a": {"b": "한!"}}, {"a": {"b": "Du!"}}]),
    ([{"$match": {"_id": "2"}}, {"$set": {"o": {"p": 1, "q": {"r": 2, "s": 3}}}},
      {"$project": {"_id": 0, "o": {"q": {"s": 1, "t": "$year"}}, "title": "Due"}}],
     [{"o": {"q": {"s": 3, "t": 2001}}, "title": "Due"}]),
    ([{"$limit": 1}, {"$unset": ["tags", "on", "year", "price"]}, {"$set": {"o": {"p": 1, "q": 2}}},
      {"$project": {"_id": 0, "o": {"q": 0}}}], [{"title": "한", "o": {"p": 1}}]),
    ([{"$limit": 1}, {"$unset": ["tags", "on", "_id"]}], [{"title": "한", "year": 1999, "price": 10.5}]),
    ([{"$group": {"_id": None, "first": {"$first": "$title"}, "last": {"$last": "$title"}}}],
     [{"_id": None, "first": "한", "last": "Ne"}]),
    ([{"$match": {"_id": "2"}}, {"$project": {"_id": 0, "y": {"$year": "$on"}, "m": {"$month": "$on"},
      "d": {"$dayOfMonth": "$on"}, "h": {"$hour": "$on"}, "w": {"$dayOfWeek": "$on"}}}],
     [{"y": 2001, "m": 2, "d": 3, "h": 4, "w": 7}]),
    ([{"$limit": 1}, {"$project": {
        "_id": 0,
        "c": {"$cond": {"if": {"$gt": ["$year", 2000]}, "then": "new", "else": "old"}},
        "s": {"$switch": {"branches": [{"case": {"$eq": ["$year", 1999]}, "then": 1}], "default": 2}},
        "i": {"$ifNull": ["$nothing", "$title"]}, "u": {"$toUpper": "du"},
        "x": {"$substrCP": ["abcdef", 1, 2]},
        "n": {"$size": "$tags"}, "q": {"$divide": [1, 4]}, "w": {"$divide": [6, 3]},
        "r": {"$round": [2.25, 1]},
        "l": {"$literal": "$title"}, "gone": "$$REMOVE", "in": {"$in": ["a", "$tags"]},
        "p": {"$split": ["a-b", "-"]}, "o": {"$and": ["$year", 0]}, "y": {"$type": "$nothing"},
        "sub": {"$subtract": [0.3, 0.1]}, "m": {"$mod": [-7, 3]}, "sum": {"$sum": [1, "x", 2]}}}],
     [{"c": "old", "s": 1, "i": "한", "u": "DU", "x": "bc", "n": 2, "q": Decimal("0.25"), "w": 2,
       "r": Decimal("2.2"), "l": "$title", "in": True, "p": ["a", "b"], "o": False, "y": "missing",
       "sub": Decimal("0.2"), "m": -1, "sum": 3}]),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "expected"), ONE_BY_ONE)
def test_stages_and_expressions_one_by_one(stages: Any, expected: Any) -> None:
    found = run(stages, BOOKS)
    assert found == expected
    assert [list(document) for document in found] == [list(document) for document in expected]


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"$set": {"o.x": "$$REMOVE"}}, {"o": {"y": 2}}),
        ({"$set": {"o.x": "$nothing", "o.z": 3}}, {"o": {"y": 2, "z": 3}}),
        ({"$set": {"l.p": "$$REMOVE"}}, {"l": [{"q": 2}, {}, 7]}),
        ({"$set": {"s.q": "$$REMOVE", "n.q": "$$REMOVE", "m": "$$REMOVE"}}, {}),
        ({"$project": {"o.x": {"$cond": [{"$gt": ["$s", 1]}, "$$REMOVE", 1]}, "o.y": 1}}, {"o": {"y": 2}}),
    ],
)
def test_what_is_missing_is_taken_out_at_any_depth(stage: Any, expected: Any) -> None:
    document = {"o": {"x": 1, "y": 2}, "l": [{"p": 1, "q": 2}, {"p": 1}, 7], "s": 5}
    base = {} if "$project" in stage else document
    assert run([stage], [document]) == [{**base, **expected}]
    assert run([{"$set": {"m": "$$REMOVE"}}], [5, None, [1]]) == [5, None, [1]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 6), st.integers(1, 3))
def test_automatic_buckets_part_no_equal_values(values: list[int], buckets: int, parts: int) -> None:
    stage = {"$bucketAuto": {"groupBy": "$v", "buckets": buckets, "output": {"all": {"$push": "$v"}}}}
    found = run([stage], [{"v": value} for value in values], parts)
    assert [value for bucket in found for value in bucket["all"]] == sorted(values)
    for bucket, after in pairwise(found):
        assert bucket["_id"]["max"] == after["_id"]["min"] > bucket["all"][-1]
    assert all(bucket["_id"]["min"] == bucket["all"][0] for bucket in found)
    assert found[-1]["_id"]["max"] == max(values)
    distinct = len(set(values)) == len(values)
    sizes = [len(bucket["all"]) for bucket in found]
    assert len(sizes) <= buckets
    assert not distinct or max(sizes[:-1], default=0) <= len(values) // buckets + 1


@pytest.mark.parametrize(("count", "buckets", "sizes"), [(7, 3, [2, 2, 3]), (5, 2, [3, 2]), (2, 5, [1, 1])])
def test_automatic_buckets_are_no_more_than_asked(count: int, buckets: int, sizes: list[int]) -> None:
    stage = {"$bucketAuto": {"groupBy": "$v", "buckets": buckets}}
    found = run([stage], [{"v": n} for n in range(count)])
    assert [group["count"] for group in found] == sizes


def test_a_sample_is_of_the_size_asked_and_of_any_documents() -> None:
    documents = [{"_id": n} for n in range(20)]
    seen: set[int] = set()
    for seed in range(40):
        sample = [d["_id"] for d in run([{"$sample": {"size": 5}}], documents, 3, seed)]
        assert len(set(sample)) == 5
        seen.update(sample)
    assert seen == set(range(20))
    assert len(run([{"$sample": {"size": 50}}], documents, 2)) == 20


def test_the_leading_match_is_the_filter_that_an_index_may_serve() -> None:
    pipeline = parse_pipeline([{"$match": {"a": 1}}, {"$match": {"b": 2}}, {"$count": "n"}])
    assert not isinstance(pipeline, Refusal)
    assert pipeline.filter == parse_filter({"$and": [{"a": 1}, {"b": 2}]})
    bare = parse_pipeline([])
    assert not isinstance(bare, Refusal)
    assert bare.filter == ALL


@pytest.mark.parametrize("parts", [1, 3])
def test_facets_are_pipelines_of_the_same_documents(parts: int) -> None:
    documents = [{"n": n, "tag": ["a", "b", "a"][n % 3]} for n in range(20)]
    facets: dict[str, Any] = {
        "tags": [{"$sortByCount": "$tag"}],
        "some": [{"$match": {"n": {"$gte": 15}}}, {"$sort": {"n": -1}}, {"$limit": 2}, {"$unset": "tag"}],
        "none": [{"$match": {"n": 99}}, {"$count": "n"}],
        "first": [{"$limit": 1}],
        "total": [{"$group": {"_id": None, "sum": {"$sum": "$n"}}}],
        "all": [],
    }
    (found,) = run([{"$match": {"n": {"$lt": 18}}}, {"$facet": facets}], documents, parts)
    assert list(found) == list(facets)
    assert found["tags"] == [{"_id": "a", "count": 12}, {"_id": "b", "count": 6}]
    assert found["some"] == [{"n": 17}, {"n": 16}]
    assert (found["none"], found["first"], len(found["all"])) == ([], [{"n": 0, "tag": "a"}], 18)
    assert found["total"] == [{"_id": None, "sum": 153}]
    for name, stages in facets.items():
        assert found[name] == run([{"$match": {"n": {"$lt": 18}}}, *stages], documents, parts)


def test_facets_after_a_group_and_before_other_stages() -> None:
    documents = [{"tag": tag} for tag in "aabc"]
    stages = [
        {"$group": {"_id": "$tag", "n": {"$count": {}}}},
        {"$facet": {"many": [{"$match": {"n": {"$gt": 1}}}], "groups": [{"$count": "n"}]}},
        {"$unwind": "$groups"},
        {"$project": {"_id": 0, "many": 1, "groups": "$groups.n"}},
    ]
    assert run(stages, documents, 2) == [{"many": [{"_id": "a", "n": 2}], "groups": 3}]


@pytest.mark.parametrize("parts", [1, 2])
def test_facets_of_nothing_are_empty(parts: int) -> None:
    assert run([{"$facet": {"a": [], "b": [{"$count": "n"}]}}], [], parts) == [{"a": [], "b": []}]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({}, "1 to 20 pipelines"),
        ([], "1 to 20 pipelines"),
        ({"a": {}}, "a pipeline is an array"),
        ({"a.b": []}, "no dot"),
        ({"": []}, "not empty"),
        ({"a": [{"$facet": {"b": []}}]}, "cannot stand within a $facet"),
        ({"a": [{"$nope": 1}]}, "$nope is no stage"),
        ({str(n): [] for n in range(21)}, "1 to 20 pipelines"),
    ],
)
def test_what_is_no_facet(argument: Any, said: str) -> None:
    refusal = parse_pipeline([{"$facet": argument}])
    assert isinstance(refusal, Refusal)
    assert said in refusal.text


def test_peers_send_groups_and_first_documents_not_all() -> None:
    documents = [{"_id": str(n), "a": n % 3, "n": n} for n in range(100)]
    for stages, most in (
        ([{"$group": {"_id": "$a"}}], 3),
        ([{"$sort": {"n": -1}}, {"$skip": 1}, {"$limit": 4}], 5),
        ([{"$skip": 2}, {"$limit": 4}, {"$sort": {"n": 1}}], 6),
        ([{"$sample": {"size": 7}}], 7),
    ):
        pipeline = parse_pipeline(stages)
        assert not isinstance(pipeline, Refusal)
        part = pipeline.part(Random(1).randrange)
        for document in documents:
            if not part.push(document):
                break
        state = part.state()
        assert not isinstance(state, Refusal)
        assert len(state) == most


SALES = [
    {"item": "a", "price": 10, "more": {"x": 1}},
    {"item": "b", "price": 20.5, "more": {"y": 2}},
    {"item": "c", "price": 5, "more": None},
    {"item": "a", "price": 7},
    {"item": "d", "price": None},
]


@pytest.mark.parametrize(
    ("accumulator", "result"),
    [
        ({"$firstN": {"input": "$price", "n": 2}}, [10, 20.5]),
        ({"$lastN": {"input": "$price", "n": 2}}, [7, None]),
        ({"$maxN": {"input": "$price", "n": 2}}, [20.5, 10]),
        ({"$minN": {"input": "$price", "n": 9}}, [5, 7, 10, 20.5]),
        ({"$top": {"output": "$item", "sortBy": {"price": -1}}}, "b"),
        ({"$topN": {"n": 2, "output": ["$item", "$price"], "sortBy": {"price": 1}}}, [["d", None], ["c", 5]]),
        ({"$bottom": {"output": "$item", "sortBy": {"price": -1}}}, "d"),
        ({"$bottomN": {"n": 2, "output": "$item", "sortBy": {"price": 1}}}, ["a", "b"]),
        ({"$median": {"input": "$price", "method": "approximate"}}, 7),
        ({"$percentile": {"input": "$price", "p": [0, 0.5, 1], "method": "approximate"}}, [5, 7, 20.5]),
        ({"$percentile": {"input": "$none", "p": [0.5]}}, [None]),
        ({"$percentile": {"input": {"$ifNull": ["$none", "$price"]}, "p": [0.3, 0.95]}}, [7, 20.5]),
        ({"$mergeObjects": "$more"}, {"x": 1, "y": 2}),
    ],
)
def test_accumulators_that_choose(accumulator: Any, result: Any) -> None:
    stages = [{"$group": {"_id": None, "r": accumulator}}]
    assert run(stages, SALES) == [{"_id": None, "r": result}]
    name = next(iter(accumulator))
    if name not in ("$firstN", "$lastN"):  # which follow the order in which documents come
        assert run(stages, SALES, parts=3) == [{"_id": None, "r": result}]


def test_an_expression_as_a_filter() -> None:
    documents = [{"spent": 450, "budget": 400}, {"spent": 100, "budget": 400}, {"spent": 1}]
    over = {"$match": {"$expr": {"$gt": ["$spent", "$budget"]}}}
    assert run([over, {"$project": {"spent": 1}}], documents) == [{"spent": 450}, {"spent": 1}]
    both = {"$match": {"budget": 400, "$or": [{"$expr": {"$lt": ["$spent", 200]}}, {"x": 1}]}}
    assert run([{"$limit": 9}, both], documents) == [documents[1]]
    divided = {"$match": {"$expr": {"$divide": [1, {"$subtract": ["$spent", 1]}]}}}
    failed = run([{"$limit": 9}, divided], documents)
    assert isinstance(failed, Refusal)
    assert "cannot divide by 0" in failed.text


REFUSED: list[tuple[Any, str]] = [
    ({}, "pipeline: a pipeline is an array of stages"),
    ([{"$limit": 1}] * 51, "a pipeline has at most 50 stages"),
    ([{"$lookup": {}}], "$lookup is not supported: only _aggregate reads other collections"),
    ([{"$out": "x"}], "$out is not supported: a pipeline only reads"),
    ([{"$match": {"$expr": {"$nope": 1}}}], "pipeline[0].$match.$expr.$nope: $nope is not supported"),
    ([{"$group": {"_id": 1, "n": {"$firstN": {"input": "$a", "n": 0}}}}], "n is a whole number from 1"),
    ([{"$group": {"_id": 1, "n": {"$top": {"output": "$a"}}}}], "$top takes an object with output, sortBy"),
    ([{"$group": {"_id": 1, "n": {"$percentile": {"input": "$a", "p": [2]}}}}], "numbers from 0 to 1"),
    ([{"$nonsense": {}}], "pipeline[0]: $nonsense is no stage"),
    ([{"$match": {"$where": "1"}}], "pipeline[0].$match.$where: $where is not supported"),
    ([{"$group": {"n": {"$sum": 1}}}], "pipeline[0].$group: $group takes"),
    ([{"$group": {"_id": 1, "n": {"$median": 1}}}], "$median takes an object with input"),
    ([{"$group": {"_id": 1, "n": {"$mode": 1}}}], "there is no accumulator $mode; there are $sum"),
    ([{"$limit": 0}], "pipeline[0].$limit: a whole number from 1"),
    (
        [{"$project": {"x": {"$function": "1"}}}],
        "$function is not supported: nothing in a pipeline is executed",
    ),
    ([{"$project": {"x": {"$add": [1] * 1_000}}}], "a pipeline has expressions of at most 1000 parts"),
    ([{"$project": {"a": 0, "b": {"$add": [1, 1]}}}], "what is computed stands beside 1s"),
    ([{"$bucket": {"groupBy": "$a", "boundaries": [2, 1]}}], "values of one type in ascending order"),
    ([{"$unwind": "tags"}], '$unwind takes "$path"'),
    ([{"$set": {"a.b": 1, "a": 2}}], "pipeline[0].$set: a.b lies within a"),
    ([{"$project": {"a": {"$literal": 1}, "a.b": 1}}], "pipeline[0].$project: a.b lies within a"),
]


@pytest.mark.parametrize(("stages", "said"), REFUSED)
def test_what_is_refused_before_anything_is_read(stages: Any, said: str) -> None:
    parsed = parse_pipeline(stages)
    assert isinstance(parsed, Refusal)
    assert said in parsed.text


CANNOT: list[tuple[Any, Any, str]] = [
    (
        [{"$project": {"x": {"$add": ["$a", 1]}}}],
        [{"a": "b"}],
        "pipeline[0].$project.x.$add: a number belongs here",
    ),
    ([{"$project": {"x": {"$divide": [1, "$a"]}}}], [{"a": 0}], "cannot divide by 0"),
    ([{"$project": {"x": {"$year": "$a"}}}], [{"a": "yesterday"}], "a date is a text as 2024-02-29"),
    ([{"$replaceWith": "$a"}], [{"a": 1}], "the new root is no object"),
    ([{"$bucket": {"groupBy": "$a", "boundaries": [0, 1]}}], [{"a": 5}], "5 lies in no bucket"),
    ([{"$group": {"_id": "$a"}}], [{"a": n} for n in range(GROUPS_MAX + 1)], "more than 10000 groups"),
    (
        [{"$group": {"_id": None, "all": {"$push": "$a"}}}],
        [{"a": [0] * 100_000}] * (HELD_MAX // 100_000 + 1),
        "this holds more at once than a request may",
    ),
    (
        [{"$group": {"_id": "$g", **{f"x{n}": {"$sum": 1} for n in range(900)}}}],
        [{"g": n} for n in range(HELD_MAX // 900)],
        "this holds more at once than a request may",
    ),
    *(
        (stages, [{"g": n, "a": [0] * 10_000} for n in range(HELD_MAX // 10_000 + 1)], "holds more at once")
        for stages in (
            [{"$sort": {"g": 1}}, {"$limit": 10**9}, {"$count": "n"}],
            [{"$group": {"_id": "$g", "x": {"$first": "$$ROOT"}}}, {"$count": "n"}],
            [{"$group": {"_id": "$g", "x": {"$max": "$a"}}}, {"$count": "n"}],
            [{"$facet": {"a": [{"$group": {"_id": 1, "x": {"$push": "$$ROOT"}}}, {"$count": "n"}],
                         "b": [{"$sort": {"g": 1}}, {"$limit": 1}]}}],
        )
    ),
    (
        [{"$addFields": {"a": {"x": "$a", "y": "$a"}}}] * 40,
        [{"a": 1}],
        "a document of more than 500000 values would be made",
    ),
    (
        [{"$unwind": "$a"}, {"$unwind": "$b"}, {"$count": "n"}],
        [{"a": [0] * 2_000, "b": [0] * 2_000}],
        "$unwind: one document leads to too much here",
    ),
    (
        [{"$unwind": "$a"}, {"$match": {"$or": [{"b": n} for n in range(900)]}}, {"$count": "n"}],
        [{"a": [0] * 2_000}],
        "$match: one document leads to too much here",
    ),
    *(
        ([{"$unwind": "$a"}, *rest], [{"a": [0] * 2_000, "b": {"c": [0] * 20_000}}], "$unwind: one document")
        for rest in (
            [{"$match": {"a": 1}}],
            [{"$sort": {"a": 1}}, {"$limit": 1}],
            [{"$group": {"_id": "$b", "x": {"$last": "$b"}}}],
        )
    ),
    (
        [
            {"$group": {"_id": 1, "a": {"$push": "$a"}, "b": {"$push": "$a"}}},
            {"$unwind": "$a"},
            {"$unwind": "$b"},
            {"$count": "n"},
        ],
        [{"a": 1}] * 20_000,
        "$unwind: one document leads to too much here",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "documents", "said"), CANNOT)
def test_what_ends_a_pipeline_says_where_and_why(stages: Any, documents: list[Any], said: str) -> None:
    found = run(stages, documents)
    assert isinstance(found, Refusal)
    assert said in found.text


def test_what_is_sorted_is_counted_once() -> None:
    documents = [{"a": -n, "b": 1, "c": 2, "d": 3, "e": 4} for n in range(60_000)]
    found = run([{"$sort": {"a": 1}}], documents)
    assert not isinstance(found, Refusal), found.text
    assert found == documents[::-1]


@pytest.mark.parametrize(
    "group",
    [{"$last": "$a"}, {"$max": "$a"}, {"$lastN": {"input": "$a", "n": 2}}, {"$maxN": {"input": "$a", "n": 2}},
     {"$topN": {"n": 2, "sortBy": {"g": -1}, "output": "$a"}}],
    ids=lambda group: next(iter(group)),
)  # fmt: skip
def test_what_is_not_kept_is_not_held(group: Any) -> None:
    documents = [{"g": n, "a": [n] * 1_000} for n in range(HELD_MAX // 1_000 + 10)]
    (found,) = run([{"$group": {"_id": None, "x": group}}], documents)
    assert found["x"] in ([n := HELD_MAX // 1_000 + 9] * 1_000, [[n] * 1_000, [n - 1] * 1_000],
                          [[n - 1] * 1_000, [n] * 1_000])  # fmt: skip
    few = [{"g": n % 100, "a": [n] * 1_000} for n in range(800)]
    stages = [{"$group": {"_id": "$g", "x": {"$first": "$$ROOT"}}}, {"$sort": {"_id": 1}}, {"$limit": 400}]
    assert len(run(stages, few)) == 100


def test_products_of_products_stay_small() -> None:
    stages = [{"$addFields": {"a": {"$multiply": ["$a", "$a"]}}}] * 12
    (found,) = run(stages, [{"a": 3}])
    assert 900 < len(str(found["a"])) < 1_100  # of 1,954 digits the first 1,000
    refused = run([{"$addFields": {"a": {"$multiply": ["$a", "$a"]}}}] * 20, [{"a": 99}])
    assert isinstance(refused, Refusal)
    assert "beyond all numbers" in refused.text


AWKWARD: list[Any] = [
    *(0, 1, -1, 2.5, 10**40, Decimal("1e6144"), Decimal("-1e6144"), Decimal("1e-6144"), Decimal("9" * 40)),
    *("x", "2024-01-01", None, True, [], [1], {}),
]


@pytest.mark.parametrize("operator", ["$sum", "$avg", "$stdDevPop", "$stdDevSamp", "$max", "$push"])
def test_numbers_at_the_ends_of_what_there_is_end_the_request_and_nothing_else(operator: str) -> None:
    ways = ["$v", {"$multiply": ["$v", "$w"]}, {"$add": ["$v", "$w"]}, {"$pow": ["$v", "$w"]}]
    ways += [{"$subtract": ["$v", "$w"]}, {"$divide": ["$v", "$w"]}]
    refused = 0
    for way in ways:
        parsed = parse_pipeline([{"$group": {"_id": "$g", "r": {operator: way}}}])
        assert not isinstance(parsed, Refusal)
        for value in AWKWARD:
            for other in AWKWARD:
                documents = [{"v": value, "w": other, "g": 1}, {"v": other, "w": value, "g": 1}]
                parts = [parsed.part(lambda n: 0), parsed.part(lambda n: 0)]
                for part, document in zip(parts, documents, strict=True):
                    part.push(document)
                whole = parsed.whole(lambda n: 0)
                for part in parts:
                    state = part.state()
                    refused += isinstance(state, Refusal)
                    if not isinstance(state, Refusal):
                        whole.absorb(state)
                assert isinstance(whole.results(), list | Refusal)
    assert refused
