"""The part of the API's description that is about many documents at once: questions, changes, indexes."""

from __future__ import annotations

from typing import Any

from core import limits
from documents.finding import LIMIT_DEFAULT, LIMIT_MAX, SKIP_MAX
from documents.indexes import EXPIRE_S_MAX
from query.document_filter import CLAUSES_MAX, PATH_OPERATORS
from query.pipeline_parts import STAGES
from server.rest.documents import JSON
from server.rest.openapi_parts import (
    FILLED,
    NEVER_WRITTEN,
    SCAN_LEVELS,
    TEXT,
    UNIQUE_REFUSED,
    answer,
    content,
    parameter,
    problems,
    refs,
)

ABOUT = f"""
Filters are those of MongoDB's query language: {", ".join(PATH_OPERATORS)}, and `$and`, `$or`, `$nor` of
filters, up to {CLAUSES_MAX} clauses. `_id` is the document's id; `\\.` is a dot within a key. Values compare
within their type, numbers exactly; patterns take linear time. Nothing in a filter is executed. Stages of
aggregations are {", ".join(STAGES)}, `$facet`.

Each range of the ring is served by one replica, after it has seen all that was acknowledged at QUORUM before.
Where no index fits, only so many documents are looked at unless `allow_scan` is given.
"""

_NAME = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]*$",
    "maxLength": limits.INDEX_NAME_CHARS_MAX,
}
_LEVEL = {"type": ["string", "null"], "enum": [*SCAN_LEVELS, None]}
PARAMETERS = {"index": parameter("index", "path", "The index's name.", _NAME)}

_OBJECT = {"type": "object"}
_BOOLEAN = {"type": "boolean", "default": False}
_ASKED = (
    "bad-body",
    "bad-filter",
    "bad-level",
    "bad-query",
    "scan-refused",
    "no-such-collection",
    "index-building",
)
_READ = (*_ASKED, "timeout", *NEVER_WRITTEN)


def _reference(name: str) -> dict[str, Any]:
    return content(JSON, {"$ref": f"#/components/schemas/{name}"})


def _question(name: str, summary: str, body: str, found: dict[str, Any], *kinds: str, **more: str) -> Any:
    """A POST that takes one schema and answers with these members."""
    properties = {**found, "explain": _OBJECT} if "changes" not in more else found
    told = {"type": "object", "properties": properties}
    return {
        "parameters": refs("collection", "scan_consistency", "timeout_ms"),
        "post": {
            "operationId": name,
            "summary": summary,
            **({"description": more["description"]} if "description" in more else {}),
            "requestBody": {"content": _reference(body)},
            "responses": {
                "200": answer("What was found or done.", content(JSON, told)),
                **problems(*_READ, *kinds),
            },
        },
    }


_CHANGES = (
    "Documents are found page by page, and each is then changed on its own, if it still meets the filter: "
    "what others change at the same time is not lost. With a `cursor` in the answer there may be more."
)


_BUILT = (
    "Built while writes go on; until then questions that it would serve wait or fail. A `unique` index keeps "
    "new values from being given to a second document from now on, and its `state` is `built` when what was "
    "there before has been looked at, or `failed` with some `duplicates`. One with `expire_after_s` has "
    "documents deleted so long after the date at its path."
)


def paths() -> dict[str, Any]:
    """What there is, by path."""
    documents = {"type": "array", "items": {"$ref": "#/components/schemas/FoundDocument"}}
    count = {"type": "integer"}
    cursor = {"type": ["string", "null"]}
    one = {"oneOf": [{"$ref": "#/components/schemas/FoundDocument"}, {"type": "null"}]}
    updated = {"matched": count, "modified": count, "cursor": cursor, "upserted": cursor, "document": one}
    base = "/v1/docs/{collection}"
    changed = (
        *("bad-patch", "bad-cursor", "patch-conflict", "document-invalid", "outcome-unknown"),
        *UNIQUE_REFUSED,
    )
    return {
        f"{base}/_find": _question(
            "findDocuments",
            "A page of the documents that meet a filter",
            "Find",
            {"documents": documents, "cursor": cursor},
            *("bad-sort", "bad-projection", "bad-limit", "bad-cursor"),
        ),
        f"{base}/_count": _question(
            "countDocuments", "How many documents meet a filter", "Filtered", {"count": count}
        ),
        f"{base}/_distinct": _question(
            "distinctValues", "The values of a path", "Distinct", {"values": {"type": "array"}}
        ),
        f"{base}/_aggregate": _question(
            "aggregateDocuments", "What a pipeline makes of them", "Aggregate",
            {"documents": {"type": "array"}}, "bad-pipeline",
        ),
        f"{base}/_update": _question(
            "updateDocuments", "Change the documents that meet a filter", "Update",
            updated, *changed,
            description=_CHANGES, changes="yes",
        ),
        f"{base}/_delete": _question(
            "deleteDocuments", "Delete the documents that meet a filter", "Delete",
            {"deleted": count, "cursor": cursor, "document": one}, *changed,
            description=_CHANGES, changes="yes",
        ),
        f"{base}/_indexes": {
            "parameters": refs("collection"),
            "get": {
                "operationId": "listIndexes",
                "summary": "The indexes of a collection",
                "responses": {
                    "200": answer("The indexes.", content(JSON, _OBJECT)),
                    **problems("no-such-collection", "not-ready"),
                },
            },
        },
        f"{base}/_indexes/{{index}}": _index(),
    }  # fmt: skip


