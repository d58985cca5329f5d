"""Variables of expressions, and the work that one of them may be: `$let`, `$map`, `$filter` and `$reduce`.

A variable is a cell that the expression which binds it sets, again and again for the elements of an array,
before it evaluates what stands inside. Loops within loops over a document's arrays could go on for days, so
everything that happens within one is counted: elements, and how much the functions in it are given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from query.accumulators import weight
from query.document_values import MISSING, Path, Value, lookup
from query.expression_functions import is_nothing, truthy
from query.refusals import RefusedError, shown

Expression = Callable[[Value], Value]

WORK_MAX: Final = 100_000
"""Elements, and values looked at, of one evaluation: about a tenth of a second."""

LOOPS: Final = ("$let", "$map", "$filter", "$reduce")


class Cell:
    """What a variable holds at the moment."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Value = MISSING

    def at(self, path: Path, work: Work, where: str) -> Expression:
        """It, or what a path leads to in it."""

        def held(_: Value) -> Value:
            return self.value

        return weighed(held, path, work, where) if path else held


class Work:
    """Counts what one evaluation of an expression does within loops."""

    def __init__(self) -> None:
        self._left = WORK_MAX

    def begin(self) -> None:
        """Another evaluation begins."""
        self._left = WORK_MAX

    def spend(self, amount: int, where: str) -> None:
        """So much more; raises RefusedError beyond WORK_MAX."""
        self._left -= amount
        if self._left < 0:
            raise RefusedError(where, "this loops over too much for one document: $match or $unwind before")

    def weigh(self, values: tuple[Value, ...], where: str) -> None:
        """Spend what looking at these values takes."""
        self.spend(sum(weight(value, where) for value in values), where)


def weighed(source: Expression, path: Path, work: Work, where: str) -> Expression:
    """What a path leads to in what `source` gives, which is counted as looked through."""

    def look(document: Value) -> Value:
        holder = source(document)
        work.weigh((lookup(holder, path[:1]) if isinstance(holder, dict) else holder,), where)
        return lookup(holder, path)

    return look


Place = tuple[Work, str]
"""What counts, and where the loop stands."""


def bound(cells: list[tuple[Cell, Expression]], inside: Expression) -> Expression:
    """`$let`."""

    def evaluate(document: Value) -> Value:
        values = [expression(document) for _, expression in cells]
        for (cell, _), value in zip(cells, values, strict=True):
            cell.value = value
        return inside(document)

    return evaluate


def elements(source: Expression, document: Value, where: str) -> list[Value] | None:
    """The array to go through; None of nothing. Raises RefusedError for anything else."""
    found = source(document)
    if is_nothing(found):
        return None
    if not isinstance(found, list):
        raise RefusedError(where, f"input is an array; found {shown(found)}")
    return found


def mapped(source: Expression, cell: Cell, inside: Expression, place: Place) -> Expression:
    """`$map`: what each element becomes."""
    work, where = place

    def evaluate(document: Value) -> Value:
        array = elements(source, document, where)
        if array is None:
            return None
        found = []
        for element in array:
            work.spend(1, where)
            cell.value = element
            value = inside(document)
            found.append(None if value is MISSING else value)
        return found

    return evaluate


def chosen(source: Expression, cell: Cell, holds: Expression, limit: Expression, place: Place) -> Expression:
    """`$filter`: the elements for which a condition holds, at most `limit` of them (nothing: all)."""
    work, where = place

    def evaluate(document: Value) -> Value:
        array = elements(source, document, where)
        most = limit(document)
        if array is None:
            return None
        if not is_nothing(most) and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise RefusedError(where, f"limit is a whole number from 1; found {shown(most)}")
        found: list[Value] = []
        for element in array:
            work.spend(1, where)
            cell.value = element
            if truthy(holds(document)):
                found.append(element)
                if len(found) == most:
                    break
        return found

    return evaluate


def reduced(
    source: Expression, initial: Expression, cells: tuple[Cell, Cell], inside: Expression, place: Place
) -> Expression:
    """`$reduce`: `value` and `this` (the cells) become the next value, from the first element to the last."""
    (value, this), (work, where) = cells, place

    def evaluate(document: Value) -> Value:
        array = elements(source, document, where)
        if array is None:
            return None
        found = initial(document)
        for element in array:
            work.spend(1, where)
            value.value, this.value = found, element
            found = inside(document)
        return found

    return evaluate
