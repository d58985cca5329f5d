"""The part of the API's description that is about consumer groups."""

from __future__ import annotations

from typing import Any

from server.rest.openapi_parts import GROUP_NAME, TEXT, answer, content, parameter, problems, refs
from streams.groups import PARTS, PARTS_MAX

_JSON = "application/json"
_INTEGER = {"type": "integer"}

PARAMETERS = {
    "group": parameter("group", "path", "The group's name.", GROUP_NAME),
    "changes_group": parameter("group", "query", "Read as a member of this consumer group.", TEXT),
    "changes_member": parameter("member", "query", "Of a group: who reads.", TEXT),
    "changes_ack": parameter(
        "ack",
        "query",
        "Of a group: auto counts what is taken as acknowledged.",
        {"type": "string", "enum": ["manual", "auto"], "default": "manual"},
    ),
    "changes_session": parameter(
        "session", "query", "Of a group: seconds without a word after which the member is dead.", _INTEGER
    ),
    "changes_parts": parameter("parts", "query", "Of a new group: into how many parts it divides.", _INTEGER),
}
OF_MEMBERS = ("changes_group", "changes_member", "changes_ack", "changes_session", "changes_parts")


def paths() -> dict[str, Any]:
    """What there is, by path."""
    one = content(_JSON, {"$ref": "#/components/schemas/Group"})
    every = {"type": "object", "properties": {"groups": {"type": "array", "items": one[_JSON]["schema"]}}}
    place, found = refs("table", "group"), ("no-such-table", "bad-group", "not-ready", "unavailable")
    path = "/v1/streams/{table}/{group}"
    return {
        "/v1/streams": {
            "get": {
                "operationId": "groups",
                "summary": "All consumer groups",
                "responses": {
                    "200": answer("Without their lag.", content(_JSON, every)),
                    **problems("not-ready"),
                },
            }
        },
        path: {
            "parameters": place,
            "get": {
                "operationId": "group",
                "summary": "A consumer group: its members, parts and lag",
                "responses": {"200": answer("The group.", one), **problems("no-such-group", *found)},
            },
            "put": {
                "operationId": "setGroup",
                "summary": "Make a group, or set one without members to another place",
                "requestBody": {"content": content(_JSON, _body("from", parts=_PARTS))},
                "responses": {
                    "200": answer("The group.", one),
                    **problems("group-busy", "changes-off", "bad-body", "bad-query", *found),
                },
            },
            "delete": {
                "operationId": "forgetGroup",
                "summary": "Forget a group and how far it was",
                "responses": {
                    "204": {"description": "It is forgotten."},
                    **problems("no-such-group", *found),
                },
            },
        },
        f"{path}/ack": _said("acknowledge", "Acknowledge what was read", _body("ack", "cursor"), "200"),
        f"{path}/heartbeat": _said("beat", "Stay a member without acknowledging", _body("session"), "204"),
        f"{path}/leave": _said("leave", "Leave a group", _body("session"), "204"),
    }


_PARTS = {"type": "integer", "minimum": 1, "maximum": PARTS_MAX, "default": PARTS}


def _body(*names: str, **more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {**dict.fromkeys(names, TEXT), **more}}


def _said(operation: str, summary: str, body: dict[str, Any], status: str) -> dict[str, Any]:
    """A POST of a member."""
    found = {"description": "Done."}
    if status == "200":
        numbers = {"type": "array", "items": _INTEGER}
        acknowledged = {"type": "object", "properties": {"acknowledged": numbers, "refused": numbers}}
        found = answer("Which parts are acknowledged, and which others own.", content(_JSON, acknowledged))
    kinds = (
        "group-fenced",
        "bad-body",
        "bad-cursor",
        "bad-group",
        "no-such-table",
        "changes-off",
        "not-ready",
    )
    return {
        "parameters": refs("table", "group"),
        "post": {
            "operationId": operation,
            "summary": summary,
            "requestBody": {"required": True, "content": content(_JSON, body)},
            "responses": {status: found, **problems(*kinds)},
        },
    }


def schemas() -> dict[str, Any]:
    """What a group looks like."""
    lag = {
        "type": ["object", "null"],
        "properties": {
            "events": _INTEGER,
            "bytes": _INTEGER,
            "seconds": {"type": "number"},
            "at_least": {"type": "boolean"},
        },
    }
    numbers = {"type": "array", "items": _INTEGER}
    member = {"type": "object", "properties": {"member": TEXT, "peer": TEXT, "parts": numbers}}
    own = {"part": _INTEGER, "member": TEXT, "cursor": TEXT, "acknowledged_at": {"type": ["string", "null"]}}
    part = {"type": "object", "properties": {**own, "lag": lag}}
    properties = {
        "table": TEXT,
        "group": TEXT,
        "generation": _INTEGER,
        "created": TEXT,
        "members": {"type": "array", "items": member},
        "parts": {"type": "array", "items": part},
        "lag": lag,
    }
    return {"Group": {"type": "object", "properties": properties}}
