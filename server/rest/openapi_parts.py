"""The words in which the API's description is written."""

from __future__ import annotations

from typing import Any

from core import limits
from core.consistency import Level
from core.schema import CHANGES
from query.once import ID_BYTES_MAX
from server.rest.problems import PROBLEM_JSON, TITLES

TEXT = {"type": "string"}
BUCKET_NAME = {"type": "string", "pattern": f"^[A-Za-z0-9][A-Za-z0-9_-]{{0,{limits.NAME_CHARS_MAX - 1}}}$"}
"""Of buckets, collections and sinks."""
GROUP_NAME = {"type": "string", "pattern": f"^[A-Za-z0-9][A-Za-z0-9_.-]{{0,{limits.NAME_CHARS_MAX - 1}}}$"}
TAGS = {"type": "string", "pattern": r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*"){0,99})$'}
"""Entity tags, as If-Match and If-None-Match have them."""
IDEMPOTENCY_KEY = {
    "type": "string",
    "anyOf": [
        {"pattern": r'^"[ !#-[\]-~]+"$', "maxLength": ID_BYTES_MAX + 2},
        {"pattern": r"^[!#-+.-[\]-~-]+$", "maxLength": ID_BYTES_MAX},
    ],
}
"""In quotes or without."""
KEYED = ("bad-idempotency-key", "idempotency-key-in-use", "idempotency-key-reused")
"""What a request with an idempotency key may be answered besides."""
SCAN_LEVELS = [each.value for each in Level if each not in (Level.ANY, Level.SERIAL, Level.LOCAL_SERIAL)]
"""Of what reads more than one partition."""
FILLED = {"type": "string", "minLength": 1}
"""Text that may not be empty."""
SETTABLE: dict[str, Any] = {
    "replication_factor": {"type": ["integer", "null"], "minimum": 1, "maximum": 99},
    "default_ttl_s": {"type": ["integer", "null"], "minimum": 0, "maximum": limits.TTL_S_MAX},
    "changes": {"type": ["string", "null"], "enum": [*CHANGES, None]},
    "changes_retention_s": {"type": ["integer", "null"], "minimum": 0, "maximum": limits.CHANGES_KEPT_S_MAX},
    "changes_retention_bytes": {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": limits.CHANGES_KEPT_BYTES_MAX,
    },
}
"""What buckets and collections can be set to alike."""
NEVER_WRITTEN = ("unavailable", "overloaded", "not-ready", "replicas-failed")
UNIQUE_REFUSED = ("unique-violation", "bad-unique-value", "too-many-unique-values", "unique-changed")
"""What a write to a collection with a unique index may be answered besides."""


def parameter(name: str, where: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter; `where` is path, query or header."""
    required = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, "description": description, "schema": schema, **required}


def refs(*names: str) -> list[dict[str, str]]:
    """References to parameters by name."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A body of this type."""
    return {kind: {"schema": schema}}


def answer(description: str, content: dict[str, Any] | None = None, tagged: bool = False) -> dict[str, Any]:
    """An answer; `tagged`: it has an entity tag."""
    found: dict[str, Any] = {"description": description}
    if content is not None:
        found["content"] = content
    if tagged:
        found["headers"] = {"ETag": {"description": "The value's version.", "schema": TEXT}}
    return found


def problems(*kinds: str) -> dict[str, Any]:
    """Answers for these problems, one per status."""
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(TITLES[kind][0], []).append(kind)
    return {
        str(status): answer(", ".join(names), content(PROBLEM_JSON, {"$ref": "#/components/schemas/Problem"}))
        for status, names in sorted(by_status.items())
    }


def options_of(settable: dict[str, Any]) -> dict[str, Any]:
    """A body that says some of these."""
    return {"type": "object", "properties": settable, "additionalProperties": False}


_METHODS = ("get", "head", "put", "post", "patch", "delete")


def completed(paths: dict[str, Any]) -> dict[str, Any]:
    """`paths` with the problems that any request may meet: a malformed path, query, body or session, too long
    a target or headers, a web page of elsewhere (403), a compressed body, a peer that does not serve.
    """
    return {path: _completed_item(path, item) for path, item in paths.items()}


def _completed_item(path: str, item: dict[str, Any]) -> dict[str, Any]:
    found = dict(item)
    for method in _METHODS:
        if method not in item:
            continue
        kinds = ["bad-query", "bad-session", "bad-request", "not-permitted"]
        kinds += ["bad-path", "target-too-long"] if "{" in path else []
        kinds += ["headers-too-large"]
        if "requestBody" in item[method]:
            kinds += ["bad-body", "body-too-large", "content-encoding-not-supported"]
        kinds += KEYED if refs("idempotency_key")[0] in item[method].get("parameters", []) else []
        kinds += ["not-ready", "overloaded"] if path.startswith("/v1/") else []
        responses = _with_problems(item[method]["responses"], kinds, has_body=method != "head")
        found[method] = {**item[method], "responses": responses}
    return found


def _with_problems(responses: dict[str, Any], kinds: list[str], *, has_body: bool) -> dict[str, Any]:
    found = dict(responses)
    for status, told in problems(*kinds).items():
        there = found.get(status)
        if there is None:
            found[status] = told if has_body else {"description": told["description"]}
        elif status != "503" or PROBLEM_JSON in there.get("content", {}):
            named = there["description"].split(", ")
            more = [name for name in told["description"].split(", ") if name not in named]
            found[status] = {**there, "description": ", ".join([*named, *more])}
    return dict(sorted(found.items()))
