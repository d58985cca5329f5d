"""Accumulators of `$group`: each folds the values of a group into one, in parts that can be put together.

A peer folds what it holds and sends the `state` of each group, which is JSON; whoever asked merges the
states of all peers. Sums are exact, so it does not matter who added what. Of `$first`, `$last`, `$push` and
`$addToSet` the order is that in which documents come: sort before where it matters (then all documents come
to one place).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from core.json_values import is_number
from query import numbers
from query.document_values import MISSING, Value, order_key
from query.refusals import RefusedError

HELD_MAX: Final = 500_000
"""Values that one request may hold on one peer: a few hundred bytes each, at most."""
DEPTH_MAX: Final = 200
"""Levels of a document that a pipeline makes."""
TEXT_CHARS_PER_VALUE: Final = 64


WORK_MAX: Final = 1_000_000
"""Values, elements and clauses that one document may lead to on its way through a pipeline, at a peer."""
WHOLE_WORK_MAX: Final = 10_000_000
"""The same of all that peers sent, where it is put together."""


class Memory:
    """Counts what a request holds, and where documents lie, what one of them leads to.

    A RefusedError says what to do when it is too much.
    """

    def __init__(self, held_max: int = HELD_MAX, above: Memory | None = None) -> None:
        self._held_max = held_max
        self._above = above
        self._held = 0
        self._work: int | None = None
        self._work_max = WORK_MAX

    def begin_document(self) -> None:
        """What is spent from now on is spent on this document."""
        self._work = 0

    def begin_whole(self) -> None:
        """What is spent from now on is spent on all that comes of the peers' parts."""
        self._work, self._work_max = 0, WHOLE_WORK_MAX

    def spend(self, work: int, where: str) -> None:
        """So much more is done for the document."""
        if self._work is not None:
            self._work += work
            if self._work > self._work_max:
                raise RefusedError(where, "one document leads to too much here: $match or $project before it")

    def hold(self, value: Value, where: str) -> int:
        """Hold one more value; what it weighs."""
        weighs = weight(value, where, self._held_max)
        self._add(weighs, where)
        return weighs

    def _add(self, weighs: int, where: str) -> None:
        self._held += weighs
        if self._held > self._held_max:
            raise RefusedError(where, "this holds more at once than a request may: match or limit before it")
        if self._above is not None:
            self._above._add(weighs, where)

    def release(self, weighs: int) -> None:
        """So much is held no more."""
        self._held -= weighs
        if self._above is not None:
            self._above.release(weighs)

    def share(self) -> Memory:
        """What one stage holds of it: counts here, too, until the stage lets go of all."""
        return Memory(self._held_max, self)

    def let_go(self) -> None:
        """Nothing of it is held any more."""
        self.release(self._held)


def weight(value: Value, where: str, weight_max: int = HELD_MAX) -> int:
    """How many values a value holds, itself included; refused if they are too many, or too deep."""
    if not isinstance(value, (dict, list)):
        return 1 + len(value) // TEXT_CHARS_PER_VALUE if isinstance(value, str) else 1
    found, level, depth = 1, [value], 0
    while level:
        depth += 1
        below: list[Value] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            found += len(children)
            for child in children:
                if isinstance(child, (dict, list)):
                    below.append(child)
                elif isinstance(child, str):
                    found += len(child) // TEXT_CHARS_PER_VALUE
            if found > weight_max:
                raise RefusedError(where, f"a document of more than {weight_max} values would be made")
        if depth > DEPTH_MAX:
            raise RefusedError(where, f"a document of more than {DEPTH_MAX} levels would be made")
        level = below
    return found


class Accumulator(Protocol):
    """Folds values. `state` is JSON; `merge` takes another's."""

    def add(self, value: Value) -> None:
        """Take the value of one document; MISSING if it has none."""

    def state(self) -> Value:
        """All that was added, to be merged elsewhere."""

    def merge(self, state: Value) -> None:
        """Take what another has added."""

    def result(self) -> Value:
        """The value for all."""


class Sum:
    """`$sum` of numbers; other values count for nothing."""

    def __init__(self) -> None:
        self._total: numbers.Number = 0

    def add(self, value: Value) -> None:
        """Add a number."""
        if is_number(value):
            self._total = numbers.add(self._total, numbers.number(value))

    def state(self) -> Value:
        """The sum so far."""
        return self._total

    def merge(self, state: Value) -> None:
        """Add another's sum."""
        self._total = numbers.add(self._total, numbers.number(state))

    def result(self) -> Value:
        """The sum."""
        return self._total


