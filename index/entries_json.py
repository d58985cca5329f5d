"""Terms of values in documents, and the conditions of partial indexes.

A value is a tag for its type and an order-preserving form, so that values of one type lie together and
numbers compare by their exact value, whatever their size and however they are written (1, 1.0, 10e-1):

    10 null   20 false   21 true   30 number   40 text   50 an object   60 an empty array

An array gives a term for each of its elements (as lookups in document stores expect) and paths lead through
arrays into the objects in them. Of an object there is only a term that says that it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from core.cell import Cell
from core.json_cells import assemble
from index.instants import parse_instant
from lsm.keys import escaped

NULL, FALSE, TRUE, NUMBER, TEXT, OBJECT, NOTHING = (
    b"\x10",
    b"\x20",
    b"\x21",
    b"\x30",
    b"\x40",
    b"\x50",
    b"\x60",
)
_NEGATIVE, _ZERO, _POSITIVE = b"\x00", b"\x01", b"\x02"
_EXPONENT_BIAS: Final = 2**63
_EXPONENT_MAX: Final = 2**62
_FLIP = bytes(255 - byte for byte in range(256))


def json_terms(path: tuple[str, ...], cells: Iterable[Cell]) -> list[bytes]:
    """The terms of the values at a path of the document that these cells make."""
    found: list[bytes] = []
    for value in _values(path, cells):
        if isinstance(value, list):
            found += [value_term(item) for item in value] or [NOTHING]
        else:
            found.append(value_term(value))
    return list(dict.fromkeys(found))


def date_terms(path: tuple[str, ...], cells: Iterable[Cell]) -> list[bytes]:
    """The earliest date among the values at a path, as the term of its microseconds since 1970; or none."""
    dates: list[int] = []
    for value in _values(path, cells):
        for item in value if isinstance(value, list) else (value,):
            instant = parse_instant(item) if isinstance(item, str) else None
            if instant is not None:
                dates.append(instant)
    return [value_term(min(dates))] if dates else []


def _values(path: tuple[str, ...], cells: Iterable[Cell]) -> Iterable[Any]:
    text = assemble(cells)
    if text is None:
        return ()
    try:
        return _at(json.loads(text, parse_float=Decimal), path)
    except (ValueError, RecursionError):
        return ()


def _at(value: Any, path: Sequence[str]) -> Iterable[Any]:
    """The values at a path, through arrays."""
    if not path:
        yield value
    elif isinstance(value, dict):
        if path[0] in value:
            yield from _at(value[path[0]], path[1:])
    elif isinstance(value, list):
        if path[0].isdecimal() and int(path[0]) < len(value):
            yield from _at(value[int(path[0])], path[1:])
        for item in value:
            if isinstance(item, dict):
                yield from _at(item, path)


def value_term(value: Any) -> bytes:
    """The term of a JSON value, numbers being int or Decimal."""
    if value is None:
        return NULL
    if value is True or value is False:
        return TRUE if value else FALSE
    if isinstance(value, str):
        return TEXT + escaped(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (int, float, Decimal)):
        return NUMBER + _number(Decimal(value))
    return OBJECT if isinstance(value, dict) else NOTHING


def _number(value: Decimal) -> bytes:
    """Sign, exponent of the first digit, two digits a byte (plus one), and a zero byte; as the order is."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise InvalidOperation("JSON has finite numbers only")
    text = "".join(map(str, digits)).strip("0") if any(digits) else ""
    if not text:
        return _ZERO
    leading = len("".join(map(str, digits)).lstrip("0"))
    adjusted = max(-_EXPONENT_MAX, min(_EXPONENT_MAX, exponent + leading)) + _EXPONENT_BIAS
    text += "0" * (len(text) % 2)
    pairs = bytes(int(text[at : at + 2]) + 1 for at in range(0, len(text), 2))
    body = adjusted.to_bytes(8, "big") + pairs + b"\x00"
    return _NEGATIVE + body.translate(_FLIP) if sign else _POSITIVE + body


def parsed(text: str) -> Any:
    """A JSON value with exact numbers; raises ValueError."""
    return json.loads(text, parse_float=Decimal)


def holds(terms: Sequence[bytes], how: str, what: str) -> bool:
    """Whether a value with one of these terms satisfies a condition of a partial index.

    `how` is exists, =, <, <=, > or >=. Only conditions that a missing value never satisfies are possible: a
    document that expires in part must not enter an index at a moment when nobody writes.
    """
    if how == "exists":
        return bool(terms)
    wanted = value_term(parsed(what))
    kind = wanted[:1]
    if how == "=":
        return wanted in terms
    ordered = [term for term in terms if term[:1] == kind]
    if how in ("<", "<="):
        return any(term < wanted or (how == "<=" and term == wanted) for term in ordered)
    if how in (">", ">="):
        return any(term > wanted or (how == ">=" and term == wanted) for term in ordered)
    return False
