"""The part of the API's description that is about documents and collections."""

from __future__ import annotations

from typing import Any

from core import limits
from server.rest import openapi_queries
from server.rest.documents import JSON, JSON_PATCH, MERGE_PATCH, UPDATE
from server.rest.openapi_parts import (
    BUCKET_NAME,
    NEVER_WRITTEN,
    SETTABLE,
    TEXT,
    UNIQUE_REFUSED,
    answer,
    content,
    options_of,
    parameter,
    problems,
    refs,
)

ABOUT = f"""
Documents are JSON, each under an id in a collection, which the first PUT makes. They are rows of the table
`docs.COLLECTION (id text PRIMARY KEY, doc json)`, so CQL and search see the same data. A document has up to
{limits.DOCUMENT_BYTES_MAX} bytes (a collection may allow {limits.VALUE_BYTES_MAX}) and
{limits.DOCUMENT_DEPTH_MAX} levels; numbers keep every digit. An id that begins with `_` is written with
`%5F` in paths.

A merge patch and `$set` do not look at the document: clients that change different fields at once both
succeed, on both sides of a network cut, too. So they cannot keep a document below its collection's limit, but
only below {limits.VALUE_BYTES_MAX} bytes and {limits.DOCUMENT_CELLS_MAX} pieces. What depends on the document
is decided with the write, one after the other. Where the collection has a time to live, or a PATCH gives one,
it renews the whole document. Without one, what is patched lives as long as the document was to.
"""

_ID = {"type": "string", "pattern": "^[^_]", "maxLength": limits.KEY_BYTES_MAX}

PARAMETERS = openapi_queries.PARAMETERS | {
    "collection": parameter(
        "collection", "path", "The collection: 1 to 48 letters, digits, - or _.", BUCKET_NAME
    ),
    "id": parameter("id", "path", "The document's id, percent-encoded.", _ID),
    "document_ttl": parameter(
        "ttl",
        "query",
        "Seconds until the document is gone; 0 for ever; by default the collection's.",
        {"type": "integer", "minimum": 0, "maximum": limits.TTL_S_MAX},
    ),
    "return": parameter(
        "return",
        "query",
        "`document`: answer 200 with what became of it.",
        {"type": "string", "enum": ["nothing", "document"], "default": "nothing"},
    ),
    "documents": parameter(
        "documents", "query", "false: only ids and tags.", {"type": "boolean", "default": True}
    ),
}
_ANY: dict[str, Any] = {}
_DOCUMENT = content(JSON, _ANY)
_COLLECTION = content(JSON, {"$ref": "#/components/schemas/Collection"})
_REFUSED = (
    "not-found",
    "bad-id",
    "bad-document",
    "too-deep",
    "document-invalid",
    "document-too-large",
    "bad-ttl",
    *UNIQUE_REFUSED,
)
_PATCH_REFUSED = ("bad-patch", "bad-body", "no-such-document", "patch-conflict", "too-many-cells")


def _document() -> dict[str, Any]:
    read = {
        "200": answer(
            "The document, in the bytes that were put unless it was patched.", _DOCUMENT, tagged=True
        ),
        "304": answer("The document has the tag given in If-None-Match."),
        **problems(
            "bad-path",
            "no-such-collection",
            "no-such-document",
            "precondition-failed",
            "timeout",
            *NEVER_WRITTEN,
        ),
    }
    conditions = refs("consistency", "only_if_match", "only_if_none_match", "idempotency_key")
    return {
        "parameters": refs("collection", "id", "timeout_ms"),
        "get": {
            "operationId": "getDocument",
            "summary": "A document",
            "parameters": refs("read_consistency", "if_none_match"),
            "responses": read,
        },
        "head": {
            "operationId": "headDocument",
            "summary": "The same without the document",
            "parameters": refs("read_consistency", "if_none_match"),
            "responses": {status: {"description": each["description"]} for status, each in read.items()},
        },
        "put": {
            "operationId": "putDocument",
            "summary": "Have the document be this",
            "parameters": [*refs("document_ttl"), *conditions],
            "requestBody": {"required": True, "content": _DOCUMENT},
            "responses": {
                "204": answer("Done, and durable on as many replicas as asked.", tagged=True),
                **problems(
                    *_REFUSED,
                    "precondition-failed",
                    "unsupported-media-type",
                    "collection-not-created",
                    *NEVER_WRITTEN,
                    "outcome-unknown",
                ),
            },
        },
        "patch": _patch(conditions),
        "delete": {
            "operationId": "deleteDocument",
            "summary": "Have there be no document",
            "description": "That there was none before is no error.",
            "parameters": conditions,
            "responses": {
                "204": answer("Done, and durable on as many replicas as asked."),
                **problems("no-such-collection", "precondition-failed", *NEVER_WRITTEN, "outcome-unknown"),
            },
        },
    }


