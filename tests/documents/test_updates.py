"""Update operators: what each does, what it refuses, and that both ways of writing them agree."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from core.json_values import render
from documents import arrays
from documents.cells import put_pieces, written_after
from documents.edits import Edit, EditError
from documents.updates import iso_time, update, update_of
from query.document_values import MISSING, order_key
from tests.documents.cellular import assembled

NOW_US = 1_700_000_000_123_456


def edit(operators: Any) -> Edit:
    return update_of(operators, NOW_US)


def after(document: Any, operators: Any) -> Any:
    """What becomes of it, checked to be the same through cells, in every way that it could be written."""
    change = edit(operators)
    edited = change.apply(document if document is MISSING else deepcopy(document))
    before = [] if document is MISSING else [put_pieces(render(document))]
    if edited.touched:
        assert assembled([*before, written_after(edited.document, edited.touched)]) == edited.document
    if change.pieces is not None:
        assert assembled([*before, change.pieces]) == edited.document
    return edited.document


@pytest.mark.parametrize(
    ("document", "operators", "result"),
    [
        ({}, {"$set": {"a.b": 1}}, {"a": {"b": 1}}),
        ({"a": 5}, {"$set": {"a.b": 1}}, {"a": {"b": 1}}),
        ({"a": [1]}, {"$set": {"a.b": 1}}, {"a": {"b": 1}}),
        ({}, {"$set": {r"a\.b": 1, r"c\\d": 2}}, {"a.b": 1, "c\\d": 2}),
        ({"a": [1, 2]}, {"$set": {"a.1": 9}}, {"a": [1, 9]}),
        ({"a": [1]}, {"$set": {"a.3": 9}}, {"a": [1, None, None, 9]}),
        ({"a": [1, 2.0, 3, {"x": 1}]}, {"$pullAll": {"a": [2, {"x": 1}]}}, {"a": [1, 3]}),
        ({}, {"$pullAll": {"a": [2]}}, {}),
        ({"a": 5}, {"$bit": {"a": {"and": 4}}}, {"a": 4}),
        ({"a": 5}, {"$bit": {"a": {"or": 2, "xor": 1}}}, {"a": 6}),
        ({}, {"$bit": {"a": {"or": 2}}}, {"a": 2}),
        ({"a": [2, 1]}, {"$push": {"a": {"$each": [3], "$sort": -1.0, "$slice": 2.0}}}, {"a": [3, 2]}),
        ({"a": [1, 2]}, {"$pop": {"a": -1.0}}, {"a": [2]}),
        ({"a": {}}, {"$set": {"a.0": 9}}, {"a": {"0": 9}}),
        ({"a": [{"x": 1}]}, {"$set": {"a.0.x": 2}}, {"a": [{"x": 2}]}),
        ({"a": [1]}, {"$set": {"a.0.x": 2}}, {"a": [{"x": 2}]}),
        ({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": ""}}, {"a": {"c": 2}}),
        ({"a": 5}, {"$unset": {"a.b": ""}}, {"a": 5}),
        ({"a": [1, 2]}, {"$unset": {"a.0": ""}}, {"a": [None, 2]}),
        ({"a": [1]}, {"$unset": {"a.7": ""}}, {"a": [1]}),
        ({"n": 1}, {"$inc": {"n": 2, "m.k": 5}}, {"n": 3, "m": {"k": 5}}),
        ({"n": 0.1}, {"$inc": {"n": 0.2}}, {"n": 0.3}),
        ({"n": 10**30}, {"$inc": {"n": 1}}, {"n": 10**30 + 1}),
        ({"n": Decimal("1e-30")}, {"$inc": {"n": 1}}, {"n": Decimal("1." + "0" * 29 + "1")}),
        ({"n": 3}, {"$mul": {"n": 1.5, "m": 2}}, {"n": 4.5, "m": 0}),
        ({"n": 3}, {"$min": {"n": 5, "m": 1}}, {"n": 3, "m": 1}),
        ({"n": 3}, {"$min": {"n": 2}}, {"n": 2}),
        ({"n": 3}, {"$max": {"n": 5}}, {"n": 5}),
        ({"t": "b"}, {"$max": {"t": "a"}}, {"t": "b"}),
        ({}, {"$push": {"a": 1}}, {"a": [1]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [2, 3]}}}, {"a": [1, 2, 3]}),
        ({"a": [1, 2]}, {"$push": {"a": {"$each": [9], "$position": 1}}}, {"a": [1, 9, 2]}),
        ({"a": [1, 2]}, {"$push": {"a": {"$each": [9], "$position": -1}}}, {"a": [1, 9, 2]}),
        ({"a": [1, 2]}, {"$push": {"a": {"$each": [3], "$slice": -2}}}, {"a": [2, 3]}),
        ({"a": [1, 2]}, {"$push": {"a": {"$each": [], "$slice": 1}}}, {"a": [1]}),
        ({"a": [3, 1]}, {"$push": {"a": {"$each": [2], "$sort": 1}}}, {"a": [1, 2, 3]}),
        (
            {"a": [{"s": 1, "t": "x"}, {"s": 2, "t": "b"}]},
            {"$push": {"a": {"$each": [{"s": 2, "t": "a"}], "$sort": {"s": -1, "t": 1}, "$slice": 2}}},
            {"a": [{"s": 2, "t": "a"}, {"s": 2, "t": "b"}]},
        ),
        ({"a": [1]}, {"$push": {"a": {"x": 1}}}, {"a": [1, {"x": 1}]}),
        ({"a": [1, {"x": 1}]}, {"$addToSet": {"a": {"x": 1.0}}}, {"a": [1, {"x": 1}]}),
        ({"a": [1]}, {"$addToSet": {"a": {"$each": [1, 2, 2, True]}}}, {"a": [1, 2, True]}),
        ({"a": [1, 2, 1]}, {"$pull": {"a": 1}}, {"a": [2]}),
        ({"a": [1, 5, 8]}, {"$pull": {"a": {"$gte": 5, "$lt": 8}}}, {"a": [1, 8]}),
        (
            {"a": [{"x": 1, "y": 2}, {"x": 1}]},
            {"$pull": {"a": {"x": 1, "y": {"$exists": True}}}},
            {"a": [{"x": 1}]},
        ),
        ({"a": [1, 2, 3]}, {"$pop": {"a": 1}}, {"a": [1, 2]}),
        ({"a": [1, 2, 3]}, {"$pop": {"a": -1}}, {"a": [2, 3]}),
        ({"a": []}, {"$pop": {"a": 1, "b": 1}}, {"a": []}),
        ({"a": {"b": 1}}, {"$rename": {"a.b": "c.d"}}, {"a": {}, "c": {"d": 1}}),
        ({"a": 1}, {"$rename": {"x": "y"}}, {"a": 1}),
        ({"a": 1}, {"$currentDate": {"d": True}}, {"a": 1, "d": "2023-11-14T22:13:20.123Z"}),
        ({}, {"$currentDate": {"d": {"$type": "timestamp"}}}, {"d": 1_700_000_000_123}),
        ({"a": 1}, {"$setOnInsert": {"b": 2}, "$set": {"c": 3}}, {"a": 1, "c": 3}),
        (MISSING, {"$setOnInsert": {"b": 2}, "$set": {"c": 3}}, {"b": 2, "c": 3}),
        (MISSING, {"$inc": {"n": 1}}, {"n": 1}),
        (MISSING, {"$unset": {"n": 1}}, MISSING),
        (MISSING, {"$pull": {"a": 1}}, MISSING),
        ([1], {"$set": {"0": 2}}, [2]),
        ("text", {"$set": {"a": 2}}, {"a": 2}),
    ],
)  # fmt: skip
def test_what_an_operator_does(document: Any, operators: Any, result: Any) -> None:
    found = after(document, operators)
    assert found == result
    assert render(found) == render(result) if result is not MISSING else found is MISSING


@pytest.mark.parametrize(
    ("document", "operators", "says"),
    [
        ({"a": "x"}, {"$inc": {"a": 1}}, "string, not a number"),
        ({"a": True}, {"$inc": {"a": 1}}, "boolean, not a number"),
        ({"a": None}, {"$mul": {"a": 1}}, "null, not a number"),
        ({"a": 1}, {"$push": {"a": 1}}, "number, not an array"),
        ({"a": 1}, {"$inc": {"a.b": 1}}, "a is of type number"),
        ({"a": [1]}, {"$inc": {"a.b": 1}}, "a is of type array"),
        ({"a": {}}, {"$addToSet": {"a": 1}}, "object, not an array"),
        ({"a": [1]}, {"$rename": {"a.0": "b"}}, "into an array or out of one"),
        ({"a": [1], "b": 2}, {"$rename": {"b": "a.0"}}, "into an array or out of one"),
        ({"a": []}, {"$set": {"a.10001": 1}}, "beyond the array's end"),
        ({"a": Decimal("1e6000")}, {"$mul": {"a": Decimal("1e6000")}}, "digits"),
        ({"a": Decimal("1e6000")}, {"$inc": {"a": 1}}, "digits"),
        ({"a": 10**4000}, {"$mul": {"a": 10**4000}}, "digits"),
        ({"a": [{"x": 1}] * 3_000}, {"$pull": {"a": {"$or": [{"x": n} for n in range(900)]}}}, "use .in"),
    ],
)
def test_a_document_that_an_operator_cannot_work_on_is_a_conflict(
    document: Any, operators: Any, says: str
) -> None:
    with pytest.raises(EditError, match=says) as found:
        after(document, operators)
    assert found.value.code == "patch_conflict"


@pytest.mark.parametrize(
    ("operators", "says"),
    [
        ({}, "object of operators"),
        ([], "object of operators"),
        ({"a": 1}, "no operator 'a'"),
        ({"$where": {"a": 1}}, "no operator"),
        ({"$set": 1}, "object of paths"),
        ({"$set": {"": 1}}, "empty"),
        ({"$set": {"a..b": 1}}, "empty key"),
        ({"$set": {"a\\x": 1}}, "backslash"),
        ({"$set": {"a.$": 1}}, "name one by its number"),
        ({"$set": {"$a": 1}}, "begin with"),
        ({"$set": {".".join("a" * 101): 1}}, "keys"),
        ({"$set": {"a": 1, "a.b": 2}}, "both paths"),
        ({"$set": {"a.b": 1}, "$unset": {"a": 2}}, "both paths"),
        ({"$set": {"a": 1}, "$inc": {"a": 2}}, "both paths"),
        ({"$rename": {"a": "a.b"}}, "both paths"),
        ({"$rename": {"a": "b"}, "$set": {"b": 1}}, "both paths"),
        ({"$rename": {"a": 1}}, "new path"),
        ({"$inc": {"a": "1"}}, "number"),
        ({"$inc": {"a": True}}, "number"),
        ({"$push": {"a": {"$each": 1}}}, "array under"),
        ({"$push": {"a": {"$each": [], "$nope": 1}}}, "nope"),
        ({"$push": {"a": {"$slice": 1}}}, "array under"),
        ({"$push": {"a": {"$each": [], "$slice": 1.5}}}, "whole number"),
        ({"$push": {"a": {"$each": [], "$sort": 2}}}, "1 or -1"),
        ({"$push": {"a": {"$each": [], "$sort": {f"p{n}": 1 for n in range(33)}}}}, "at most 32 paths"),
        ({"$addToSet": {"a": {"$each": [], "$slice": 1}}}, "slice"),
        ({"$pop": {"a": 2}}, "takes 1"),
        ({"$pull": {"a": {"$nope": 2}}}, "nope"),
        ({"$currentDate": {"a": False}}, "takes true"),
        ({"$set": {f"a{n}": 1 for n in range(10_000)}}, "at most 1000"),
    ],
)
def test_what_is_no_update_is_refused_whatever_the_document(operators: Any, says: str) -> None:
    with pytest.raises(EditError, match=says) as found:
        edit(operators)
    assert found.value.code == "bad_patch"
    assert len(str(found.value)) < 400


def test_sorting_looks_at_each_element_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []

    def looking(value: Any) -> Any:
        looked.append(value)
        return order_key(value)

    monkeypatch.setattr(arrays, "order_key", looking)
    numbers = [n * 7 % 1_000 for n in range(1_000)]
    assert after({"a": numbers}, {"$push": {"a": {"$each": [], "$sort": 1}}}) == {"a": sorted(numbers)}
    assert len(looked) == 1_000


def test_what_would_be_nested_too_deep_is_refused() -> None:
    value: Any = 1
    for _ in range(60):
        value = {"a": value}
    with pytest.raises(EditError) as found:
        edit({"$set": {".".join("b" * 41): value}})
    assert found.value.code == "too_deep"
    assert edit({"$set": {".".join("b" * 40): value}}).pieces


@pytest.mark.parametrize(
    ("operators", "in_pieces"),
    [
        ({"$set": {"a.b": 1}, "$unset": {"c": 1}, "$currentDate": {"d": True}}, True),
        ({"$set": {"a.0": 1}}, False),
        ({"$unset": {"a.0.b": 1}}, False),
        ({"$set": {"a": 1}, "$inc": {"n": 1}}, False),
        ({"$setOnInsert": {"a": 1}}, False),
        ({"$rename": {"a": "b"}}, False),
    ],
)
def test_only_what_depends_on_the_document_takes_the_conditional_path(
    operators: Any, in_pieces: bool
) -> None:
    assert (edit(operators).pieces is not None) == in_pieces


def test_text_is_read_exactly() -> None:
    change = update(b'{"$set": {"n": 123456789012345678901234567890.5}}', NOW_US)
    assert change.apply({}).document == {"n": Decimal("123456789012345678901234567890.5")}
    with pytest.raises(EditError, match="twice"):
        update(b'{"$set": {"n": 1, "n": 2}}', NOW_US)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_written_as_rfc_3339_says(when: datetime) -> None:
    us = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert iso_time(us) == when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


KEYS = st.sampled_from(["a", "b", "0", "1"])
VALUES = st.recursive(
    st.none() | st.integers(-2, 2) | st.text("xy", max_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=6,
)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(".".join)
OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["$set", "$unset", "$min", "$max", "$push", "$pull", "$setOnInsert"]), VALUES),
    st.tuples(st.sampled_from(["$inc", "$mul"]), st.integers(-3, 3)),
    st.tuples(st.just("$rename"), PATHS),
    st.tuples(st.just("$pop"), st.sampled_from([1, -1])),
    st.tuples(
        st.just("$addToSet"), st.builds(lambda values: {"$each": values}, st.lists(VALUES, max_size=2))
    ),
)


@given(VALUES, st.lists(st.tuples(OPERATORS, PATHS), min_size=1, max_size=3))
def test_the_cells_of_any_update_make_what_the_update_made(document: Any, parts: list[Any]) -> None:
    operators: dict[str, dict[str, Any]] = {}
    for (name, argument), path in parts:
        operators.setdefault(name, {})[path] = argument
    try:
        after(document, operators)
    except EditError:
        return
