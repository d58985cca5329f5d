"""The stages of aggregations, as sinks through which documents are pushed one at a time.

    source -> matched -> mapped -> grouped -> sorted -> results

`push` answers whether more documents are wanted; `end` says that there are none, which is when a stage that
holds documents back gives them. A stage at which the work is divided among peers (query/pipeline.py) also
has a `state`, which is JSON, and `absorb`s those of others: groups that are merged, the first documents of
an order, a sample.

What a stage holds is bounded (`Memory`, GROUPS_MAX, SORTED_MAX): beyond it the request ends with a
RefusedError that says what to do.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from query.accumulators import HELD_MAX, Accumulator, Make, Memory, weight
from query.document_sort import Sort, place, sort_values
from query.document_values import MISSING, Path, Value, order_key
from query.expressions import Expression
from query.refusals import RefusedError

GROUPS_MAX: Final = 10_000
SORTED_MAX: Final = 100_000
RESULTS_MAX: Final = 100_000
UNWIND_COST: Final = 10
UNWIND_VALUES_PER_COST: Final = 10
"""A document is copied for each element, and what stands beside the array is looked at again by what
follows.
"""

NO_BOUND: Final = 2**62
"""Of what is held already."""

Below = Callable[[int], int]
"""A random integer in [0, n)."""


class Sink(Protocol):
    """What takes documents. All raise RefusedError for what cannot be computed or held."""

    def push(self, document: Value) -> bool:
        """Take one; False if no more are wanted."""

    def end(self) -> None:
        """There are no more."""


class Results:
    """The end of a chain: keeps the documents."""

    def __init__(self, memory: Memory, where: str) -> None:
        self.documents: list[Value] = []
        self._memory = memory
        self._where = where

    def push(self, document: Value) -> bool:
        """Keep it."""
        self._memory.hold(document, self._where)
        if len(self.documents) >= RESULTS_MAX:
            raise RefusedError(self._where, f"more than {RESULTS_MAX} documents come out: add a $limit")
        self.documents.append(document)
        return True

    def end(self) -> None:
        """Nothing is held back."""

    def state(self) -> Value:
        """The documents."""
        return self.documents


class Filtered:
    """`$match`; `cost` is about what judging one document takes."""

    def __init__(self, holds: Callable[[Value], bool], cost: int, memory: Memory, sink: Sink) -> None:
        self._holds = holds
        self._cost = cost
        self._memory = memory
        self._sink = sink

    def push(self, document: Value) -> bool:
        """Judge one document."""
        self._memory.spend(self._cost, "$match")
        return not self._holds(document) or self._sink.push(document)

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Mapped:
    """`$project`, `$addFields`, `$unset`, `$replaceRoot`: a document for each."""

    def __init__(self, change: Callable[[Value], Value], where: str, memory: Memory, sink: Sink) -> None:
        self._change = change
        self._where = where
        self._memory = memory
        self._sink = sink

    def push(self, document: Value) -> bool:
        """Change one document."""
        changed = self._change(document)
        self._memory.spend(weight(changed, self._where), self._where)
        return self._sink.push(changed)

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Unwound:
    """`$unwind`: a document for each element of an array; of what is no array, one."""

    def __init__(self, path: Path, position: Path, keep_empty: bool, memory: Memory, sink: Sink) -> None:
        """`position`: where the element's place in the array goes, if anywhere."""
        self._memory = memory
        self._path = path
        self._position = position
        self._keep_empty = keep_empty
        self._sink = sink

    def push(self, document: Value) -> bool:
        """Take one document apart."""
        value = _member(document, self._path)
        if isinstance(value, list) and value:
            beside = _beside(document, self._path) // UNWIND_VALUES_PER_COST
            for index, item in enumerate(value):
                self._memory.spend(beside, "$unwind")
                if not self._give(assigned(document, self._path, item), index):
                    return False
            return True
        if isinstance(value, list):
            return not self._keep_empty or self._give(assigned(document, self._path, MISSING), None)
        if value is None or value is MISSING:
            return not self._keep_empty or self._give(document, None)
        return self._give(document, None)

    def _give(self, document: Value, index: int | None) -> bool:
        self._memory.spend(UNWIND_COST, "$unwind")
        if self._position:
            document = assigned(document, self._position, index)
        return self._sink.push(document)

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Limited:
    """`$skip` and `$limit`: `skip` are left out, then `left` let through (None: all)."""

    def __init__(self, skip: int, left: int | None, sink: Sink) -> None:
        self._skip = skip
        self._left = left
        self._sink = sink

    def push(self, document: Value) -> bool:
        """Count one document."""
        if self._skip > 0:
            self._skip -= 1
            return True
        if self._left is None:
            return self._sink.push(document)
        if self._left <= 0:
            return False
        self._left -= 1
        return self._sink.push(document) and self._left > 0

    def end(self) -> None:
        """Nothing is held back."""
        self._sink.end()