def _patch(conditions: list[dict[str, str]]) -> dict[str, Any]:
    operators = {"type": "object", "examples": [{"$set": {"a.b": 1}, "$inc": {"views": 1}}]}
    operations = {"type": "array", "items": {"type": "object"}}
    return {
        "operationId": "patchDocument",
        "summary": "Edit the document",
        "description": (
            "As the content type says: a JSON Merge Patch (RFC 7396), a JSON Patch (RFC 6902), or update "
            "operators: `$set`, `$unset`, `$inc`, `$mul`, `$bit`, `$min`, `$max`, `$push` (`$each`, "
            "`$position`, `$slice`, `$sort`), `$addToSet`, `$pull`, `$pullAll`, `$pop`, `$rename`, "
            "`$currentDate`, `$setOnInsert`. In their paths dots separate keys, `\\.` is a dot and a number "
            "names an element of an array. An update may also be an array of stages (`$set`, "
            "`$unset`, `$project`). `application/json` is an update if all names begin with `$`, or if "
            "it is such an array, else a merge patch. A merge patch or an update makes the document if there "
            "is none; with `If-Match: *` it does not. Repeating a merge patch or `$set` is safe; `$inc` or "
            "`$push` are done once, however often they are sent, with an Idempotency-Key."
        ),
        "parameters": [*refs("document_ttl", "return"), *conditions],
        "requestBody": {
            "required": True,
            "content": {
                **content(MERGE_PATCH, _ANY),
                **content(JSON_PATCH, operations),
                **content(UPDATE, operators),
                **content(JSON, {"type": "object"}),
            },
        },
        "responses": {
            "200": answer("What became of it.", _DOCUMENT, tagged=True),
            "204": answer("Done. A tag is told where the document was looked at.", tagged=True),
            **problems(
                *_PATCH_REFUSED,
                *_REFUSED,
                "precondition-failed",
                "unsupported-media-type",
                *NEVER_WRITTEN,
                "outcome-unknown",
            ),
        },
    }


def _collection_of_documents() -> dict[str, Any]:
    return {
        "parameters": refs("collection", "timeout_ms"),
        "get": {
            "operationId": "listDocuments",
            "summary": "The documents of a collection, streamed",
            "description": (
                'In token order. Every line but the last is a document: `{"id", "etag", "document"}`. The '
                'last is `{"cursor": ...}`: null if that was all, else what to give as `after` to go on. A '
                "listing that breaks off ends with a problem that has a cursor."
            ),
            "parameters": refs("after", "limit", "documents", "scan_consistency"),
            "responses": {
                "200": answer("The documents.", content("application/x-ndjson", TEXT)),
                **problems("bad-cursor", "no-such-collection", "timeout", *NEVER_WRITTEN),
            },
        },
        "post": {
            "operationId": "postDocument",
            "summary": "A new document, under an id that is made",
            "parameters": refs("document_ttl", "consistency", "idempotency_key"),
            "requestBody": {"required": True, "content": _DOCUMENT},
            "responses": {
                "201": answer("It is at `Location`.", content(JSON, {"type": "object"}), tagged=True),
                **problems(*_REFUSED, "unsupported-media-type", *NEVER_WRITTEN, "outcome-unknown"),
            },
        },
    }


