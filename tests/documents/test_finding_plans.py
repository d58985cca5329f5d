"""Which index serves a filter, and that what it leads to is what a scan finds."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from core.gathering import Gathered
from core.json_values import parse, render
from core.requests import Changed, Invalid
from core.schema import Index
from documents.collections import DOCUMENT_COLUMN
from documents.finding import FindQuery, decode_place, find_query
from documents.finding_plans import Plan, ids_of, order_plan, plan_of, token_of_id
from documents.indexes import create_index, described, index_spec, indexes_of, is_so
from index.entries_json import value_term
from query.document_filter import parse_filter
from query.document_sort import parse_sort
from query.refusals import Refusal
from query.regex import literal_beginning
from sim.cluster import SimCluster
from sim.real import node_of
from tests.documents.whole import SECOND, ask, cluster_of, count, gather, movies, page, put, settle
from tests.query.document_oracle import meets

SPECS: dict[str, Any] = {
    "a": {"paths": {"a": 1}},
    "c_down": {"paths": {"c": -1}},
    "b_a": {"paths": {"b": 1, "a": -1}},
    "deep": {"paths": {"d.e": 1}},
    "partial": {"paths": {"f": 1}, "filter": {"a": {"$gt": 2}, "g": {"$exists": True}}},
}


def index(number: int, name: str) -> Index:
    spec = index_spec(name, SPECS[name])
    assert not isinstance(spec, Invalid), spec
    return Index(number, name, DOCUMENT_COLUMN, targets=spec.targets, condition=spec.condition)


INDEXES = [index(number, name) for number, name in enumerate(SPECS, start=1)]


def plan(wanted: Any, indexes: list[Index] = INDEXES) -> Plan:
    parsed = parse_filter(wanted)
    assert not isinstance(parsed, Refusal), parsed
    return plan_of(parsed, indexes, DOCUMENT_COLUMN, value_term)


CHOICES: list[tuple[Any, str]] = [
    ({"a": 5}, "a"),
    ({"a": {"$gte": 5}}, "a"),
    ({"a": {"$in": [1, 2]}}, "a"),
    ({"b": 1, "a": 5}, "b_a"),
    ({"b": 1, "a": {"$lt": 5}}, "b_a"),
    ({"$and": [{"b": 1}, {"x": 2}]}, "b_a"),
    ({"d.e": "x"}, "deep"),
    ({"c": {"$gt": "m"}}, "c_down"),
    ({"f": 1}, ""),
    ({"f": 1, "a": {"$gt": 2}, "g": 1}, "partial"),
    ({"f": 1, "a": {"$gt": 1}, "g": 1}, "a"),
    ({"a": None}, ""),
    ({"a": {"$ne": 1}}, ""),
    ({"a": {"$in": [1, None]}}, ""),
    ({"a": [1, 2]}, ""),
    ({"$or": [{"a": 1}, {"a": 2}]}, "a"),
    ({"$or": [{"a": 1}, {"c": 2}]}, ""),
    ({"$or": [{"a": 1}, {"a": None}]}, ""),
    ({"a": {"$exists": True}}, "a"),
    ({"a": {"$exists": False}}, ""),
    ({"a": {"$exists": True}, "c": "x"}, "c_down"),
    ({"a": {"$regex": "^ab"}}, "a"),
    ({"c": {"$regex": "^ab"}}, "c_down"),
    ({"a": {"$regex": "ab"}}, ""),
    ({"a": {"$regex": "^ab", "$options": "i"}}, ""),
    ({"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, "a"),
    ({"x": 1}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("wanted", "chosen"), CHOICES)
def test_the_index_that_narrows_most_is_taken(wanted: Any, chosen: str) -> None:
    assert plan(wanted).index == chosen


def test_ids_that_a_filter_names_are_all_that_is_looked_at() -> None:
    def named(wanted: Any) -> Any:
        parsed = parse_filter(wanted)
        assert not isinstance(parsed, Refusal)
        return ids_of(parsed)

    assert named({"_id": "x", "a": 1}) == ("x",)
    assert named({"$and": [{"_id": {"$in": ["b", "a", "b", 5, None]}}, {"a": {"$gt": 1}}]}) in (
        ("a", "b"), ("b", "a"),
    )  # fmt: skip
    assert list(named({"_id": {"$in": ["a", "b", "c"]}})) == sorted("abc", key=token_of_id)
    assert named({"_id": {"$in": ["a", "b"]}, "$or": [{"_id": "a"}]}) == ("a",)
    assert named({"_id": 5}) == ()
    for wanted in ({"a": 1}, {"_id": {"$gt": "a"}}, {"$or": [{"_id": "a"}, {"a": 1}]}, {"_id": {"$ne": "a"}}):
        assert named(wanted) is None
    assert named({"_id": {"$in": [str(n) for n in range(1_001)]}}) is None


ORDERS: list[tuple[Any, Any, str]] = [
    ({"a": {"$exists": True}}, {"a": 1}, "a"),
    ({"a": {"$lt": 5}}, {"a": 1}, "a"),
    ({"a": {"$gt": 5}}, {"a": 1}, ""),
    ({"a": {"$exists": True}}, {"a": -1}, ""),
    ({"c": {"$gte": "m"}}, {"c": -1}, "c_down"),
    ({"c": {"$gte": "m", "$lt": "z"}}, {"c": -1}, ""),
    ({"b": 1}, {"a": -1, "x": 1}, "b_a"),
    ({"b": {"$in": [1, 2]}}, {"a": -1}, ""),
    ({"b": 1}, {"a": 1}, ""),
    ({"a": {"$in": [1, 2]}}, {"a": 1}, ""),
    ({"a": {"$exists": True}, "c": "x"}, {"a": 1}, ""),
    ({}, {"a": 1}, ""),
    ({}, {"c": -1}, "c_down"),
    ({"x": 1}, {"c": -1, "a": 1}, "c_down"),
    ({"a": 1}, {"c": -1}, ""),
    ({"f": 1, "a": {"$gt": 2}, "g": 1}, {"f": 1}, ""),
]


@pytest.mark.parametrize(("wanted", "sort", "chosen"), ORDERS)
def test_an_index_gives_an_order_if_it_narrows_as_well_as_any(wanted: Any, sort: Any, chosen: str) -> None:
    found = ordered(wanted, sort, INDEXES)
    assert ("" if found is None else found.index) == chosen


def ordered(wanted: Any, sort: Any, indexes: list[Index], after: Any = None) -> Plan | None:
    condition, order = parse_filter(wanted), parse_sort(sort)
    assert not isinstance(condition, Refusal) and not isinstance(order, Refusal)
    return order_plan(condition, order, indexes, DOCUMENT_COLUMN, value_term, after=after)


@pytest.mark.parametrize(
    ("pattern", "flags", "beginning"),
    [
        ("^abc", "", "abc"),
        ("^abc.*d", "s", "abc"),
        ("^ab*c", "", "a"),
        ("^ab?", "", "a"),
        ("^ab{0,2}", "", "a"),
        ("^ab+c", "", "ab"),
        (r"^a\.b\d", "", "a.b"),
        ("^한글[a-z]", "", "한글"),
        ("^ab|^ac", "", ""),
        ("^(ab)", "", ""),
        ("^abc", "i", ""),
        ("^abc", "m", ""),
        ("^a b", "x", ""),
        ("abc", "", ""),
        ("^", "", ""),
        ("^a\\", "", "a"),
    ],
)
def test_the_beginning_of_a_pattern(pattern: str, flags: str, beginning: str) -> None:
    assert literal_beginning(pattern, flags) == beginning


def test_one_term_keeps_the_order_of_keys() -> None:
    assert plan({"a": 5}).exact
    assert plan({"b": 1, "a": 5}).exact
    assert not plan({"b": 1}).exact
    assert not plan({"a": {"$in": [1, 2]}}).exact
    assert not plan({"a": {"$gt": 5}}).exact


DOCUMENTS: dict[str, Any] = {}
"""What the cluster holds."""


@pytest.fixture(scope="module")
def indexed() -> SimCluster:
    cluster = cluster_of(3)
    random = Random("documents")

    def renew(n: int) -> None:
        DOCUMENTS[f"m{n}"] = _document(random)
        put(cluster, f"m{n}", DOCUMENTS[f"m{n}"], n % 3)

    for n in range(80):
        renew(n)
    for name, body in SPECS.items():
        spec = index_spec(name, body)
        assert not isinstance(spec, Invalid)
        made = ask(cluster, 0, create_index(movies(cluster), spec))
        assert isinstance(made, Changed) and not made.error, made
    settle(cluster)
    for n in (*range(80, 120), *range(0, 120, 5)):
        renew(n)
    there = indexes_of(movies(cluster), node_of(cluster, 0).metadata.state.tables[movies(cluster).table])
    assert list(there) == list(SPECS)
    for index in there.values():
        assert cluster.run_until(
            lambda index=index: all(node_of(cluster, n).building.is_built(index.id) for n in range(3)),  # type: ignore[misc]
            60 * SECOND,
        )
    return cluster


SCALARS = [None, True, False, -1, 0, 1, 2, 3, 2.5, 10**20, 0.1, "", "a", "ab", "m", "z", "한글"]


def _document(random: Random) -> dict[str, Any]:
    def value() -> Any:
        kind = random.random()
        if kind < 0.2:
            return [random.choice(SCALARS) for _ in range(random.randrange(4))]
        return {"e": random.choice(SCALARS)} if kind < 0.3 else random.choice(SCALARS)

    found = {key: value() for key in "abcfg" if random.random() < 0.8}
    found["d"] = random.choice(
        [value(), [{"e": value()}, {"e": value()}, 3], {"e": [value() for _ in range(2)]}]
    )
    return found


def _filter(random: Random) -> dict[str, Any]:
    def condition() -> Any:
        value = random.choice(SCALARS)
        name = random.choice(
            ["$eq", "$gt", "$gte", "$lt", "$lte", "$in", "$elemMatch", "", "$exists", "$regex"]
        )
        if name == "$exists":
            return {name: True}
        if name == "$regex":
            return {name: random.choice(["^a", "^ab?", "^한", "^m", "b"])}
        if name == "$in":
            return {name: [value, random.choice(SCALARS)]}
        if name == "$elemMatch":
            return {name: {"$gte": value, "$lt": random.choice(SCALARS)}}
        return {name: value} if name else value

    paths = random.sample(["a", "b", "c", "d.e", "f", "g"], random.randint(1, 3))
    found = {path: condition() for path in paths}
    if "f" in found and random.random() < 0.7:
        found |= {"a": {"$gt": 2}, "g": {"$exists": True}}
    return found


def test_an_index_leads_to_what_a_scan_finds(indexed: SimCluster) -> None:
    random = Random("filters")
    served: dict[str, int] = {}
    matched = 0
    for turn in range(300):
        wanted = _filter(random)
        table = node_of(indexed, 0).metadata.state.tables[movies(indexed).table]
        chosen = plan(wanted, list(table.indexes))
        served[chosen.index] = served.get(chosen.index, 0) + 1
        body: dict[str, Any] = {"filter": wanted, "limit": 1_000}
        if turn % 3 == 0:
            body["sort"] = {"a": 1}
        scanned, _ = page(indexed, turn % 3, body)
        assert page(indexed, turn % 3, body, chosen) == (scanned, None), wanted
        assert sorted(scanned) == sorted(name for name, one in DOCUMENTS.items() if meets(one, wanted))
        matched += len(scanned)
    assert sorted(name for name in served if name) == sorted(f"movies__{name}" for name in SPECS)
    assert matched > 500


def test_pages_in_the_order_of_an_index_are_those_of_a_sort(indexed: SimCluster) -> None:
    random = Random("orders")
    served: dict[str, int] = {}
    present: list[dict[str, Any]] = [
        {"a": {"$exists": True}},
        {"c": {"$exists": True}},
        {"b": 1},
        {"a": {"$lt": 3}},
        {},
    ]
    for turn in range(90):
        sort = random.choice([{"a": 1}, {"c": -1}, {"a": -1}, {"c": -1, "a": 1}])
        wanted = (_filter(random) if turn % 2 else {}) | random.choice(present)
        table = node_of(indexed, 0).metadata.state.tables[movies(indexed).table]
        chosen = ordered(wanted, sort, list(table.indexes))
        if chosen is None:
            continue
        served[chosen.index] = served.get(chosen.index, 0) + 1
        everything, _ = page(indexed, 0, {"filter": wanted, "sort": sort, "limit": 1_000})
        body: dict[str, Any] = {"filter": wanted, "sort": sort, "limit": random.choice([2, 7, 30])}
        found, body["cursor"] = page(indexed, turn % 3, body, chosen)
        while body["cursor"] is not None:
            where = decode_place(body["cursor"])
            assert where is not None
            chosen = ordered(wanted, sort, list(table.indexes), parse(where.values)[0])
            assert chosen is not None
            ids, body["cursor"] = page(indexed, turn % 3, body, chosen)
            found += ids
        assert found == everything, body
    assert sorted(served) == ["movies__a", "movies__b_a", "movies__c_down"]


def test_the_order_of_an_index_ends_when_there_is_enough(indexed: SimCluster) -> None:
    indexes = list(node_of(indexed, 0).metadata.state.tables[movies(indexed).table].indexes)
    for n in range(150):
        put(indexed, f"o{n}", {"a": 1_000 + n}, n % 3)
        DOCUMENTS[f"o{n}"] = {"a": 1_000 + n}
    body: dict[str, Any] = {"filter": {"a": {"$exists": True}}, "sort": {"a": 1}, "limit": 2}
    query = find_query(movies(indexed), body)
    assert isinstance(query, FindQuery)
    chosen = ordered(body["filter"], body["sort"], indexes)
    assert chosen is not None
    fold = query.fold(False)
    fold.by_index = True
    answer = gather(indexed, 0, fold, chosen)
    assert isinstance(answer, Gathered)
    assert sum(one.examined for one in answer.served) < 40, "as many as are held at once, of each range"


@pytest.mark.parametrize("wanted", [{"a": 1}, {"a": {"$gte": 0}}, {"a": {"$in": [0, 1, 2]}}])
def test_pages_by_an_index_give_everything_once(indexed: SimCluster, wanted: Any) -> None:
    table = node_of(indexed, 0).metadata.state.tables[movies(indexed).table]
    chosen = plan(wanted, list(table.indexes))
    assert chosen.index
    everything, _ = page(indexed, 0, {"filter": wanted, "limit": 1_000})
    found: list[str] = []
    cursor, turn = None, 0
    while True:
        ids, cursor = page(indexed, turn % 3, {"filter": wanted, "limit": 4, "cursor": cursor}, chosen)
        found += ids
        turn += 1
        if cursor is None:
            break
    assert found == everything
    assert len(found) == count(indexed, 1, wanted) >= 4


def test_an_index_is_described_as_it_was_asked_for() -> None:
    for name, body in SPECS.items():
        spec = index_spec(name, body)
        assert not isinstance(spec, Invalid)
        made = index(1, name)
        assert is_so(made, spec)
        told = described(name, made)
        assert parse(render({key: told[key] for key in ("paths", "filter") if key in told})) == body


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("x y", {"paths": {"a": 1}}, "an index's name is 1 to 48 letters"),
        ("x", {"paths": {}}, "an index is on 1 to 16 paths"),
        ("x", {"paths": {"a": "text"}}, "1 ascends and -1 descends"),
        ("x", {"fields": ["a"]}, "an index has no 'fields'; there are paths, filter, unique"),
        ("x", {"paths": {"_id": 1}}, "found by their id without an index"),
        ("x", {"paths": {"a.$**": 1}}, "no indexes on all paths"),
        ("x", {"paths": {"a": 1}, "filter": {"b": None}}, "of plain values, which stand together"),
        ("x", {"paths": {"a": 1}, "filter": {"b": {"$ne": 1}}}, "of plain values, which stand together"),
        ("x", {"paths": {"a": 1}, "filter": {"$where": "1"}}, "$where is not supported"),
        ("x", [], "an index is"),
        ("x", {"paths": {"a": 1}, "unique": 1}, "unique is true or false"),
        ("x", {"paths": {"a": 1}, "expire_after_s": -1}, "expire_after_s is 0 to"),
        ("x", {"paths": {"a": 1}, "expireAfterSeconds": "60"}, "expire_after_s is 0 to"),
        ("x", {"paths": {"a": 1, "b": 1}, "expire_after_s": 60}, "on one path, and not unique"),
        ("x", {"paths": {"a": 1}, "expire_after_s": 60, "unique": True}, "on one path, and not unique"),
    ],
)
def test_indexes_that_are_refused(name: str, body: Any, said: str) -> None:
    refused = index_spec(name, body)
    assert isinstance(refused, Invalid)
    assert refused.code == "bad_index"
    assert said in refused.detail