class Grouped:
    """`$group`: one document per value of `key`, in the order in which they were first seen."""

    def __init__(
        self,
        key: Expression,
        fields: Sequence[tuple[str, Make, Expression, str]],
        memory: Memory,
        finish: Callable[[list[Value]], Iterable[Value]],
        sink: Sink | None,
    ) -> None:
        """`finish` gives the documents their last order; without a `sink` there is only the state."""
        self._key = key
        self._fields = fields
        self._memory = memory.share()
        self._finish = finish
        self._sink = sink
        self._groups: dict[tuple[Any, ...], tuple[Value, list[Accumulator]]] = {}

    def push(self, document: Value) -> bool:
        """Add one document to its group."""
        key = self._key(document)
        group = self._group(None if key is MISSING else key)
        for (_, _, expression, _), accumulator in zip(self._fields, group, strict=True):
            accumulator.add(expression(document))
        return True

    def _group(self, key: Value) -> list[Accumulator]:
        found = self._groups.get(ordered := order_key(key))
        if found is None:
            if len(self._groups) >= GROUPS_MAX:
                raise RefusedError("$group", f"more than {GROUPS_MAX} groups: match less, or group by less")
            self._memory.hold(key, "$group")
            self._memory.hold([None] * len(self._fields), "$group")  # what adds up is held, too
            found = key, [make(self._memory, where) for _, make, _, where in self._fields]
            self._groups[ordered] = found
        return found[1]

    def end(self) -> None:
        """Hand the groups on."""
        assert self._sink is not None, "a part of the groups has only its state"
        found = []
        for key, accumulators in self._groups.values():
            results = (accumulator.result() for accumulator in accumulators)
            names = (name for name, _, _, _ in self._fields)
            found.append({"_id": key, **dict(zip(names, results, strict=True))})
        self._groups.clear()
        self._memory.let_go()
        for document in self._finish(found):
            if not self._sink.push(document):
                break
        self._sink.end()

    def state(self) -> Value:
        """Of each group its key and the states of its accumulators."""
        return [[key, [one.state() for one in accumulators]] for key, accumulators in self._groups.values()]

    def absorb(self, state: Value) -> bool:
        """Merge the groups of another."""
        for key, states in state:
            for accumulator, one in zip(self._group(key), states, strict=True):
                accumulator.merge(one)
        return True


class Ordered:
    """`$sort`, with the `$limit` that follows: the first `top` documents (None: all that may be held)."""

    def __init__(self, sort: Sort, top: int | None, memory: Memory, sink: Sink | None) -> None:
        self._sort = sort
        self._top = top
        self._memory = memory
        self._sink = sink
        self._held: list[tuple[Any, Value]] = []
        self._seen = 0
        self._weighs = 0
        self._new = 0
        """What is held that `memory` does not count yet: it may not be among the first."""

    def push(self, document: Value) -> bool:
        """Hold one document, if it may be among the first."""
        self._seen += 1
        values = sort_values(self._sort, document)
        self._held.append((place(self._sort, values, self._seen.to_bytes(8, "big")), document))
        if self._top is None:
            if self._seen > SORTED_MAX:
                why = f"more than {SORTED_MAX} documents to sort: match less, or let a $limit follow"
                raise RefusedError("$sort", why)
            self._weighs += self._memory.hold(document, "$sort")
            return True
        self._new += weight(document, "$sort")
        if len(self._held) >= 2 * self._top + 100 or self._new > HELD_MAX:
            self._cut()
        return True

    def _cut(self) -> None:
        self._held = heapq.nsmallest(self._top or 0, self._held, key=_first)
        self._memory.release(self._weighs)
        self._weighs = self._new = 0
        for _, document in self._held:
            self._weighs += self._memory.hold(document, "$sort")

    def state(self) -> Value:
        """The first documents, in order."""
        self._held.sort(key=_first)
        return [document for _, document in self._held[: self._top]]

    def absorb(self, state: Value) -> bool:
        """Take the first documents of another."""
        for document in state:
            self.push(document)
        return True

    def end(self) -> None:
        """Hand them on in order: whoever holds one then counts it."""
        assert self._sink is not None, "a part of an order has only its state"
        documents = self.state()
        self._held.clear()
        self._memory.release(self._weighs)
        self._weighs = 0
        for document in documents:
            if not self._sink.push(document):
                break
        self._sink.end()


