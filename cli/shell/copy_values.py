"""Values on their way between files and the wire: as text of CSV, as JSON, as literals within collections."""

from __future__ import annotations

from cli.shell import formatting
from cli.shell.formatting import text_of
from cql_lite import types
from cql_lite.parse_schema import SchemaParser
from cql_lite.types_scalar import json_string

__all__ = ["from_json", "from_text", "json_of", "text_of"]


def from_text(of: types.Type, text: str) -> bytes:
    """The wire value of what CSV says; raises RequestError or ValueError if it is none of the type.

    The reverse of `text_of`: text is as it stands, a collection a literal.
    """
    if isinstance(of, types.Text | types.Json):
        return of.encode(of.parse(text))
    if isinstance(of, types.Scalar):
        return of.encode(of.parse(text.strip()))
    parser = SchemaParser(text)
    literal = parser.value()
    parser.end("")
    data = of.from_literal(literal)
    if data is None:
        raise ValueError("null within a field: leave the field empty")
    return data


def json_of(of: types.Type, data: bytes | None) -> str:
    """A value in JSON that `from_json` reads.

    NaN and infinity are null in JSON as CQL has it; here they are text, or they would not come back. Within
    collections there is no help: such a row is a reject when it is read.
    """
    text = formatting.json_of(of, data)
    if text == "null" and data is not None and isinstance(of, types.Float):
        return json_string(text_of(of, data))
    return text


def from_json(of: types.Type, text: bytes) -> bytes | None:
    """The wire value of a JSON member, None for null; raises RequestError if it is none of the type."""
    return of.from_json(text)
