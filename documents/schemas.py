"""JSON Schema: whether a document is what its collection asks for.

The one file that knows the library (jsonschema-rs). References lead into the schema itself or nowhere:
nothing is ever fetched. Patterns are matched in linear time, and what a schema may cost is bounded
(documents/schema_cost.py).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from core.json_values import JsonError, Value, checked, parse
from documents import schema_cost

DETAIL_CHARS_MAX: Final = 300
PATTERN_BYTES_MAX: Final = 1 << 20
"""What a compiled pattern may take."""


def schema_problem(schema: bytes) -> str | None:
    """Why this text is no JSON Schema that can be used, or None."""
    try:
        schema_cost.check(checked(schema))
        _validator(schema)
    except JsonError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return _first_line(error)
    return None


def document_problem(schema: bytes, document: Value) -> str | None:
    """What of the document is not as the schema asks, with its place, or None."""
    error = next(_validator(schema).iter_errors(document), None)
    if error is None:
        return None
    place = "".join(f"/{step}" for step in error.instance_path)
    return f"{place[:DETAIL_CHARS_MAX] or 'the document'}: {_short(error.message)}"


def _short(text: str) -> str:
    """The value that is wrong stands first, what is wrong with it last."""
    if len(text) <= DETAIL_CHARS_MAX:
        return text
    return f"{text[: DETAIL_CHARS_MAX // 2]}...{text[-DETAIL_CHARS_MAX // 2 :]}"


@lru_cache(64)
def _validator(schema: bytes) -> Any:
    """The validator of a schema's text; raises ValueError."""
    import jsonschema_rs

    patterns = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX)
    return jsonschema_rs.validator_for(
        parse(schema), retriever=_refuse, pattern_options=patterns, validate_formats=True
    )


def _refuse(uri: str) -> Any:
    raise ValueError(f"a schema may refer to itself only (#/...), not to {uri[:100]}")


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:DETAIL_CHARS_MAX]