def _index() -> dict[str, Any]:
    index = _reference("Index")
    return {
        "parameters": refs("collection", "index"),
        "get": {
            "operationId": "getIndex",
            "summary": "What an index is, and how far it is built",
            "responses": {
                "200": answer("The index.", index),
                **problems("no-such-collection", "no-such-index"),
            },
        },
        "put": {
            "operationId": "putIndex",
            "summary": "Have an index",
            "description": _BUILT,
            "requestBody": {"required": True, "content": _reference("IndexOptions")},
            "responses": {
                "200": answer("It is there.", index),
                "201": answer("It was made.", index),
                **problems(
                    *("bad-index", "bad-body", "no-such-collection", "index-exists"),
                    *("unique-build-failed", "not-ready"),
                ),
            },
        },
        "delete": {
            "operationId": "deleteIndex",
            "summary": "Drop an index",
            "responses": {"204": answer("It is gone."), **problems("no-such-collection", "no-such-index")},
        },
    }


def _body(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


_SORT = {"type": ["object", "array", "null"]}


def _changes(common: dict[str, Any]) -> dict[str, Any]:
    """The bodies of `_update` and `_delete`."""
    named = {"type": "array", "items": _OBJECT, "description": "Which elements `$[name]` means in paths."}
    one = {
        "multi": {"type": "boolean", "default": True, "description": "false: one document at most."},
        "sort": {**_SORT, "description": "With `multi: false`: which one, where several meet the filter."},
    }
    image = {"description": "With `multi: false`: the document that was changed."}
    return {
        "Update": _body(
            ("filter", "update"),
            update={
                "type": ["object", "array"],
                "description": "Operators, a merge patch, a JSON Patch, or stages of a pipeline.",
            },
            upsert={**_BOOLEAN, "description": "Make a document where none meets the filter."},
            array_filters=named,
            arrayFilters=named,
            **{"return": {**image, "enum": ["before", "after"]}},
            **one,
            **common,
        ),
        "Delete": _body(("filter",), **{"return": {**image, "enum": ["before"]}}, **one, **common),
    }


def schemas() -> dict[str, Any]:
    """The shapes of bodies."""
    common: dict[str, Any] = {"level": _LEVEL, "allow_scan": _BOOLEAN}
    asked: dict[str, Any] = {**common, "explain": _BOOLEAN}
    limit = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
    paths_of = {"type": "object", "additionalProperties": {"enum": [1, -1]}}
    expires = {"type": "integer", "minimum": 0, "maximum": EXPIRE_S_MAX}
    index: dict[str, Any] = {
        "paths": {"oneOf": [paths_of, TEXT, {"type": "array", "items": TEXT}]},
        "filter": _OBJECT,
        "unique": _BOOLEAN,
        "expire_after_s": expires,
    }
    cursor = {"type": ["string", "null"], "minLength": 1}
    stage = {"type": "object", "minProperties": 1, "maxProperties": 1}
    duplicates = {"type": "array", "items": {"type": "array", "items": TEXT}}
    return {
        "Find": _body(
            filter=_OBJECT,
            projection={"type": ["object", "array", "null"]},
            sort=_SORT,
            limit=limit,
            skip={"type": "integer", "minimum": 0, "maximum": SKIP_MAX},
            cursor=cursor,
            **asked,
        ),
        "Filtered": _body(filter=_OBJECT, **asked),
        "Distinct": _body(("path",), path=FILLED, filter=_OBJECT, **asked),
        "Aggregate": _body(("pipeline",), pipeline={"type": "array", "items": stage}, **asked),
        **_changes({"filter": _OBJECT, "limit": limit, "cursor": cursor, **common}),
        "FoundDocument": {
            "type": "object",
            "required": ["etag", "document"],
            "properties": {"id": TEXT, "etag": TEXT, "document": {}},
        },
        "IndexOptions": _body(("paths",), **index),
        "Index": {
            "type": "object",
            "properties": {
                "name": TEXT,
                **index,
                "built": {"type": "boolean"},
                "progress": {"type": "number"},
                "state": {"enum": ["building", "built", "failed"]},
                "documents_checked": {"type": "integer"},
                "duplicates": duplicates,
            },
        },
    }
