"""Updates that make a document where none meets their filter: what it is.

It has what the filter says it is equal to, then the update is done to it. The filter's `_id` is its id. Where
filter and update name the same path, or one lies within the other, the update counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import msgspec

from core.json_values import Value
from documents.cells import Path
from documents.edits import EditError, merged
from documents.pipeline_updates import is_pipeline, pipeline_update
from documents.positional import NOWHERE, Positions
from documents.updates import path_of, update_of
from query.document_filter import And, Compare, Filter
from query.document_values import MISSING, path_text

ID: Path = ("_id",)


class Upsert(msgspec.Struct, frozen=True):
    """The id, if the filter says it, and the document; MISSING if there would be none."""

    id: str | None
    document: Value


def split_id(change: Value) -> tuple[Value, Value]:
    """The id that `$setOnInsert` has for a new document (MISSING: none), and the change without it."""
    on_insert = change.get("$setOnInsert") if type(change) is dict else None
    if type(on_insert) is not dict or "_id" not in on_insert:
        return MISSING, change
    rest = {name: value for name, value in on_insert.items() if name != "_id"}
    return on_insert["_id"], {**change, "$setOnInsert": rest}


def upsert_of(
    condition: Filter, change: Value, now_us: int, made_id: Value = MISSING, positions: Positions = NOWHERE
) -> Upsert:
    """What an update (operators, a pipeline, a merge patch) makes, under `made_id` if it is one.

    Raises EditError.
    """
    if type(change) is not dict and not is_pipeline(change):
        detail = "an upsert is made by operators, a pipeline or a merge patch, not by a JSON Patch"
        raise EditError("bad_patch", detail)
    equal: dict[Path, Value] = {}
    for path, value in _equalities(condition):
        if path in equal and equal[path] != value:
            raise EditError("bad_patch", f"the filter wants two values of {path_text(path)[:60]}")
        equal[path] = value
    document_id = equal.pop(ID, None)
    if made_id is not MISSING:
        if document_id is not None and document_id != made_id:
            raise EditError("bad_patch", "the filter and $setOnInsert want two ids of one document")
        document_id = made_id
    if document_id is not None and type(document_id) is not str:
        raise EditError("bad_patch", "an id is text, so this _id cannot be that of a new document")
    if type(change) is not dict:
        base: Value = {}
        if equal:
            base = update_of({"$set": _by_text(equal)}, now_us).apply(MISSING).document
        edit = pipeline_update(change, now_us)
        assert edit.of is not None, "a pipeline is told the id"
        return Upsert(document_id, edit.of(document_id or "").apply(base).document)
    operators = all(name.startswith("$") for name in change) and bool(change)
    changed = [path_of(text, name) for name, paths in change.items() for text in paths] if operators else []
    kept = {path: value for path, value in equal.items() if not any(_meet(path, other) for other in changed)}
    if not operators:
        base = update_of({"$set": _by_text(kept)}, now_us).apply(MISSING).document if kept else {}
        return Upsert(document_id, merged(base, change))
    if kept:
        change = {**change, "$setOnInsert": {**change.get("$setOnInsert", {}), **_by_text(kept)}}
    document = update_of(change, now_us, positions=positions).apply(MISSING).document
    return Upsert(document_id, {} if document is MISSING else document)


def _equalities(condition: Filter) -> Iterator[tuple[Path, Value]]:
    if isinstance(condition, Compare) and condition.operator == "=":
        yield condition.path, condition.value
    elif isinstance(condition, And):
        for each in condition.filters:
            yield from _equalities(each)


def _meet(one: Path, other: Path) -> bool:
    return one[: len(other)] == other or other[: len(one)] == one


def _by_text(paths: dict[Path, Value]) -> dict[str, Value]:
    return {path_text(path): deepcopy(value) for path, value in paths.items()}
