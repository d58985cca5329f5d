"""The words in which the API's description is written."""

from __future__ import annotations

from typing import Any

from server.rest.problems import PROBLEM_JSON, TITLES

TEXT = {"type": "string"}
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
