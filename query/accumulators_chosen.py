"""Accumulators that choose among a group's values, or put objects together: `$firstN $lastN $minN $maxN`,
`$top $topN $bottom $bottomN`, `$median $percentile` and `$mergeObjects`.

Each keeps no more than it may still need, so the states that peers send stay small; but for percentiles,
which are exact: they keep the numbers of the group, as `$push` would.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from core.json_values import exact, is_number
from query.accumulators import Make, Memory
from query.document_filter import whole
from query.document_sort import Sort, parse_sort, place, sort_values
from query.document_values import MISSING, Descending, Value, order_key
from query.expression_more import percentile
from query.expressions import Expression, Parser
from query.refusals import Refusal, RefusedError, member, shown

Show = Callable[[list[Value]], Value]
N_MAX: Final = 10_000
PERCENTILES_MAX: Final = 100


class Ends:
    """`$firstN` and `$lastN`: so many values in the order in which documents come; nothing is null."""

    def __init__(self, count: int, first: bool, memory: Memory, where: str) -> None:
        self._count = count
        self._first = first
        self._memory = memory
        self._where = where
        self._weighs: deque[int] = deque()
        self._kept: list[Value] = []

    def add(self, value: Value) -> None:
        """Keep it if it is among them."""
        if self._first and len(self._kept) == self._count:
            return
        value = None if value is MISSING else value
        if len(self._kept) == self._count:
            del self._kept[0]
            self._memory.release(self._weighs.popleft())
        self._weighs.append(self._memory.hold(value, self._where))
        self._kept.append(value)

    def state(self) -> Value:
        """The values."""
        return self._kept

    def merge(self, state: Value) -> None:
        """Another's come after ours."""
        for value in state:
            self.add(value)

    def result(self) -> Value:
        """The values."""
        return self._kept


class Least:
    """The `count` values that come first in an order; its second part says what is told of them."""

    def __init__(
        self, count: int, order: tuple[Callable[[Value], Any], Show], memory: Memory, where: str
    ) -> None:
        self._count = count
        self._key, self._shown_as = order
        self._memory = memory
        self._where = where
        self._kept: list[tuple[Any, int, Value, int]] = []
        self._came = 0

    def add(self, value: Value) -> None:
        """Keep it if it is among the first; of equal ones those that came first."""
        if value is MISSING:
            return
        self._came += 1
        at = (self._key(value), self._came)
        if len(self._kept) == self._count:
            if not at < self._kept[-1][:2]:
                return
            self._memory.release(self._kept.pop()[3])
        entry = (*at, value, self._memory.hold(value, self._where))
        insort(self._kept, entry, key=lambda one: one[:2])

    def state(self) -> Value:
        """The values."""
        return [value for _, _, value, _ in self._kept]

    def merge(self, state: Value) -> None:
        """Another's come after ours."""
        for value in state:
            self.add(value)

    def result(self) -> Value:
        """The values in their order, as they are told."""
        return self._shown_as(self.state())


class Percentiles:
    """`$percentile` and `$median`: of the numbers in order those at or below which so many of all lie."""

    def __init__(self, shares: list[Any], alone: bool, memory: Memory, where: str) -> None:
        self._shares = shares
        self._alone = alone
        self._memory = memory
        self._where = where
        self._numbers: list[Value] = []

    def add(self, value: Value) -> None:
        """Keep a number; other values count for nothing."""
        if is_number(value):
            self._memory.hold(value, self._where)
            self._numbers.append(value)

    def state(self) -> Value:
        """The numbers."""
        return self._numbers

    def merge(self, state: Value) -> None:
        """Another's numbers, too."""
        for value in state:
            self.add(value)

    def result(self) -> Value:
        """One number for each share; null if there was none."""
        ordered = sorted(self._numbers, key=exact)
        found = [percentile(ordered, share) for share in self._shares]
        return found[0] if self._alone else found


class MergedObjects:
    """`$mergeObjects`: the members of all, later ones in place of earlier; null and nothing add none."""

    def __init__(self, memory: Memory, where: str) -> None:
        self._memory = memory
        self._where = where
        self._merged: dict[str, Value] = {}

    def add(self, value: Value) -> None:
        """Put its members in."""
        if value is None or value is MISSING:
            return
        if not isinstance(value, dict):
            raise RefusedError(self._where, f"$mergeObjects takes objects; found {shown(value)}")
        self._memory.hold(value, self._where)
        self._merged.update(value)

    def state(self) -> Value:
        """The object."""
        return self._merged

    def merge(self, state: Value) -> None:
        """Another's comes after ours."""
        self.add(state)

    def result(self) -> Value:
        """The object."""
        return self._merged


# --- from their arguments

Configured = tuple[Make, Expression]


