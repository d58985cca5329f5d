"""JSON Schemas: what is said of a document, and which schemas are refused before they can hurt."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from documents.schemas import document_problem, schema_problem


def text(schema: Any) -> bytes:
    return json.dumps(schema).encode()


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "required": ["value"],
            "properties": {
                "value": {"type": "integer"},
                "left": {"$ref": "#/$defs/node"},
                "right": {"$ref": "#/$defs/node"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "document", "says"),
    [
        ({"type": "object"}, {}, None),
        ({"type": "object"}, [], "the document: [] is not of type"),
        ({"properties": {"a": {"maximum": 10}}}, {"a": Decimal("10.00000000000000000000000001")}, "/a: "),
        ({"properties": {"a": {"maximum": 10}}}, {"a": 10**30}, "/a: "),
        ({"items": {"type": "integer"}}, [1, 10**30, 2.5], "/2: "),
        ({"pattern": "^(a+)+$"}, "a" * 10_000 + "b", "does not match"),
        (TREE, {"value": 1, "left": {"value": 2, "children": [{"value": 3}]}}, None),
        (TREE, {"value": 1, "left": {"value": 2, "children": [{"value": "x"}]}}, "/left/children/0/value"),
        (
            {"properties": {"a": {"type": "integer"}}, "additionalProperties": {"$ref": "#"}},
            {"b": {"a": ""}},
            "/b/a",
        ),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}, 1, "the document"),
        ({"$defs": {"a b/c": {"type": "string"}}, "$ref": "#/$defs/a%20b~1c"}, 1, "the document"),
        (True, 5, None),
        (False, 5, "the document"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_document_is_said_with_its_place(
    schema: Any, document: Any, says: str | None
) -> None:
    assert schema_problem(text(schema)) is None
    found = document_problem(text(schema), document)
    assert (found is None) == (says is None)
    assert says is None or (found is not None and says in found and len(found) < 700)


def doubling(word: str, count: int) -> Any:
    """Definitions of which each names the one before twice."""
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for n in range(1, count):
        defs[f"d{n}"] = {word: [{"$ref": f"#/$defs/d{n - 1}"}] * 2}
    return {"$defs": defs, "$ref": f"#/$defs/d{count - 1}"}


def doubling_below(count: int) -> Any:
    """The same with a step down each time."""
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for n in range(1, count):
        defs[f"d{n}"] = {"properties": {"a": {"anyOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2}}}
    return {"$defs": defs, "$ref": f"#/$defs/d{count - 1}"}


BACK = {"$ref": "#/$defs/n"}
TWICE = {"properties": {"a": BACK}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "http://127.0.0.1:1/x.json"}, "leads to a part of the schema"),
        ({"$ref": "file:///etc/hostname"}, "leads to a part of the schema"),
        ({"properties": {"a": {"$id": "http://x/", "$ref": "y"}}}, "$id"),
        ({"properties": {"a": {"$ref": "other"}}}, "leads to a part of the schema"),
        ({"$ref": "#/$defs/nope"}, "has no #/$defs/nope"),
        ({"$dynamicRef": "#x"}, "not supported"),
        ({"allOf": [{"$ref": "#"}]}, "more than 1000 times"),
        ({"type": "nope"}, "not valid"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "(?=a)b"}, "regex"),
        (doubling("anyOf", 40), "more than 1000 times"),
        (doubling("allOf", 40), "more than 1000 times"),
        (doubling_below(40), "more than 1000 times"),
        ({"$defs": {"n": {"anyOf": [TWICE, TWICE]}}, **BACK}, "twice"),
        ({"$defs": {"n": {"items": BACK, "contains": BACK}}, **BACK}, "twice"),
        ({"$defs": {"n": {"patternProperties": {"a": BACK, "b": BACK}}}, **BACK}, "twice"),
        ({"$defs": {"n": {"properties": {"a": {"allOf": [BACK, {"not": BACK}]}}}}, **BACK}, "more|twice"),
        ({"$schema": "http://nowhere.example/schema"}, "nowhere"),
    ],
)
def test_a_schema_that_cannot_be_used_or_could_look_for_ever_is_refused(schema: Any, says: str) -> None:
    found = schema_problem(text(schema))
    assert found is not None
    assert any(part in found for part in says.split("|")), found
    assert len(found) < 400


def test_a_schema_of_many_parts_is_looked_at_in_no_time() -> None:
    wide = {
        "properties": {f"p{n}": {"$ref": "#/$defs/x"} for n in range(500)},
        "$defs": {"x": {"type": "string"}},
    }
    assert schema_problem(text(wide)) is None
    chain: Any = {
        "$defs": {f"d{n}": {"properties": {"a": {"$ref": f"#/$defs/d{n + 1}"}}} for n in range(300)}
    }
    chain["$defs"]["d300"] = {}
    assert schema_problem(text({**chain, "$ref": "#/$defs/d0"})) is None
