"""Whether a document meets a filter: the tree of query/document_filter.py as one function.

Compiled once and called for every document that is looked at, so each kind of condition becomes a closure
that does as little as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from core.json_values import exact, is_number
from query.document_filter import (
    And,
    Bits,
    Compare,
    ElemMatch,
    Exists,
    Expr,
    Filter,
    In,
    Matches,
    Mod,
    Not,
    Or,
    Size,
    TypeIs,
    whole,
)
from query.document_values import (
    MISSING,
    NULL,
    NUMBER,
    TEXT,
    Path,
    Value,
    equal,
    leaves,
    order_key,
    rank,
)
from query.expression_functions import truthy
from query.regex import compiled

Predicate = Callable[[Value], bool]


def predicate(condition: Filter) -> Predicate:
    """The filter as a function of a document."""
    if isinstance(condition, And):
        return _every([predicate(item) for item in condition.filters])
    if isinstance(condition, Or):
        some = [predicate(item) for item in condition.filters]
        return lambda document: any(holds(document) for holds in some)
    if isinstance(condition, Not):
        holds = predicate(condition.filter)
        return lambda document: not holds(document)
    if isinstance(condition, Expr):
        compute = condition.expression
        return lambda document: truthy(compute(document))
    if isinstance(condition, Exists):
        return _exists(condition.path)
    if isinstance(condition, Size):
        size = condition.size
        return _on_whole(condition.path, lambda value: isinstance(value, list) and len(value) == size)
    if isinstance(condition, ElemMatch):
        meets = predicate(condition.filter)
        if not condition.is_value:
            inner = meets
            meets = lambda value: isinstance(value, (dict, list)) and inner(value)  # noqa: E731
        return _on_whole(condition.path, lambda value: isinstance(value, list) and any(map(meets, value)))
    return _on_any(condition.path, _test(condition))


def _test(condition: Compare | In | TypeIs | Matches | Mod | Bits) -> Predicate:
    """The condition on one value."""
    if isinstance(condition, Compare):
        return _compare(condition.operator, condition.value)
    if isinstance(condition, In):
        return _among(condition.values)
    if isinstance(condition, TypeIs):
        return _type(condition.types)
    if isinstance(condition, Mod):
        return lambda value: _leaves_remainder(value, condition.divisor, condition.remainder)
    if isinstance(condition, Bits):
        return _bits(condition)
    program = compiled(condition.pattern, condition.options)
    assert not isinstance(program, str), "a pattern is compiled before it is taken"
    matches = program
    return lambda value: isinstance(value, str) and matches(value)


def _every(predicates: list[Predicate]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]
    return lambda document: all(holds(document) for holds in predicates)


# --- where a condition looks


def _on_any(path: Path, test: Predicate) -> Predicate:
    """Of what the path leads to, an array being itself and each of its elements, one passes."""
    if not path:  # an element of $elemMatch: itself
        return test

    def holds(document: Value) -> bool:
        for value in leaves(document, path):
            if test(value) or (isinstance(value, list) and any(map(test, value))):
                return True
        return False

    return holds


def _on_whole(path: Path, test: Predicate) -> Predicate:
    """Of what the path leads to, one passes; an array is only itself."""
    if not path:
        return test
    return lambda document: any(map(test, leaves(document, path)))


def _exists(path: Path) -> Predicate:
    if not path:
        return _always
    return lambda document: any(value is not MISSING for value in leaves(document, path))


# --- tests of one value


def _always(_: Value) -> bool:
    return True


def _never(_: Value) -> bool:
    return False


def _is_null(value: Value) -> bool:
    return value is None or value is MISSING


def _compare(operator: str, wanted: Value) -> Predicate:
    kind = rank(wanted)
    if operator == "=":
        if kind == TEXT:
            return lambda value: value == wanted
        return lambda value: equal(value, wanted)
    if kind == NULL:
        return _is_null if "=" in operator else _never
    ordered = _ORDERED[operator]
    if kind == NUMBER:
        return _ordered_number(ordered, wanted)
    if kind == TEXT:
        return lambda value: isinstance(value, str) and ordered(value, wanted)
    wanted_key = order_key(wanted)
    return lambda value: rank(value) == kind and ordered(order_key(value), wanted_key)


_ORDERED: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


WHOLE_FLOATS_MAX: Final = 2**53
"""Up to here a float that is whole is exactly the whole number that its text says."""


def _ordered_number(ordered: Callable[[Any, Any], bool], wanted: Value) -> Predicate:
    """Compares as the texts of the numbers say. Floats compare so among themselves and with few digits,
    fast.
    """
    wanted_exactly = exact(wanted)
    is_short = isinstance(wanted, float) or (isinstance(wanted, int) and abs(wanted) <= WHOLE_FLOATS_MAX)

    def test(value: Value) -> bool:
        kind = type(value)
        if kind is float:
            return ordered(value, wanted) if is_short else ordered(exact(value), wanted_exactly)
        if kind is int or kind is Decimal:
            return ordered(value, wanted_exactly)
        return False

    return test


def _among(values: tuple[Value, ...]) -> Predicate:
    keys = frozenset(order_key(value) for value in values)
    return lambda value: order_key(value) in keys


def _type(types: tuple[str, ...]) -> Predicate:
    return lambda value: any(_TYPE_TESTS[name](value) for name in types)


_TYPE_TESTS: Final[dict[str, Predicate]] = {
    "null": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "number": is_number,
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "decimal": lambda value: isinstance(value, (Decimal, float)),
}


def _bits(condition: Bits) -> Predicate:
    mask, wanted = condition.mask, condition.mask if condition.ones else 0
    every = condition.every

    def test(value: Value) -> bool:
        number = whole(value)
        if number is None:
            return False
        return number & mask == wanted if every else number & mask != mask - wanted

    return test


def _leaves_remainder(value: Value, divisor: int, remainder: int) -> bool:
    if not is_number(value):
        return False
    if not isinstance(value, int):
        value = int(exact(value))  # exponents are bounded where documents are read
    left = abs(value) % abs(divisor)
    return bool((-left if value < 0 else left) == remainder)
