"""Elements of arrays in updates: `$[]`, `$[name]` with array filters, and `$`."""

from __future__ import annotations

from typing import Any

import pytest

from core.json_values import render
from documents.cells import put_pieces, written_after
from documents.edits import EditError
from documents.positional import Positions, array_filters
from documents.updates import update_of
from query.document_filter import parse_filter
from query.document_values import MISSING
from query.refusals import Refusal
from tests.documents.cellular import assembled


def changed(document: Any, operators: Any, filters: Any = (), condition: Any = None) -> Any:
    """What becomes of it, checked to be the same when only what was touched is written."""
    wanted = None if condition is None else parse_filter(condition)
    assert not isinstance(wanted, Refusal)
    change = update_of(operators, 0, positions=Positions(array_filters(list(filters)), wanted))
    assert change.pieces is None, "it depends on the document"
    before = [] if document is MISSING else [put_pieces(render(document))]
    edited = change.apply(document)
    if edited.touched:
        assert assembled([*before, written_after(edited.document, edited.touched)]) == edited.document
    return edited.document


GRADES = {"grades": [{"g": 80, "m": 75}, {"g": 85, "m": 100}, {"g": 90, "m": 85}]}


@pytest.mark.parametrize(
    ("document", "operators", "result"),
    [
        ({"a": [1, 2, 3]}, {"$inc": {"a.$[]": 10}}, {"a": [11, 12, 13]}),
        ({"a": []}, {"$inc": {"a.$[]": 10}}, {"a": []}),
        ({"a": [{"b": 1}, {}]}, {"$set": {"a.$[].b": 2}}, {"a": [{"b": 2}, {"b": 2}]}),
        ({"a": [[1, 2], [3]]}, {"$mul": {"a.$[].$[]": 2}}, {"a": [[2, 4], [6]]}),
        (
            {"a": [{"b": [1]}, {"b": [2, 3]}]},
            {"$push": {"a.$[].b": 9}},
            {"a": [{"b": [1, 9]}, {"b": [2, 3, 9]}]},
        ),
        ({"a": [{"b": [1]}, {"b": [2, 3]}]}, {"$max": {"a.1.b.$[]": 3}}, {"a": [{"b": [1]}, {"b": [3, 3]}]}),
        ({"a": [{"b": 1}]}, {"$unset": {"a.$[].b": ""}}, {"a": [{}]}),
    ],
)
def test_every_element(document: Any, operators: Any, result: Any) -> None:
    assert changed(document, operators) == result


@pytest.mark.parametrize(
    ("operators", "filters", "result"),
    [
        ({"$set": {"grades.$[e].m": 100}}, [{"e.g": {"$gte": 85}}], [(80, 75), (85, 100), (90, 100)]),
        ({"$set": {"grades.$[e].m": 1}}, [{"e.g": {"$gte": 85}, "e.m": {"$lt": 90}}],
         [(80, 75), (85, 100), (90, 1)]),
        ({"$set": {"grades.$[e].m": 1}}, [{"$or": [{"e.g": 80}, {"e.m": 85}]}],
         [(80, 1), (85, 100), (90, 1)]),
        ({"$set": {"grades.$[e].m": 1}}, [{"e.g": {"$ne": 85}}], [(80, 1), (85, 100), (90, 1)]),
        ({"$inc": {"grades.$[low].m": 1, "grades.$[high].g": -1}}, [{"low.g": 80}, {"high.g": 90}],
         [(80, 76), (85, 100), (89, 85)]),
        ({"$set": {"grades.$[e].m": 1}}, [{"e.g": 7}], [(80, 75), (85, 100), (90, 85)]),
    ],
)  # fmt: skip
def test_the_elements_that_an_array_filter_describes(operators: Any, filters: Any, result: Any) -> None:
    found = changed({"grades": [dict(one) for one in GRADES["grades"]]}, operators, filters)
    assert [(one["g"], one["m"]) for one in found["grades"]] == result


def test_array_filters_describe_plain_elements_and_those_of_arrays_within() -> None:
    assert changed({"a": [95, 102, 90]}, {"$set": {"a.$[e]": 100}}, [{"e": {"$gte": 100}}]) == {
        "a": [95, 100, 90]
    }
    nested = {"g": [{"t": "quiz", "q": [10, 8]}, {"t": "exam", "q": [10]}]}
    found = changed(nested, {"$inc": {"g.$[t].q.$[s]": 2}}, [{"t.t": "quiz"}, {"s": {"$gte": 9}}])
    assert found == {"g": [{"t": "quiz", "q": [12, 8]}, {"t": "exam", "q": [10]}]}


