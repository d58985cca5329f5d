"""The API in OpenAPI 3.1: what `/openapi.json` serves and `/docs` shows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from core import limits
from core.consistency import Level
from server.rest import (
    openapi_changes,
    openapi_documents,
    openapi_search,
    openapi_sinks,
    openapi_snapshots,
    openapi_streams,
)
from server.rest.openapi_parts import (
    BUCKET_NAME,
    IDEMPOTENCY_KEY,
    NEVER_WRITTEN as _NEVER_WRITTEN,
    SCAN_LEVELS,
    SETTABLE,
    TAGS,
    TEXT as _TEXT,
    answer as _answer,
    completed,
    content as _content,
    options_of,
    parameter as _parameter,
    problems as _problems,
    refs as _refs,
)
from server.rest.problems import TITLES
from server.rest.targets import LIMIT_MAX

_INTRODUCTION = f"""
Keys and values on a cluster of equal peers; any peer answers for all. A bucket is made by the first PUT to
it.

Keys are UTF-8 text of 1 to {limits.KEY_BYTES_MAX} bytes, percent-encoded in the path; slashes may be left as
they are. Values are bytes, up to {limits.VALUE_BYTES_MAX} of them, with their content type.

Errors are problem details (RFC 9457); `type` is a stable word. `outcome-unknown` (504) means that a write may
or may not have happened: repeating it is safe; after a conditional one a GET with `consistency=serial`
settles what it is. Any other error of a write means that nothing was written.