class Spread:
    """`$avg`, `$stdDevPop` and `$stdDevSamp`: from the number, the sum and the sum of the squares."""

    def __init__(self, finish: Callable[[int, numbers.Number, numbers.Number], Value], squared: bool) -> None:
        self._finish = finish
        self._squared = squared
        self._count = 0
        self._total: numbers.Number = 0
        self._squares: numbers.Number = 0

    def add(self, value: Value) -> None:
        """Add a number."""
        if is_number(value):
            number = numbers.number(value)
            self._count += 1
            self._total = numbers.add(self._total, number)
            if self._squared:
                self._squares = numbers.add(self._squares, numbers.multiply(number, number))

    def state(self) -> Value:
        """The three."""
        return [self._count, self._total, self._squares]

    def merge(self, state: Value) -> None:
        """Add another's."""
        self._count += state[0]
        self._total = numbers.add(self._total, numbers.number(state[1]))
        self._squares = numbers.add(self._squares, numbers.number(state[2]))

    def result(self) -> Value:
        """Null if there was no number."""
        return self._finish(self._count, self._total, self._squares) if self._count else None


class Extreme:
    """`$min` (sign 1) and `$max` (-1) over all types; null and nothing count for nothing."""

    def __init__(self, sign: int, memory: Memory, where: str) -> None:
        self._sign = sign
        self._memory = memory
        self._where = where
        self._weighs = 0
        self._best: Value = MISSING
        self._key: tuple[Any, ...] = ()

    def add(self, value: Value) -> None:
        """Compare with the best so far."""
        if value is None or value is MISSING:
            return
        key = order_key(value)
        if self._best is MISSING or (key < self._key if self._sign > 0 else key > self._key):
            self._memory.release(self._weighs)
            self._weighs = self._memory.hold(value, self._where)
            self._best, self._key = value, key

    def state(self) -> Value:
        """The best, if there is one."""
        return [] if self._best is MISSING else [self._best]

    def merge(self, state: Value) -> None:
        """Compare with another's best."""
        for value in state:
            self.add(value)

    def result(self) -> Value:
        """Null if there was no value."""
        return None if self._best is MISSING else self._best


class One:
    """`$first` and `$last` document's value; nothing is null."""

    def __init__(self, first: bool, memory: Memory, where: str) -> None:
        self._first = first
        self._memory = memory
        self._where = where
        self._weighs = 0
        self._kept: list[Value] = []

    def add(self, value: Value) -> None:
        """Keep it, if it is to be kept."""
        if not (self._first and self._kept):
            self._memory.release(self._weighs)
            self._weighs = self._memory.hold(None if value is MISSING else value, self._where)
            self._kept = [None if value is MISSING else value]

    def state(self) -> Value:
        """It, if there was a document."""
        return self._kept

    def merge(self, state: Value) -> None:
        """Another's comes after ours."""
        for value in state:
            self.add(value)

    def result(self) -> Value:
        """The value."""
        return self._kept[0] if self._kept else None


class Listed:
    """`$push` all, or `$addToSet` each once; nothing is left out. Bounded by what a request may hold."""

    def __init__(self, once: bool, memory: Memory, where: str) -> None:
        self._seen: dict[tuple[Any, ...], None] | None = {} if once else None
        self._memory = memory
        self._where = where
        self._values: list[Value] = []

    def add(self, value: Value) -> None:
        """List it."""
        if value is MISSING:
            return
        if self._seen is not None:
            key = order_key(value)
            if key in self._seen:
                return
            self._seen[key] = None
        self._memory.hold(value, self._where)
        self._values.append(value)

    def state(self) -> Value:
        """The list."""
        return self._values

    def merge(self, state: Value) -> None:
        """List another's after ours."""
        for value in state:
            self.add(value)

    def result(self) -> Value:
        """The list."""
        return self._values


Make = Callable[[Memory, str], Accumulator]


def _average(count: int, total: numbers.Number, _: numbers.Number) -> Value:
    return numbers.average(total, count)


ACCUMULATORS: Final[dict[str, Make]] = {
    "$sum": lambda memory, where: Sum(),  # noqa: ARG005
    "$avg": lambda memory, where: Spread(_average, squared=False),  # noqa: ARG005
    "$min": lambda memory, where: Extreme(1, memory, where),
    "$max": lambda memory, where: Extreme(-1, memory, where),
    "$count": lambda memory, where: Sum(),  # noqa: ARG005 - of the number 1
    "$first": lambda memory, where: One(True, memory, where),
    "$last": lambda memory, where: One(False, memory, where),
    "$push": lambda memory, where: Listed(False, memory, where),
    "$addToSet": lambda memory, where: Listed(True, memory, where),
    "$stdDevPop": lambda memory, where: Spread(  # noqa: ARG005
        lambda n, total, squares: numbers.deviation(n, total, squares, sample=False), squared=True
    ),
    "$stdDevSamp": lambda memory, where: Spread(  # noqa: ARG005
        lambda n, total, squares: numbers.deviation(n, total, squares, sample=True), squared=True
    ),
}
"""What makes an accumulator of each name."""