def _members(name: str, argument: Value, needed: tuple[str, ...], where: str) -> dict[str, Value]:
    if not isinstance(argument, dict) or argument.keys() - {"method"} != set(needed):
        raise RefusedError(where, f"{name} takes an object with {', '.join(needed)}")
    return argument


def _count(argument: Value, where: str) -> int:
    number = whole(argument)
    if number is None or not 1 <= number <= N_MAX:
        raise RefusedError(
            member(where, "n"), f"n is a whole number from 1 to {N_MAX}; found {shown(argument)}"
        )
    return number


def _ends(first: bool) -> Callable[[Parser, str, Value, str], Configured]:
    def configure(parser: Parser, name: str, argument: Value, where: str) -> Configured:
        found = _members(name, argument, ("input", "n"), where)
        count = _count(found["n"], where)
        value = parser.expression(found["input"], member(where, "input"))
        return lambda memory, at: Ends(count, first, memory, at), value

    return configure


def _extremes(greatest: bool) -> Callable[[Parser, str, Value, str], Configured]:
    def configure(parser: Parser, name: str, argument: Value, where: str) -> Configured:
        found = _members(name, argument, ("input", "n"), where)
        count, inner = _count(found["n"], where), parser.expression(found["input"], member(where, "input"))
        order = (lambda value: Descending(order_key(value))) if greatest else order_key

        def value(document: Value) -> Value:
            given = inner(document)
            return MISSING if given is None else given

        return lambda memory, at: Least(count, (order, lambda values: values), memory, at), value

    return configure


def _sorted(alone: bool, last: bool) -> Callable[[Parser, str, Value, str], Configured]:
    def configure(parser: Parser, name: str, argument: Value, where: str) -> Configured:
        needed = ("output", "sortBy") if alone else ("n", "output", "sortBy")
        found = _members(name, argument, needed, where)
        count = 1 if alone else _count(found["n"], where)
        parsed = parse_sort(found["sortBy"], member(where, "sortBy"))
        if isinstance(parsed, Refusal):
            raise RefusedError(parsed.where, parsed.reason)
        by: Sort = parsed
        inner = parser.expression(found["output"], member(where, "output"))

        def value(document: Value) -> Value:
            shown_value = inner(document)
            return [sort_values(by, document), None if shown_value is MISSING else shown_value]

        def key(pair: Value) -> Any:
            here = place(by, pair[0], b"")
            return _Backward(here) if last else here

        def show(pairs: list[Value]) -> Value:
            values = [output for _, output in (reversed(pairs) if last else pairs)]
            return values if not alone else values[0] if values else None

        return lambda memory, at: Least(count, (key, show), memory, at), value

    return configure


class _Backward:
    """A place that comes before another if it lies after it."""

    __slots__ = ("place",)

    def __init__(self, where: tuple[Any, ...]) -> None:
        self.place = where

    def __lt__(self, other: _Backward) -> bool:
        return bool(other.place < self.place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Backward) and self.place == other.place

    __hash__ = None  # type: ignore[assignment]


def _percentiles(parser: Parser, name: str, argument: Value, where: str) -> Configured:
    alone = name == "$median"
    found = _members(name, argument, ("input",) if alone else ("input", "p"), where)
    if found.get("method", "approximate") not in ("approximate", "discrete"):
        raise RefusedError(member(where, "method"), "method is approximate; what is found is exact")
    shares = [0.5] if alone else found["p"]
    if not isinstance(shares, list) or not 1 <= len(shares) <= PERCENTILES_MAX:
        raise RefusedError(member(where, "p"), f"p lists 1 to {PERCENTILES_MAX} numbers from 0 to 1")
    if not all(is_number(share) and 0 <= share <= 1 for share in shares):
        raise RefusedError(member(where, "p"), "p lists numbers from 0 to 1, as [0.5, 0.95]")
    value = parser.expression(found["input"], member(where, "input"))
    return lambda memory, at: Percentiles(shares, alone, memory, at), value


def _merged(parser: Parser, name: str, argument: Value, where: str) -> Configured:
    del name
    return MergedObjects, parser.expression(argument, where)


CHOSEN: Final[dict[str, Callable[[Parser, str, Value, str], Configured]]] = {
    "$firstN": _ends(first=True),
    "$lastN": _ends(first=False),
    "$maxN": _extremes(greatest=True),
    "$minN": _extremes(greatest=False),
    "$top": _sorted(alone=True, last=False),
    "$topN": _sorted(alone=False, last=False),
    "$bottom": _sorted(alone=True, last=True),
    "$bottomN": _sorted(alone=False, last=True),
    "$median": _percentiles,
    "$percentile": _percentiles,
    "$mergeObjects": _merged,
}
"""What makes of an accumulator's argument its maker and the value that it takes of each document."""
