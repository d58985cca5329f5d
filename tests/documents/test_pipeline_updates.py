"""Updates by a pipeline: what they make of a document, what they write of it, and what they refuse."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from core.json_values import render
from documents.cells import put_pieces, written_after
from documents.edits import EditError
from documents.pipeline_updates import is_pipeline, pipeline_update
from documents.upserts import upsert_of
from query.document_filter import parse_filter
from query.document_values import MISSING
from query.refusals import Refusal
from tests.documents.cellular import assembled

NOW_US = 1_700_000_000_123_456
NOW = "2023-11-14T22:13:20.123Z"


def after(document: Any, stages: list[Any]) -> Any:
    """What becomes of it, checked to be the same through cells."""
    change = pipeline_update(stages, NOW_US)
    assert change.of is not None
    edited = change.of("d1").apply(document if document is MISSING else deepcopy(document))
    if edited.touched:
        before = [] if document is MISSING else [put_pieces(render(document))]
        assert assembled([*before, written_after(edited.document, edited.touched)]) == edited.document
    return edited.document


@pytest.mark.parametrize(
    ("document", "stages", "result"),
    [
        ({"a": 1, "b": 2}, [{"$set": {"s": {"$add": ["$a", "$b"]}}}, {"$unset": "b"}], {"a": 1, "s": 3}),
        ({"a": 1}, [{"$set": {"at": "$$NOW"}}], {"a": 1, "at": NOW}),
        ({"a": 1}, [{"$addFields": {"a": {"$add": ["$a", 1]}}}, {"$set": {"b": "$a"}}], {"a": 2, "b": 2}),
        ({"a": {"b": 1}, "c": 2}, [{"$replaceWith": "$a"}], {"b": 1}),
        ({"a": {"b": 1}, "c": 2}, [{"$replaceRoot": {"newRoot": {"$mergeObjects": ["$a", {"d": 1}]}}}],
         {"b": 1, "d": 1}),
        ({"a": 1, "b": 2}, [{"$project": {"a": 1}}], {"a": 1}),
        ({"a": 1}, [{"$set": {"who": "$_id"}}], {"a": 1, "who": "d1"}),
        ({"a": 1, "_id": 7}, [{"$set": {"b": "$_id"}}], {"a": 1, "b": "d1", "_id": 7}),
        (MISSING, [{"$set": {"n": {"$add": [{"$ifNull": ["$n", 0]}, 1]}}}], {"n": 1}),
        ({"q": [{"p": 2, "n": 3}]}, [{"$set": {"t": {"$sum": {"$map": {"input": "$q", "in": {
            "$multiply": ["$$this.p", "$$this.n"]}}}}}}], {"q": [{"p": 2, "n": 3}], "t": 6}),
    ],
)  # fmt: skip
def test_what_becomes_of_a_document(document: Any, stages: list[Any], result: Any) -> None:
    assert after(document, stages) == result


def test_what_stays_as_it_is_is_not_written() -> None:
    change = pipeline_update([{"$set": {"a": "$b", "c": 9}}], NOW_US)
    assert change.of is not None and change.pieces is None
    assert change.of("d").apply({"a": 1, "b": 1, "c": 3}).touched == [("c",)]


@pytest.mark.parametrize(
    ("document", "stages", "code", "said"),
    [
        ({}, [{"$match": {"a": 1}}], "bad_patch", "update[0]: $match cannot stand here"),
        ({}, [{"$set": {"a": {"$nope": 1}}}], "bad_patch", "update[0].$set.a.$nope"),
        ({"a": "x"}, [{"$set": {"b": {"$add": ["$a", 1]}}}], "patch_conflict", "a number belongs here"),
        ({}, [{"$set": {"_id": "other"}}], "bad_patch", "the id of a document is its key"),
        ([1], [{"$set": {"a": 1}}], "patch_conflict", "of type array"),
    ],
)
def test_what_is_refused(document: Any, stages: list[Any], code: str, said: str) -> None:
    with pytest.raises(EditError) as error:
        after(document, stages)
    assert error.value.code == code
    assert said in str(error.value)


def test_a_json_patch_is_no_pipeline() -> None:
    assert is_pipeline([{"$set": {}}, {"$unset": "a"}])
    assert not any(map(is_pipeline, ([], [{"op": "add"}], [{"$set": {}, "x": 1}], {"$set": {}}, [1])))


def test_an_upsert_begins_with_what_the_filter_is_equal_to() -> None:
    condition = parse_filter({"a": 5, "_id": "new", "b": {"$gt": 1}})
    assert not isinstance(condition, Refusal)
    made = upsert_of(condition, [{"$set": {"b": {"$add": ["$a", 1]}, "c": "$_id"}}], NOW_US)
    assert (made.id, made.document) == ("new", {"a": 5, "b": 6, "c": "new"})
