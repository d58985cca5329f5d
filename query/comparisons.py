"""Predicates over rows: a value of the row against values that are known, by the order of a type.

A predicate that meets no value (None) on either side does not hold, as in SQL and CQL.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

Row = Any
Value = Any
Predicate = Callable[[Row], bool]
Compare = Callable[[Value, Value], int]

HOLDS: Final[dict[str, Callable[[int], bool]]] = {
    "=": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}
"""Of each operator: whether it holds for the order (negative, 0, positive) of left and right."""


def compared(value: Callable[[Row], Value], operator: str, right: Value, compare: Compare) -> Predicate:
    """Whether the row's value stands so to `right`."""
    holds = HOLDS[operator]

    def predicate(row: Row) -> bool:
        left = value(row)
        return left is not None and right is not None and holds(compare(left, right))

    return predicate


def within(
    value: Callable[[Row], Value], options: Sequence[Value], key: Callable[[Value], Hashable]
) -> Predicate:
    """Whether the row's value equals one of `options`, however many these are: equal ones have equal keys."""
    known = frozenset(key(option) for option in options if option is not None)

    def predicate(row: Row) -> bool:
        left = value(row)
        return left is not None and key(left) in known

    return predicate


def containing(values: Callable[[Row], Sequence[Value]], wanted: Value, compare: Compare) -> Predicate:
    """Whether one of the row's values equals `wanted`."""

    def predicate(row: Row) -> bool:
        return any(item is not None and compare(item, wanted) == 0 for item in values(row))

    return predicate


def every(predicates: Sequence[Predicate]) -> Predicate | None:
    """Whether all hold; None if there are none."""
    if not predicates:
        return None
    if len(predicates) == 1:
        return predicates[0]
    kept = tuple(predicates)
    return lambda row: all(predicate(row) for predicate in kept)
