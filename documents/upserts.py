"""Updates that make a document where none meets their filter: what it is.

It has what the filter says it is equal to, then the update is done to it, as MongoDB does. The filter's `_id`
is its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise

import msgspec

from core.json_values import Value
from documents.cells import Path
from documents.edits import EditError, merged
from documents.pipeline_updates import is_pipeline, pipeline_update
from documents.positional import NOWHERE, Positions
from documents.updates import update_of
from query.document_filter import And, Compare, Filter, In, Or
from query.document_values import MISSING, equal as same, path_text

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
        if path in equal and not same(equal[path], value):
            raise EditError("bad_patch", f"the filter wants two values of {path_text(path)[:60]}")
        equal[path] = value
    document_id = equal.pop(ID, None)
    if made_id is not MISSING:
        if document_id is not None and document_id != made_id:
            raise EditError("bad_patch", "the filter and $setOnInsert want two ids of one document")
        document_id = made_id
    if document_id is not None and type(document_id) is not str:
        raise EditError("bad_patch", "an id is text, so this _id cannot be that of a new document")
    base: Value = MISSING
    for above, below in pairwise(sorted(equal)):
        if below[: len(above)] == above:
            detail = f"{path_text(above)[:60]} and of {path_text(below)[:60]}, which is within it"
            raise EditError("bad_patch", f"the filter wants values of {detail}: a new document cannot be so")
    if equal:
        wanted = {path_text(path): deepcopy(value) for path, value in equal.items()}
        base = update_of({"$set": wanted}, now_us).apply(MISSING).document
    if type(change) is not dict:
        edit = pipeline_update(change, now_us)
        assert edit.of is not None, "a pipeline is told the id"
        return Upsert(document_id, edit.of(document_id or "").apply({} if base is MISSING else base).document)
    if not change or not all(name.startswith("$") for name in change):
        return Upsert(document_id, merged(base, change))
    document = update_of(_on_insert(change), now_us, positions=positions).apply(base).document
    return Upsert(document_id, {} if document is MISSING else document)


def _on_insert(change: dict[str, Value]) -> dict[str, Value]:
    """The operators as they are for a new document, of which something is there already."""
    if "$setOnInsert" not in change:
        return change
    rest = {name: paths for name, paths in change.items() if name != "$setOnInsert"}
    return {**rest, "$set": {**change["$setOnInsert"], **change.get("$set", {})}}


def _equalities(condition: Filter) -> Iterator[tuple[Path, Value]]:
    if isinstance(condition, Compare) and condition.operator == "=":
        yield condition.path, condition.value
    elif isinstance(condition, In) and len(condition.values) == 1:
        yield condition.path, condition.values[0]
    elif isinstance(condition, And) or (isinstance(condition, Or) and len(condition.filters) == 1):
        for each in condition.filters:
            yield from _equalities(each)