class Bucketed:
    """`$bucketAuto`: documents in `count` groups of about one size, by the order of a value.

    Equal values are never parted, so there may be fewer groups, and the last takes what is left over. A
    group's `_id` is its least value and that of the next group (of the last one, its greatest).
    """

    def __init__(
        self,
        key: Expression,
        count: int,
        fields: Sequence[tuple[str, Make, Expression, str]],
        memory: Memory,
        sink: Sink,
    ) -> None:
        self._key = key
        self._count = count
        self._fields = fields
        self._memory = memory
        self._sink = sink
        self._held: list[tuple[tuple[Any, ...], int, Value, Value]] = []

    def push(self, document: Value) -> bool:
        """Hold one document."""
        if len(self._held) >= SORTED_MAX:
            raise RefusedError("$bucketAuto", f"more than {SORTED_MAX} documents: match less")
        self._memory.hold(document, "$bucketAuto")
        value = self._key(document)
        self._held.append((order_key(value), len(self._held), None if value is MISSING else value, document))
        return True

    def end(self) -> None:
        """Hand the groups on."""
        self._held.sort(key=lambda held: held[:2])
        size = max(1, (2 * len(self._held) + self._count) // (2 * self._count))
        at = given = 0
        while at < len(self._held):
            given += 1
            end = len(self._held) if given == self._count else min(at + size, len(self._held))
            while end < len(self._held) and self._held[end][0] == self._held[end - 1][0]:
                end += 1
            bounds = {"min": self._held[at][2], "max": self._held[min(end, len(self._held) - 1)][2]}
            if not self._sink.push({"_id": bounds, **self._folded(at, end)}):
                break
            at = end
        self._held.clear()
        self._sink.end()

    def _folded(self, first: int, end: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        memory = self._memory.share()
        for name, make, expression, where in self._fields:
            accumulator = make(memory, where)
            for _, _, _, document in self._held[first:end]:
                accumulator.add(expression(document))
            found[name] = accumulator.result()
        memory.let_go()
        return found


class Sampled:
    """`$sample`: `size` documents, each set of so many being as likely as any other.

    Every document draws a number, and those with the least are kept, so samples of parts make a sample of
    all.
    """

    def __init__(self, size: int, below: Below, memory: Memory, sink: Sink | None) -> None:
        self._size = size
        self._below = below
        self._memory = memory
        self._sink = sink
        self._held: list[tuple[int, int, Value, int]] = []
        self._seen = 0

    def push(self, document: Value) -> bool:
        """Draw for one document."""
        return self._take(self._below(2**53), document)

    def _take(self, drawn: int, document: Value) -> bool:
        self._seen += 1
        if len(self._held) == self._size:
            if -drawn <= self._held[0][0]:
                return True
            self._memory.release(heapq.heappop(self._held)[3])
        held = (-drawn, -self._seen, document, self._memory.hold(document, "$sample"))
        heapq.heappush(self._held, held)
        return True

    def state(self) -> Value:
        """What was drawn, and the documents."""
        ordered = sorted(self._held, key=_drawn, reverse=True)
        return [[-drawn, document] for drawn, _, document, _ in ordered]

    def absorb(self, state: Value) -> bool:
        """Take the sample of another."""
        for drawn, document in state:
            self._take(drawn, document)
        return True

    def end(self) -> None:
        """Hand the sample on, in the order of the draw."""
        assert self._sink is not None, "a part of a sample has only its state"
        for _, document in self.state():
            if not self._sink.push(document):
                break
        self._held.clear()
        self._sink.end()


def _first(item: tuple[Any, Value]) -> Any:
    return item[0]


def _drawn(item: tuple[int, int, Value, int]) -> tuple[int, int]:
    return item[0], item[1]


# --- members


def _member(document: Value, path: Path) -> Value:
    for key in path:
        if not isinstance(document, dict):
            return MISSING
        document = document.get(key, MISSING)
    return document


def _beside(document: Value, path: Path) -> int:
    """How many values a document holds besides what is at a path through objects."""
    found = 0
    for key in path:
        for name, value in document.items():
            if name != key:
                found += weight(value, "$unwind", NO_BOUND)
        document = document.get(key)
    return found


def assigned(document: Value, path: Path, value: Value) -> Value:
    """A copy in which the path holds this value (MISSING: nothing); through an array, in each of its
    elements.
    """
    if isinstance(document, list):
        return [assigned(item, path, value) for item in document]
    if value is MISSING and not isinstance(document, dict):
        return document
    members = document if isinstance(document, dict) else {}
    key = path[0]
    if len(path) > 1:
        if value is MISSING and not isinstance(members.get(key), (dict, list)):
            return document
        return {**members, key: assigned(members.get(key), path[1:], value)}
    if value is MISSING:
        return {name: item for name, item in members.items() if name != key}
    return {**members, key: value}