The header `Sullae-Session` makes requests see what those before them did, at any level and through any peer:
`new` in the first, then what the last answer had in this header (of requests at the same time all, with
commas). In a session nothing is done with less than a quorum. The answer to what changed the schema has it
unasked: who sends it on finds at the next peer what was created at this one.
"""


_LEVELS = {"type": "string", "enum": [level.value for level in Level], "default": "quorum"}
_READ_LEVELS = {**_LEVELS, "enum": [level.value for level in Level if level is not Level.ANY]}
_KEY = {"type": "string", "minLength": 1, "maxLength": limits.KEY_BYTES_MAX}

_PARAMETERS = {
    "bucket": _parameter("bucket", "path", "The bucket: 1 to 48 letters, digits, - or _.", BUCKET_NAME),
    "key": _parameter("key", "path", "The key, percent-encoded.", _KEY),
    "verb": _parameter("verb", "path", "status, ring, schema, hints, following or repair.", _TEXT),
    "consistency": _parameter(
        "consistency",
        "query",
        "How many replicas must answer; serial and local_serial are for updates under a condition.",
        _LEVELS,
    ),
    "read_consistency": _parameter("consistency", "query", "How many replicas must answer.", _READ_LEVELS),
    "scan_consistency": _parameter(
        "consistency",
        "query",
        "How many replicas of each range must answer.",
        {**_LEVELS, "enum": SCAN_LEVELS},
    ),
    "timeout_ms": _parameter(
        "timeout_ms",
        "query",
        "How long to wait for them; if not said, as configured: 5 s for a read, 2 s for a write and 1 s more "
        "per MiB of its body.",
        {"type": "integer", "minimum": 1, "maximum": 600_000},
    ),
    "ttl": _parameter(
        "ttl",
        "query",
        "Seconds until the value is gone; 0 for ever; by default the bucket's.",
        {"type": "integer", "minimum": 0, "maximum": limits.TTL_S_MAX},
    ),
    "prefix": _parameter("prefix", "query", "Only keys that begin so.", _TEXT),
    "after": _parameter("after", "query", "The cursor at which an earlier listing ended.", _TEXT),
    "limit": _parameter(
        "limit", "query", "At most so many keys.", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}
    ),
    "if_none_match": _parameter("If-None-Match", "header", "Answer 304 if the value has this tag.", TAGS),
    "only_if_match": _parameter(
        "If-Match", "header", "Only if the key holds a value with one of these tags (*: any value).", TAGS
    ),
    "idempotency_key": _parameter(
        "Idempotency-Key",
        "header",
        "Names this write: tried again under the same key, it is done once and answered as the first time.",
        IDEMPOTENCY_KEY,
    ),
    "only_if_none_match": _parameter(
        "If-None-Match", "header", "Only if it does not (*: only if the key holds nothing).", TAGS
    ),
}


_CONDITIONS = (
    "With a condition, reading and writing are one: all conditional updates and reads at `serial` of a key "
    "have one order that everybody sees. An update without a condition at the same time is outside of it."
)
_UPDATED = ("only_if_match", "only_if_none_match", "idempotency_key")
_BYTES: dict[str, Any] = {"*/*": {}}  # so says OpenAPI 3.1 what is as it is, whatever its type
_JSON_OBJECT = _content("application/json", {"type": "object"})
_BUCKET = _content("application/json", {"$ref": "#/components/schemas/Bucket"})


def _values() -> dict[str, Any]:
    read = {
        "200": _answer("The value, with the content type it was put with.", _BYTES, tagged=True),
        "304": _answer("The value has the tag given in If-None-Match."),
        **_problems(
            "bad-path", "no-such-bucket", "no-such-key", "precondition-failed", "timeout", *_NEVER_WRITTEN
        ),
    }
    updated = {"204": _answer("Done, and durable on as many replicas as asked.", tagged=True)}
    return {
        "parameters": _refs("bucket", "key", "timeout_ms"),
        "get": {
            "operationId": "getValue",
            "summary": "What a key holds",
            "parameters": _refs("read_consistency", "if_none_match"),
            "responses": read,
        },
        "head": {
            "operationId": "headValue",
            "summary": "The same without the value",
            "parameters": _refs("read_consistency", "if_none_match"),
            "responses": {status: {"description": a["description"]} for status, a in read.items()},
        },
        "put": {
            "operationId": "putValue",
            "summary": "Have a key hold these bytes",
            "description": _CONDITIONS,
            "parameters": _refs("consistency", "ttl", *_UPDATED),
            "requestBody": {"required": True, "content": _BYTES},
            "responses": {
                **updated,
                **_problems(
                    "bad-key",
                    "bad-ttl",
                    "precondition-failed",
                    "value-too-large",
                    "conditional-not-supported",
                    "bucket-not-created",
                    *_NEVER_WRITTEN,
                    "outcome-unknown",
                ),
            },
        },
        "delete": {
            "operationId": "deleteValue",
            "summary": "Have a key hold nothing",
            "description": f"That it held nothing before is no error. {_CONDITIONS}",
            "parameters": _refs("consistency", *_UPDATED),
            "responses": {
                **updated,
                **_problems(
                    "bad-path",
                    "no-such-bucket",
                    "precondition-failed",
                    "conditional-not-supported",
                    *_NEVER_WRITTEN,
                    "outcome-unknown",
                ),
            },
        },
    }


def _listing() -> dict[str, Any]:
    return {
        "parameters": _refs("bucket"),
        "get": {
            "operationId": "listKeys",
            "summary": "The keys of a bucket, streamed",
            "description": (
                "In token order, or in key order for an ordered bucket. Every line but the last is a key: "
                '`{"key", "bytes", "content_type", "etag"}`. The last is `{"cursor": ...}`: null if that was '
                "all, else what to give as `after` to go on. A listing that breaks off ends with a problem "
                "that has a cursor."
            ),
            "parameters": _refs("prefix", "after", "limit", "scan_consistency", "timeout_ms"),
            "responses": {
                "200": _answer("The keys.", _content("application/x-ndjson", _TEXT)),
                **_problems("bad-cursor", "no-such-bucket", "timeout", *_NEVER_WRITTEN),
            },
        },
    }


def _bulk() -> dict[str, Any]:
    lines = _content("application/x-ndjson", {"$ref": "#/components/schemas/BulkLine"})
    return {
        "parameters": _refs("bucket"),
        "post": {
            "operationId": "bulk",
            "summary": "Many operations, one outcome per line",
            "description": (
                "Streamed both ways: read outcomes while you send. They come in the order of the lines; "
                "operations on different keys run side by side, those on one key one after the other. "
                "A put has one of `value` (text), `json` (any JSON) and `base64` (bytes). Lines are read no "
                "faster than they are done, and tried again for `timeout_ms` (30 s) where that does no harm: "
                "what is not known then is told as `outcome-unknown`."
            ),
            "parameters": _refs("consistency", "ttl", "timeout_ms", "idempotency_key"),
            "requestBody": {"content": lines},
            "responses": {
                "200": _answer(
                    "Outcomes: key, status and etag, for a get the value, or a problem's members.",
                    _content("application/x-ndjson", {"type": "object"}),
                ),
                **_problems("bad-query"),
            },
        },
    }


def _cql() -> dict[str, Any]:
    body = _content("application/json", {"$ref": "#/components/schemas/Cql"})
    return {
        "post": {
            "operationId": "cql",
            "summary": "A statement of CQL",
            "description": (
                "Parameters are typed by the statement's markers: a list for `?`, an object for `:name`. "
                "Values are what SELECT JSON and INSERT JSON have: numbers with every digit, blobs as 0x..., "
                "json columns as JSON. Where there are more rows, `page_state` goes into the next request."
            ),
            "parameters": _refs("idempotency_key"),
            "requestBody": {"required": True, "content": body},
            "responses": {
                "200": _answer(
                    "The result; a conditional update says whether it was `applied`.",
                    _content("application/json", {"$ref": "#/components/schemas/CqlResult"}),
                ),
                **_problems(
                    "bad-body",
                    "cql-syntax",
                    "cql-invalid",
                    "bad-level",
                    "bad-cursor",
                    "not-permitted",
                    "already-exists",
                    "body-too-large",
                    "timeout",
                    "outcome-unknown",
                    *_NEVER_WRITTEN,
                ),
            },
        }
    }


def _cql_schemas() -> dict[str, Any]:
    integer = {"type": "integer"}
    column = {"type": "object", "properties": {"name": _TEXT, "type": _TEXT}}
    return {
        "Cql": {
            "type": "object",
            "required": ["query"],
            "additionalProperties": False,
            "properties": {
                "query": _TEXT,
                "parameters": {"oneOf": [{"type": "array"}, {"type": "object"}]},
                "keyspace": _TEXT,
                "consistency": _LEVELS,
                "serial_consistency": {"type": "string", "enum": ["serial", "local_serial"]},
                "page_size": {**integer, "minimum": 1, "maximum": 10_000, "default": 1_000},
                "page_state": _TEXT,
                "timestamp": {**integer, "description": "Microseconds; by default the cluster's own."},
            },
        },
        "CqlResult": {
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": column},
                "rows": {"type": "array", "items": {"type": "object"}},
                "page_state": {"type": ["string", "null"]},
                "applied": {"type": "boolean"},
                "warnings": {"type": "array", "items": _TEXT},
                "schema": {"type": "object", "description": "What of the schema was changed."},
            },
        },
    }


def _buckets() -> dict[str, Any]:
    return {
        "/v1/buckets": {
            "get": {
                "operationId": "listBuckets",
                "summary": "All buckets",
                "responses": {"200": _answer("The buckets.", _JSON_OBJECT), **_problems("not-ready")},
            }
        },
        "/v1/buckets/{bucket}": {
            "parameters": _refs("bucket"),
            "get": {
                "operationId": "getBucket",
                "summary": "What a bucket is",
                "responses": {
                    "200": _answer("The bucket.", _BUCKET),
                    **_problems("no-such-bucket", "not-ready"),
                },
            },
            "put": {
                "operationId": "putBucket",
                "summary": "Have a bucket be so",
                "description": (
                    "What is left out stays as it is. Of a bucket that exists the default TTL (of later "
                    "writes) and what is kept of its changes can be set otherwise, the rest cannot."
                ),
                "requestBody": {
                    "content": _content("application/json", {"$ref": "#/components/schemas/BucketOptions"})
                },
                "responses": {
                    "200": _answer("It is so.", _BUCKET),
                    "201": _answer("It was made.", _BUCKET),
                    **_problems(
                        "bad-bucket-name", "bad-replication-factor", "bad-body", "bucket-exists", "not-ready"
                    ),
                },
            },
            "delete": {
                "operationId": "deleteBucket",
                "summary": "Remove a bucket and all that it holds",
                "responses": {"204": _answer("It is gone."), **_problems("no-such-bucket", "not-ready")},
            },
        },
    }


def _operations() -> dict[str, Any]:
    def page(name: str, summary: str, kind: str, **more: Any) -> dict[str, Any]:
        schema = {"type": "object"} if kind == "application/json" else _TEXT
        responses = {"200": _answer(summary, _content(kind, schema)), **more}
        return {"get": {"operationId": name, "summary": summary, "responses": responses}}

    not_ready = {"503": _answer("It lives, but does not serve; `why_not` says why.", _JSON_OBJECT)}
    told = {"200": _answer("What the verb says.", _JSON_OBJECT), **_problems("no-such-verb", "bad-argument")}
    return {
        "/v1/health": page("health", "Whether this peer lives and serves", "application/json", **not_ready),
        "/v1/cluster": page("cluster", "All peers, as this one sees them", "application/json"),
        "/metrics": page("metrics", "Numbers for Prometheus", "text/plain"),
        "/openapi.json": page("openapi", "This description", "application/json"),
        "/docs": page("docs", "The same for people", "text/html"),
        "/v1/admin/{verb}": {
            "parameters": _refs("verb"),
            "get": {"operationId": "admin", "summary": "What an operator asks", "responses": told},
            "post": {
                "operationId": "adminWithArguments",
                "summary": "The same with arguments",
                "requestBody": {"content": _JSON_OBJECT},
                "responses": told,
            },
        },
    }


def _schemas() -> dict[str, Any]:
    integer, boolean = {"type": "integer"}, {"type": "boolean"}
    settable = {**SETTABLE, "ordered": boolean}
    return {
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string", "enum": list(TITLES)},
                "title": _TEXT,
                "status": integer,
                "detail": _TEXT,
            },
        },
        "BucketOptions": options_of(settable),
        "Bucket": {"type": "object", "properties": {"bucket": _TEXT, "table": _TEXT, **settable}},
        "BulkLine": {
            "type": "object",
            "required": ["op", "key"],
            "additionalProperties": False,
            "properties": {
                "op": {"type": "string", "enum": ["put", "get", "delete"]},
                "key": _TEXT,
                "value": _TEXT,
                "json": {},
                "base64": {"type": "string", "contentEncoding": "base64"},
                "content_type": _TEXT,
                "ttl": integer,
            },
        },
        **_cql_schemas(),
    }


@lru_cache(1)
def document() -> dict[str, Any]:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sullae",
            "version": "1",
            "description": "\n\n".join(
                text.strip()
                for text in (
                    _INTRODUCTION,
                    openapi_documents.ABOUT,
                    openapi_search.ABOUT,
                    openapi_changes.ABOUT,
                )
            ),
        },
        "paths": completed(
            {
                "/v1/kv/{bucket}/{key}": _values(),
                "/v1/kv/{bucket}": _listing(),
                "/v1/kv/{bucket}/_bulk": _bulk(),
                "/v1/cql": _cql(),
                **openapi_documents.paths(),
                **openapi_search.paths(),
                **openapi_changes.paths(),
                **openapi_sinks.paths(),
                **openapi_streams.paths(),
                **openapi_snapshots.paths(),
                **_buckets(),
                **_operations(),
            }
        ),
        "components": {
            "parameters": _PARAMETERS
            | openapi_documents.PARAMETERS
            | openapi_search.PARAMETERS
            | openapi_changes.PARAMETERS
            | openapi_sinks.PARAMETERS
            | openapi_streams.PARAMETERS
            | openapi_snapshots.PARAMETERS,
            "schemas": _schemas()
            | openapi_documents.schemas()
            | openapi_search.schemas()
            | openapi_changes.schemas()
            | openapi_sinks.schemas()
            | openapi_streams.schemas()
            | openapi_snapshots.schemas(),
        },
        "x-problems": TITLES,
    }
