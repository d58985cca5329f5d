"""What filters, projections and aggregations mean, said once more and as plainly as possible.

Everything here interprets the JSON directly, one recursion per notion, on Fractions: it shares no code with
query/ but the words.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

NOTHING = object()


def canonical(value: Any) -> Any:
    """A form that two values share exactly if they are equal; numbers by value, objects without order."""
    if value is None or value is NOTHING:
        return ("null",)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (int, float, Decimal)):
        return ("number", Fraction(repr(value) if isinstance(value, float) else str(value)))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, list):
        return ("array", tuple(canonical(item) for item in value))
    return ("object", tuple(sorted((key, canonical(item)) for key, item in value.items())))


_ORDER = ["null", "number", "text", "object", "array", "bool"]


def ordered(value: Any) -> Any:
    """What values of all types are ordered by."""
    kind, *rest = canonical(value)
    if kind == "array":
        return (_ORDER.index(kind), [ordered(item) for item in value])
    if kind == "object":
        return (_ORDER.index(kind), [(key, ordered(value[key])) for key in sorted(value)])
    return (_ORDER.index(kind), rest)


def reached(value: Any, keys: list[str]) -> list[Any]:
    """The values that a path of keys leads to."""
    if not keys:
        return [value]
    key, rest = keys[0], keys[1:]
    if isinstance(value, dict):
        return reached(value[key], rest) if key in value else [NOTHING]
    if not isinstance(value, list):
        return [NOTHING]
    found = []
    for item in value:
        if isinstance(item, dict) and (key in item or not key.isdigit()):
            found += reached(item, keys)
    if key.isdigit() and int(key) < len(value):
        found += reached(value[int(key)], rest)
    return found


def meets(document: Any, wanted: dict[str, Any]) -> bool:
    """Whether a document meets a filter."""
    return all(_member(document, key, operand) for key, operand in wanted.items())


def _member(document: Any, key: str, operand: Any) -> bool:
    if key == "$and":
        return all(meets(document, one) for one in operand)
    if key == "$or":
        return any(meets(document, one) for one in operand)
    if key == "$nor":
        return not any(meets(document, one) for one in operand)
    return _condition(reached(document, key.split(".")), operand)


def _condition(values: list[Any], operand: Any, expand: bool = True) -> bool:
    if isinstance(operand, dict) and any(name.startswith("$") for name in operand):
        return all(_operator(values, name, argument, expand) for name, argument in operand.items())
    return _operator(values, "$eq", operand, expand)


def _operator(values: list[Any], name: str, argument: Any, expand: bool) -> bool:
    if name in ("$ne", "$nin"):
        return not _operator(values, {"$ne": "$eq", "$nin": "$in"}[name], argument, expand)
    if name == "$not":
        return not _condition(values, argument, expand)
    if name == "$exists":
        return any(value is not NOTHING for value in values) is argument
    if name == "$size":
        return any(isinstance(value, list) and len(value) == argument for value in values)
    if name == "$elemMatch":
        return any(isinstance(v, list) and any(_element(item, argument) for item in v) for v in values)
    if name == "$all":
        return bool(argument) and all(
            _condition(
                values, item if isinstance(item, dict) and "$elemMatch" in item else {"$eq": item}, expand
            )
            for item in argument
        )
    items = list(values)
    if expand:
        items += [item for value in values if isinstance(value, list) for item in value]
    return any(_holds(item, name, argument) for item in items)


def _element(item: Any, argument: dict[str, Any]) -> bool:
    if any(name.startswith("$") and name not in ("$and", "$or", "$nor") for name in argument):
        return _condition([item], argument, expand=False)
    return isinstance(item, (dict, list)) and meets(item, argument)


def _holds(item: Any, name: str, argument: Any) -> bool:
    if name == "$in":
        return any(canonical(item) == canonical(one) for one in argument)
    if name == "$type":
        names = {"string": "text"}
        return item is not NOTHING and bool(canonical(item)[0] == names.get(argument, argument))
    if name == "$regex":
        return isinstance(item, str) and re.search(argument, item) is not None
    if name == "$mod":
        kind, *number = canonical(item)
        divisor, remainder = argument
        if kind != "number":
            return False
        dividend = int(number[0])
        return bool(dividend - divisor * int(Fraction(dividend, divisor)) == remainder)
    if name == "$eq":
        return bool(canonical(item) == canonical(argument))
    if canonical(item)[0] != canonical(argument)[0]:
        return False
    if argument is None:
        return name in ("$gte", "$lte")
    left, right = ordered(item), ordered(argument)
    if name in ("$gt", "$lt"):
        return bool(left > right) if name == "$gt" else bool(left < right)
    return bool(left >= right) if name == "$gte" else bool(left <= right)


def sorted_by(document: Any, keys: list[str], descending: bool) -> Any:
    """The order of the value that a document is sorted by."""
    found: list[Any] = []
    for value in reached(document, keys):
        if value == []:
            found.append((-1, []))
        else:
            found += [
                (-1, []) if item == [] else ordered(item)
                for item in (value if isinstance(value, list) else [value])
            ]
    if not found:
        return ordered(None)
    return max(found) if descending else min(found)
