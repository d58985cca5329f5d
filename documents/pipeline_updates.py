"""Updates by a pipeline: `[{"$set": {"total": {"$add": ["$a", "$b"]}}}, {"$unset": "tmp"}]`.

Each document is sent through stages that make one document of one: what it becomes is computed of what it is,
so such an update always takes the conditional path. Of members that stay as they were nothing is written.
The id is `_id` to the stages, as to all pipelines, and stays.
"""

from __future__ import annotations

from typing import Any, Final

from core.json_values import Value, render, type_name
from documents.edits import Edit, Edited, EditError
from documents.updates import ID_STAYS
from query.document_values import MISSING
from query.pipeline import Pipeline, parse_pipeline
from query.refusals import Refusal

STAGES: Final = ("$set", "$addFields", "$unset", "$project", "$replaceRoot", "$replaceWith")
ID: Final = "_id"


def is_pipeline(update: Value) -> bool:
    """Whether this is a list of stages; an empty list, or one of operations, is a JSON Patch."""
    return isinstance(update, list) and bool(update) and all(map(_is_stage, update))


def _is_stage(item: Value) -> bool:
    return isinstance(item, dict) and len(item) == 1 and next(iter(item)).startswith("$")


def pipeline_update(stages: list[Value], now_us: int, size: int = 0) -> Edit:
    """The update that stages are; `now_us` is `$$NOW`. Raises EditError, also from its `apply`."""
    for at, stage in enumerate(stages):
        name = next(iter(stage))
        if name not in STAGES:
            detail = f"an update by a pipeline has the stages {', '.join(STAGES)}"
            raise EditError("bad_patch", f"update[{at}]: {name[:60]} cannot stand here: {detail}")
    pipeline = parse_pipeline(stages, "update", now_us)
    if isinstance(pipeline, Refusal):
        raise EditError("bad_patch", pipeline.text)
    parsed = pipeline

    def of(document_id: str) -> Edit:  # "": of a document that is made, under an id that is drawn later
        return Edit(lambda document: _applied(parsed, document, document_id), None, size)

    return Edit(_without_id, None, size, of)


def _without_id(_: Value) -> Edited:
    raise AssertionError("a pipeline is told the id of the document")


def _applied(pipeline: Pipeline, document: Value, document_id: str) -> Edited:
    if document is not MISSING and type(document) is not dict:
        kind = type_name(document)
        raise EditError("patch_conflict", f"a pipeline updates objects; the document is of type {kind}")
    before: Any = {} if document is MISSING else document
    found = pipeline.run([{**before, ID: document_id} if document_id else before], _no_chance)
    if isinstance(found, Refusal):
        raise EditError("patch_conflict", found.text)
    (after,) = found
    if after.get(ID, document_id) != document_id:
        raise EditError("bad_patch", ID_STAYS)
    after = {name: value for name, value in after.items() if name != ID}
    if ID in before:  # a member that happens to be called so; stages saw the id in its place
        after[ID] = before[ID]
    names = dict.fromkeys((*before, *after))
    return Edited(after, [(name,) for name in names if _differs(name, before, after)])


def _differs(name: str, before: dict[str, Value], after: dict[str, Value]) -> bool:
    if name not in before or name not in after:
        return True
    return before[name] is not after[name] and render(before[name]) != render(after[name])


def _no_chance(_: int) -> int:
    raise AssertionError("none of these stages draws")