def _bulk() -> dict[str, Any]:
    lines = content("application/x-ndjson", {"$ref": "#/components/schemas/DocumentLine"})
    return {
        "parameters": refs("collection"),
        "post": {
            "operationId": "bulkDocuments",
            "summary": "Many operations, one outcome per line",
            "description": (
                "Streamed both ways: read outcomes while you send. They come in the order of the lines; "
                "operations on different documents run side by side, those on one one after the other. A put "
                "without an id makes one; a patch has one of `merge`, `patch` and `update`. Lines are read "
                "no faster than they are done, and tried again for `timeout_ms` (30 s) where that is safe: "
                "what is not known then is told as `outcome-unknown`."
            ),
            "parameters": refs("consistency", "document_ttl", "timeout_ms", "idempotency_key"),
            "requestBody": {"content": lines},
            "responses": {
                "200": answer(
                    "Outcomes: id, status and etag, for a get the document, or a problem's members.",
                    content("application/x-ndjson", {"type": "object"}),
                ),
                **problems("bad-query"),
            },
        },
    }


def _collections() -> dict[str, Any]:
    return {
        "/v1/collections": {
            "get": {
                "operationId": "listCollections",
                "summary": "All collections",
                "responses": {
                    "200": answer("The collections.", content(JSON, {"type": "object"})),
                    **problems("not-ready"),
                },
            }
        },
        "/v1/collections/{collection}": {
            "parameters": refs("collection"),
            "get": {
                "operationId": "getCollection",
                "summary": "What a collection is",
                "responses": {
                    "200": answer("The collection.", _COLLECTION),
                    **problems("no-such-collection", "not-ready"),
                },
            },
            "put": {
                "operationId": "putCollection",
                "summary": "Have a collection be so",
                "description": (
                    "What is left out stays as it is. The replication factor of a collection that exists "
                    "cannot change. A `schema` (JSON Schema) is asked of every write from then on; it may "
                    "refer to itself only. A `mapping` says what search does with the documents."
                ),
                "requestBody": {"content": content(JSON, {"$ref": "#/components/schemas/CollectionOptions"})},
                "responses": {
                    "200": answer("It is so.", _COLLECTION),
                    "201": answer("It was made.", _COLLECTION),
                    **problems(
                        "bad-collection-name",
                        "bad-collection",
                        "bad-replication-factor",
                        "bad-ttl",
                        "bad-body",
                        "collection-exists",
                        "not-ready",
                    ),
                },
            },
            "delete": {
                "operationId": "deleteCollection",
                "summary": "Remove a collection and all that it holds",
                "responses": {"204": answer("It is gone."), **problems("no-such-collection", "not-ready")},
            },
        },
    }


def paths() -> dict[str, Any]:
    """What there is, by path."""
    return {
        "/v1/docs/{collection}/{id}": _document(),
        "/v1/docs/{collection}": _collection_of_documents(),
        "/v1/docs/{collection}/_bulk": _bulk(),
        **openapi_queries.paths(),
        **_collections(),
    }


def schemas() -> dict[str, Any]:
    """The shapes of bodies."""
    integer = {"type": "integer"}
    settable = {
        **SETTABLE,
        "max_document_bytes": {"type": "integer", "minimum": 1, "maximum": limits.VALUE_BYTES_MAX},
        "schema": {"type": ["object", "null"]},
        "mapping": {"type": ["object", "null"]},
    }
    return {
        **openapi_queries.schemas(),
        "CollectionOptions": options_of(settable),
        "Collection": {"type": "object", "properties": {"collection": TEXT, "table": TEXT, **settable}},
        "DocumentLine": {
            "type": "object",
            "required": ["op"],
            "additionalProperties": False,
            "properties": {
                "op": {"type": "string", "enum": ["put", "patch", "get", "delete"]},
                "id": TEXT,
                "document": _ANY,
                "merge": _ANY,
                "patch": {"type": "array"},
                "update": {"type": ["object", "array"]},
                "ttl": integer,
                "if_match": TEXT,
                "if_none_match": TEXT,
            },
        },
    }
