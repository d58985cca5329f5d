"""Pipelines over several collections: what they ask of the others, and what comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from query.document_match import predicate
from query.joins import DOCUMENTS_MAX, QUESTIONS_MAX, VALUES_MAX, Joined, parse_joined
from query.pipeline import parse_pipeline
from query.refusals import Refusal
from tests.query.document_oracle import canonical, reached
from tests.query.documents import DOCUMENTS

ORDERS = [
    {"_id": 1, "item": "almonds", "n": 2},
    {"_id": 2, "item": "pecans", "n": 1},
    {"_id": 3},
    {"_id": 4, "item": ["bread", "pecans", "none"]},
]
STOCK = [
    {"_id": 1, "sku": "almonds", "instock": 120},
    {"_id": 2, "sku": "bread", "instock": 80},
    {"_id": 4, "sku": "pecans", "instock": 70},
    {"_id": 5, "sku": None},
    {"_id": 6},
    {"_id": 7, "sku": ["almonds", "x"]},
]
HELD = {"orders": ORDERS, "stock": STOCK}
LOOKUP = {"from": "stock", "localField": "item", "foreignField": "sku", "as": "found"}


def run_stages(stages: Any, documents: list[Any]) -> list[Any]:
    parsed = parse_pipeline([{"$match": {}}, *stages])
    assert not isinstance(parsed, Refusal), parsed.text

    meets = predicate(parsed.filter)
    found = parsed.run([one for one in documents if meets(one)], lambda n: 0)
    assert not isinstance(found, Refusal), found.text
    return found


def plan_of(stages: list[Any]) -> Joined:
    found = parse_joined(stages)
    assert isinstance(found, Joined)
    return found


def run(stages: list[Any], of: str = "orders") -> list[Any] | Refusal:
    """As a coordinator does it, one collection after the other."""
    plan = parse_joined(stages)
    if isinstance(plan, Refusal):
        return plan
    assert isinstance(plan, Joined), "it joins"
    documents = run_stages(plan.stages, HELD[of])
    for step in plan.steps:
        asked = step.asks(documents)
        if isinstance(asked, Refusal):
            return asked
        found = [one for each in asked for one in run_stages(each, HELD.get(step.collection, []))]
        done = step.done(documents, found, lambda n: 0)
        if isinstance(done, Refusal):
            return done
        documents = done
    return documents


IDS = {"$project": {"found": "$found._id"}}

CASES: list[tuple[list[Any], list[Any]]] = [
    (
        [{"$lookup": LOOKUP}, IDS],
        [{"_id": 1, "found": [1, 7]}, {"_id": 2, "found": [4]}, {"_id": 3, "found": [5, 6]},
         {"_id": 4, "found": [2, 4]}],
    ),
    (
        [{"$match": {"n": 2}}, {"$lookup": {**LOOKUP, "localField": "_id", "foreignField": "_id"}}],
        [{"_id": 1, "item": "almonds", "n": 2, "found": [STOCK[0]]}],
    ),
    ([{"$limit": 1}, {"$lookup": {**LOOKUP, "from": "nowhere", "as": "a.b"}}, {"$project": {"a": 1}}],
     [{"_id": 1, "a": {"b": []}}]),
    (
        [{"$limit": 2},
         {"$lookup": {**LOOKUP, "pipeline": [{"$match": {"instock": {"$gt": 75}}}, {"$count": "n"}]}},
         {"$project": {"_id": 0, "found": 1}}],
        [{"found": [{"n": 1}]}, {"found": []}],
    ),
    (
        [{"$limit": 2}, {"$lookup": {"from": "stock", "as": "all", "pipeline": [{"$group": {
            "_id": None, "sum": {"$sum": "$instock"}}}]}}, {"$project": {"_id": 1, "sum": "$all.sum"}}],
        [{"_id": 1, "sum": [270]}, {"_id": 2, "sum": [270]}],
    ),
    (
        [{"$lookup": LOOKUP}, {"$unwind": "$found"}, {"$match": {"found.instock": {"$exists": True}}},
         {"$lookup": {"from": "orders", "localField": "found.sku", "foreignField": "item", "as": "back"}},
         {"$group": {"_id": "$found.sku", "orders": {"$sum": {"$size": "$back"}}}}, {"$sort": {"_id": 1}}],
        [{"_id": "almonds", "orders": 1}, {"_id": "bread", "orders": 1}, {"_id": "pecans", "orders": 4}],
    ),
    (
        [{"$project": {"_id": 0, "i": "$item"}}, {"$limit": 2},
         {"$unionWith": {"coll": "stock",
                         "pipeline": [{"$project": {"_id": 0, "i": "$sku"}}, {"$limit": 2}]}},
         {"$sortByCount": "$i"}],
        [{"_id": "almonds", "count": 2}, {"_id": "bread", "count": 1}, {"_id": "pecans", "count": 1}],
    ),
    ([{"$unionWith": "orders"}, {"$count": "n"}], [{"n": 8}]),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "expected"), CASES)
def test_what_comes_of_joins(stages: list[Any], expected: list[Any]) -> None:
    assert run(stages) == expected


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"$lookup": {}}], "pipeline[0].$lookup: $lookup takes"),
        ([{"$lookup": {**LOOKUP, "let": {"a": "$a"}}}], "let is not supported: give localField"),
        ([{"$limit": 1}, {"$lookup": {**LOOKUP, "localField": "$item"}}], "paths without $"),
        (
            [{"$lookup": {**LOOKUP, "pipeline": [{"$x": 1}]}}],
            "pipeline[0].$lookup.pipeline[0]: $x is no stage",
        ),
        ([{"$limit": 1}, {"$lookup": LOOKUP}, {"$x": 1}], "pipeline[2]: $x is no stage"),
        ([{"$lookup": {**LOOKUP, "pipeline": [{"$lookup": LOOKUP}]}}], "not within a $facet or another join"),
        ([{"$lookup": LOOKUP}, {"$facet": {"a": [{"$unionWith": "stock"}]}}], "not within a $facet"),
        ([{"$lookup": LOOKUP, "$limit": 1}], "a stage is an object with one member"),
        ([{"$unionWith": 5}], "$unionWith takes a collection"),
        ([{"$unionWith": "orders"}] * 11, "10 of them joins"),
        ([{"$unionWith": "orders"}, {"$project": {"x": {"$divide": [1, 0]}}}], "pipeline[1].$project.x"),
    ],
)
def test_joins_that_are_refused(stages: list[Any], said: str) -> None:
    found = run(stages)
    assert isinstance(found, Refusal)
    assert said in found.text


def test_what_joins_nothing_is_left_to_the_usual_way() -> None:
    unjoined: list[Any] = [[{"$match": {}}], [], None, 5, [5]]
    for stages in unjoined:
        assert parse_joined(stages) is None


def test_what_is_looked_up_and_held_is_bounded() -> None:
    (step,) = plan_of([{"$lookup": LOOKUP}]).steps
    several = step.asks([{"item": n} for n in range(VALUES_MAX + 1)])
    assert not isinstance(several, Refusal)
    assert [len(one[0]["$match"]["sku"]["$in"]) for one in several] == [VALUES_MAX, 1]
    many = step.asks([{"item": n} for n in range(VALUES_MAX * QUESTIONS_MAX + 1)])
    assert isinstance(many, Refusal)
    assert "are looked up: $match or $group before" in many.text
    texts = step.asks([{"item": "x" * 2_000_000}])
    assert isinstance(texts, Refusal)
    assert "$project shorter ones" in texts.text
    odd = step.asks([{"item": {"$regex": "^a"}}, {"item": 1}])
    assert odd == [[{"$match": {"$or": [{"sku": {"$in": [1]}}, {"sku": {"$eq": {"$regex": "^a"}}}]}}]]
    (inner,) = plan_of([{"$lookup": {**LOOKUP, "pipeline": [{"$limit": 1}]}}]).steps
    each = inner.done([{"item": 1}] * (DOCUMENTS_MAX + 1), [], lambda n: 0)
    assert isinstance(each, Refusal)
    assert "put the stages after it" in each.text
    (all_of,) = plan_of([{"$lookup": {"from": "stock", "as": "all", "pipeline": []}}]).steps
    square = all_of.done([{}] * 100_000, [{"_id": n} for n in range(100_000)], lambda n: 0)
    assert isinstance(square, Refusal)
    same = [{"_id": n, "sku": 1} for n in range(1_000)]
    blown = step.done([{"item": 1} for _ in range(1_000)], same, lambda n: 0)
    assert isinstance(blown, Refusal)
    assert "holds more at once" in blown.text


PATHS = st.sampled_from(["a", "b", "a.b", "c.0"])


@settings(max_examples=150, deadline=None)
@given(st.lists(DOCUMENTS, max_size=5), st.lists(DOCUMENTS, max_size=5), PATHS, PATHS)
def test_what_is_joined_is_what_has_an_equal_value(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], local: str, foreign: str
) -> None:
    there = [{**one, "_id": str(at)} for at, one in enumerate(theirs)]
    (step,) = plan_of(
        [{"$lookup": {"from": "x", "localField": local, "foreignField": foreign, "as": "found"}}]
    ).steps
    asked = step.asks(ours)
    assert not isinstance(asked, Refusal), asked.text
    done = step.done(ours, [one for stages in asked for one in run_stages(stages, there)], lambda n: 0)
    assert not isinstance(done, Refusal), done.text
    for document, joined in zip(ours, done, strict=True):
        wanted = values_at(document, local)
        equal = [one["_id"] for one in there if wanted & values_at(one, foreign)]
        assert [one["_id"] for one in joined["found"]] == equal


def values_at(document: Any, path: str) -> set[Any]:
    """As plainly as possible: what is there, and the elements of arrays."""
    found = reached(document, path.split("."))
    return {canonical(one) for one in [*found, *(e for one in found if isinstance(one, list) for e in one)]}
