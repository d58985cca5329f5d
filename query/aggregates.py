"""Aggregates: count, min, max, sum and avg over the values of rows; None is no value and counts for nothing.

`value` gives a row's value; numbers are computed by functions that the door's types give, so that overflow
and scale are the door's.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import Any

Row = Any
Value = Any


class Count:
    """How many rows have a value; of all rows, if there is no `value`."""

    def __init__(self, value: Callable[[Row], Value] | None = None) -> None:
        self._value = value
        self._count = 0

    def add(self, row: Row) -> None:
        """Count a row."""
        if self._value is None or self._value(row) is not None:
            self._count += 1

    def result(self) -> int:
        """A number, 0 for no rows."""
        return self._count


class Extreme:
    """The least (`sign` 1) or greatest (-1) value."""

    def __init__(
        self, value: Callable[[Row], Value], compare: Callable[[Value, Value], int], sign: int
    ) -> None:
        self._value = value
        self._compare = compare
        self._sign = sign
        self._best: Value = None

    def add(self, row: Row) -> None:
        """Compare with the best so far."""
        value = self._value(row)
        if value is not None and (self._best is None or self._compare(value, self._best) * self._sign < 0):
            self._best = value

    def result(self) -> Value:
        """The extreme, None if there was no value."""
        return self._best


class Sum:
    """The sum of numbers, and how many there were: `finish(sum, count)` makes the result."""

    def __init__(
        self,
        value: Callable[[Row], Value],
        finish: Callable[[Value, int], Value],
        plus: Callable[[Value, Value], Value] = add,
    ) -> None:
        """`plus` adds two numbers: decimals by default lose digits."""
        self._value = value
        self._finish = finish
        self._plus = plus
        self._sum: Value = 0
        self._count = 0

    def add(self, row: Row) -> None:
        """Add a number."""
        value = self._value(row)
        if value is not None:
            self._sum = self._plus(self._sum, value)
            self._count += 1

    def result(self) -> Value:
        """What `finish` makes of it."""
        return self._finish(self._sum, self._count)