@pytest.mark.parametrize(
    ("document", "condition", "operators", "result"),
    [
        ({"a": [80, 85, 80]}, {"a": 80}, {"$set": {"a.$": 82}}, {"a": [82, 85, 80]}),
        ({"a": [80, 85]}, {"a": {"$gt": 80}}, {"$inc": {"a.$": 1}}, {"a": [80, 86]}),
        ({"a": [80, 85]}, {"a": {"$in": [85]}, "b": None}, {"$inc": {"a.$": 1}}, {"a": [80, 86]}),
        ({"a": [{"g": 1, "s": 0}, {"g": 2, "s": 0}]}, {"a.g": 2}, {"$set": {"a.$.s": 6}},
         {"a": [{"g": 1, "s": 0}, {"g": 2, "s": 6}]}),
        ({"a": [{"g": 1, "m": 9}, {"g": 2, "m": 9}]}, {"a": {"$elemMatch": {"g": {"$gt": 1}, "m": 9}}},
         {"$set": {"a.$.s": 6}}, {"a": [{"g": 1, "m": 9}, {"g": 2, "m": 9, "s": 6}]}),
        ({"a": [{"g": 1}, {"g": 2}]}, {"$and": [{"a.g": {"$gte": 1}}, {"a.g": {"$gte": 2}}]},
         {"$set": {"a.$.s": 6}}, {"a": [{"g": 1}, {"g": 2, "s": 6}]}),
        ({"a": [1, 2]}, {"$or": [{"a": 2}, {"b": 1}]}, {"$set": {"a.$": 6}}, {"a": [1, 6]}),
        ({"x": {"a": [1, 2]}}, {"x.a": 2}, {"$unset": {"x.a.$": ""}}, {"x": {"a": [1, None]}}),
    ],
)  # fmt: skip
def test_the_element_that_the_filter_found(
    document: Any, condition: Any, operators: Any, result: Any
) -> None:
    assert changed(document, operators, condition=condition) == result


@pytest.mark.parametrize(
    ("operators", "filters", "condition", "why"),
    [
        ({"$set": {"a.$[e]": 1}}, [], None, "there is no array filter 'e'"),
        ({"$set": {"a.$[]": 1}}, [{"e": 1}], None, "the array filter 'e' is not used"),
        ({"$set": {"a.$[e]": 1}}, [{"e": 1, "f": 2}], None, "all its paths begin with one name"),
        ({"$set": {"a.$[e]": 1}}, [{"e": 1}, {"e.x": 2}], None, "there is a filter 'e' before"),
        ({"$set": {"a.$[e]": 1}}, [{"E": 1}], None, "a small letter first"),
        ({"$set": {"a.$[e]": 1}}, [{"e": {"$wat": 1}}], None, "there is no operator $wat"),
        ({"$set": {"a.$[e]": 1}}, [{}], None, "all its paths begin with one name"),
        ({"$set": {"a.$": 1}}, [], None, "$ is the element that the filter of _update found"),
        ({"$set": {"a.$": 1}}, [], {"b": 1}, "$ needs a condition on a in the filter"),
        ({"$set": {"a.$": 1}}, [], {"a": {"$ne": 1}}, "$ needs a condition on a in the filter"),
        ({"$set": {"a.$.b.$": 1}}, [], {"a": 1}, "$ stands once in a path"),
        ({"$set": {"a.$[E]": 1}}, [], None, "elements are $, $[] and $[name]"),
        ({"$set": {"$[]": 1}}, [], None, "elements are $, $[] and $[name], below an array"),
        ({"$rename": {"a.$[]": "b"}}, [], None, "nothing is renamed into one"),
        ({"$rename": {"a": "b.$[]"}}, [], None, "nothing is renamed into one"),
        ({"$set": {"_id": 1}}, [], None, "the id of a document is its key, and stays"),
        ({"$unset": {"_id": 1}}, [], None, "the id of a document is its key, and stays"),
        ({"$rename": {"a": "_id.x"}}, [], None, "the id of a document is its key, and stays"),
    ],
)  # fmt: skip
def test_what_names_no_element_is_refused(operators: Any, filters: Any, condition: Any, why: str) -> None:
    with pytest.raises(EditError) as error:
        changed({"a": [1]}, operators, filters, condition)
    assert error.value.code == "bad_patch"
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("document", "operators", "why"),
    [
        (MISSING, {"$set": {"a.$[]": 1}}, "a is to be an array for $[]: there is nothing"),
        ({"a": 5}, {"$set": {"a.$[]": 1}}, "a is to be an array for $[]: it is of type"),
        ({"a": [{}]}, {"$set": {"a.$[].b.$[]": 1}}, "a.0.b is to be an array"),
        ({"a": [1, 2]}, {"$set": {"a.$[]": 1, "a.1": 2}}, "at or above one another"),
    ],
)
def test_a_document_in_which_it_cannot_be_done_stays(document: Any, operators: Any, why: str) -> None:
    with pytest.raises(EditError) as error:
        changed(document, operators)
    assert error.value.code == "patch_conflict" or "another" in why
    assert why in str(error.value)


def test_many_conditions_on_many_elements_are_refused() -> None:
    many = [{"e": {"$gte": 0}, "$nor": [{"e.x": number} for number in range(990)]}]
    with pytest.raises(EditError, match="too long for this many conditions"):
        changed({"a": [0] * 5000}, {"$set": {"a.$[e]": 1}}, many)
