"""The part of the API's description that is about change streams."""

from __future__ import annotations

from typing import Any

from server.rest import openapi_streams
from server.rest.changes_wanted import NDJSON, OPERATIONS, SSE
from server.rest.openapi_parts import TEXT, answer, content, parameter, problems, refs
from streams.formats import FORMS

ABOUT = """
A table, bucket or collection whose `changes` is not none tells what happens to it: `GET
/v1/changes/docs.movies` streams one JSON object per line, each with a `type`:

- `event`: `id` (the same at every repetition), `table`, `op` (insert, update, delete, expire, truncate),
  `key`, `changed`, `before` and `after` where `changes` asks for them, `timestamp_us` (of the write's
  version), `time`, `epoch` (of the schema) and `cursor` (of its range). A member that is only there when it
  is true:
  `late` (the row held something newer already), `superseded` (it changed nothing), `restart` (see below).
  `scope` is there if it is not about one row: static, range, partition, table.
- `heartbeat`: at least once a second, with the whole `cursor`: all that was sent before it.
- `restart`: in these `ranges` of tokens the next image of a key need not continue its last, and events may
  come again: another replica is followed, or a row was repaired.
- `gap`: in these `ranges` something may be missing for good: read them again. The stream goes on.
- `error`: the last line: `problem` (the type of a problem), `title`, `status` and `detail`. Go on from the
  last whole cursor, at any peer.

Every write that was acknowledged at QUORUM is delivered at least once under one id. Who counts drops ids
that it has seen; who keeps images applies every event, repeated ones too, and ends with what the rows are.
A key's events come in the order in which one replica took them in.

With `from=snapshot` all rows come first, as events with the `op` read, and then what happened since the
snapshot began: whoever applies the images in this order ends with what the rows are. Its heartbeats have
cursors, too, which go on in the middle of it. A WebSocket (by upgrading) gets each line as a message.

With `group` the answer is the membership in a consumer group: the line `assigned` tells which parts are read
from here on, and heartbeats have an `ack` to give back to `/v1/streams/{table}/{group}/ack`.

What runs out by its time to live is an `expire`, a second or two later, with what was there before; `after`
is what is left of the row. Rows that were written before the table kept changes run out in silence.

To resume, give the `cursor` of the last heartbeat as `from`, followed by a comma and the cursors of later
events if they matter. Server-sent events carry it as their `id`, so a browser resumes by itself.
"""

_TABLE = {"type": "string", "pattern": r"^[^.]+\.[^.]+$"}

PARAMETERS = {
    "table": parameter("table", "path", "The table as keyspace.table: docs.movies, kv.sessions.", _TABLE),
    "changes_from": parameter(
        "from",
        "query",
        "now, start (as far as logs reach), snapshot, a cursor (or several), a time (RFC 3339), or 10m.",
        {"type": "string", "default": "now"},
    ),
    "changes_format": parameter(
        "format", "query", "Instead of Accept.", {"type": "string", "enum": ["ndjson", "sse"]}
    ),
    "changes_envelope": parameter(
        "envelope",
        "query",
        "The form of events.",
        {"type": "string", "enum": list(FORMS), "default": "plain"},
    ),
    "changes_key": parameter("key", "query", "Only events of this key or id.", TEXT),
    "changes_prefix": parameter("prefix", "query", "Only of keys or ids that begin so.", TEXT),
    "changes_op": parameter(
        "op", "query", f"Only these operations, with commas between them: {', '.join(OPERATIONS)}.", TEXT
    ),
    "changes_filter": parameter(
        "filter",
        "query",
        "A filter on documents as JSON: only events whose image after (of a deletion: before) matches.",
        TEXT,
    ),
    "changes_part": parameter(
        "part", "query", "One of so many equal parts of the ring, as 2/3: readers share a table so.", TEXT
    ),
    "changes_limit": parameter(
        "limit", "query", "End after so many events.", {"type": "integer", "minimum": 1}
    ),
}


def paths() -> dict[str, Any]:
    """What there is, by path."""
    line = {"$ref": "#/components/schemas/ChangeLine"}
    found = {**content(NDJSON, line), **content(SSE, TEXT)}
    names = [name for name in PARAMETERS if name != "table"]
    refused = (
        "no-such-table",
        "changes-off",
        "bad-query",
        "bad-cursor",
        "bad-filter",
        "bad-limit",
        "bad-group",
    )
    return {
        "/v1/changes/{table}": {
            "parameters": refs("table"),
            "get": {
                "operationId": "changes",
                "summary": "What happens to a table, as it happens",
                "description": "Never ends by itself, unless there is a limit. Read slowly, it waits.",
                "parameters": refs(*names, *openapi_streams.OF_MEMBERS),
                "responses": {
                    "200": answer("Events and heartbeats, one JSON object per line.", found),
                    **problems(*refused, "overloaded", "not-ready"),
                },
            },
        }
    }


def schemas() -> dict[str, Any]:
    """What lines look like."""
    boolean, integer = {"type": "boolean"}, {"type": "integer"}
    return {
        "ChangeLine": {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {
                    "type": "string",
                    "enum": ["event", "heartbeat", "restart", "gap", "assigned", "error"],
                },
                "id": TEXT,
                "table": TEXT,
                "op": {"type": "string", "enum": list(OPERATIONS)},
                "scope": {"type": "string", "enum": ["row", "static", "range", "partition", "table"]},
                "key": {},
                "changed": {"type": "array", "items": TEXT},
                "before": {},
                "after": {},
                "timestamp_us": integer,
                "time": TEXT,
                "epoch": integer,
                "late": boolean,
                "superseded": boolean,
                "restart": boolean,
                "cursor": TEXT,
                "ack": TEXT,
                "group": TEXT,
                "member": TEXT,
                "session": TEXT,
                "generation": integer,
                "of": integer,
                "parts": {"type": "array", "items": integer},
                "ranges": {"type": "array", "items": {"type": "array", "items": integer}},
                "unserved": {"type": "array", "items": {"type": "array", "items": integer}},
                "why": TEXT,
                "problem": TEXT,
                "title": TEXT,
                "status": integer,
                "detail": TEXT,
            },
        }
    }
