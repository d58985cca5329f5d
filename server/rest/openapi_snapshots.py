"""The part of the API's description that is about backups and restarts."""

from __future__ import annotations

from typing import Any

from server.rest.openapi_parts import TEXT, answer, content, parameter, problems, refs

_JSON = "application/json"
_BYTES = {"type": "string", "format": "binary"}

_NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}

PARAMETERS = {
    "snapshot": parameter("snapshot", "path", "The snapshot's name.", _NAME),
    "file": parameter("file", "path", "A file of its manifest.", TEXT),
}


def paths() -> dict[str, Any]:
    """What there is, by path."""
    one = content(_JSON, {"$ref": "#/components/schemas/Snapshot"})
    every = {"type": "object", "properties": {"snapshots": {"type": "array", "items": one[_JSON]["schema"]}}}
    manifest = content(_JSON, {"$ref": "#/components/schemas/Manifest"})
    name = {"type": "object", "required": ["name"], "properties": {"name": TEXT}}
    starts = {"type": "object", "properties": {"starts": {"type": "integer"}}}
    unknown = problems("no-such-snapshot", "bad-snapshot-name", "not-ready")
    return {
        "/v1/admin/snapshots": {
            "get": {
                "operationId": "snapshots",
                "summary": "This peer's snapshots of its store",
                "responses": {
                    "200": answer("All that are whole.", content(_JSON, every)),
                    **problems("not-ready"),
                },
            },
            "post": {
                "operationId": "takeSnapshot",
                "summary": "Take a snapshot of this peer's store",
                "description": "`sullae snapshot` makes a backup of those of all peers: docs/backup.md.",
                "requestBody": {"content": content(_JSON, name)},
                "responses": {
                    "201": answer("It is taken.", one),
                    **problems("bad-body", "bad-snapshot-name", "snapshot-exists"),
                    **problems("snapshot-failed", "not-ready"),
                },
            },
        },
        "/v1/admin/snapshots/{snapshot}": {
            "parameters": refs("snapshot"),
            "get": {
                "operationId": "snapshot",
                "summary": "What a snapshot consists of",
                "responses": {"200": answer("Its manifest.", manifest), **unknown},
            },
            "delete": {
                "operationId": "deleteSnapshot",
                "summary": "Forget a snapshot",
                "responses": {"204": answer("It is gone."), **unknown},
            },
        },
        "/v1/admin/snapshots/{snapshot}/files/{file}": {
            "parameters": refs("snapshot", "file"),
            "get": {
                "operationId": "snapshotFile",
                "summary": "One file of a snapshot",
                "responses": {
                    "200": answer("Its bytes.", content("application/octet-stream", _BYTES)),
                    **unknown,
                },
            },
        },
        "/v1/admin/restart": {
            "post": {
                "operationId": "restart",
                "summary": "Have this peer stop in order and start again",
                "responses": {
                    "202": answer("It will; `starts` is greater by one then.", content(_JSON, starts)),
                    **problems("not-ready", "cannot-restart"),
                },
            }
        },
    }


def schemas() -> dict[str, Any]:
    """What bodies look like."""
    integer = {"type": "integer"}
    about = {"cluster": TEXT, "cluster_id": TEXT, "peer": TEXT, "peer_id": TEXT, "epoch": integer}
    file = {"type": "object", "properties": {"name": TEXT, "bytes": integer, "hash": TEXT}}
    head = {"name": TEXT, "at_us": {"type": "integer", "description": "Microseconds since 1970."}}
    manifest = {
        "format": integer,
        **head,
        "about": {"type": "object", "properties": about},
        "files": {"type": "array", "items": file, "description": "Hashes are BLAKE2b, 32 bytes."},
    }
    return {
        "Snapshot": {
            "type": "object",
            "properties": {**head, "bytes": integer, "files": integer, **about},
        },
        "Manifest": {"type": "object", "properties": manifest},
    }
