"""The shortest part of a failing history that still fails, as far as parts can be left out soundly.

A part is judged by the workload itself. What is tried: the operations of one key alone; the shortest
beginning of the history (what ends later is then of unknown end, what begins later is not there); and
without each operation that only looks. None of these can make a history fail that did not: of what
happened, less was seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from jepsen_like.checkers import Problem
from jepsen_like.history import INFO, NEVER, OK, Operation

Judge = Callable[[Sequence[Operation]], list[Problem]]

LOOKING = ("read", "get", "page", "look", "probe_read", "read_serial", "read_quorum")
JUDGEMENTS_MAX = 400
"""A report is not to take minutes."""


class _Tries:
    """Counts judgements, and says whether a part still fails by the same name."""

    def __init__(self, judge: Judge, name: str) -> None:
        self.left = JUDGEMENTS_MAX
        self._judge = judge
        self._name = name

    def fails(self, operations: Sequence[Operation]) -> bool:
        """False also when nothing more may be tried."""
        if self.left <= 0:
            return False
        self.left -= 1
        return any(problem.name == self._name for problem in self._judge(operations))


def shortest(operations: Sequence[Operation], judge: Judge, name: str) -> list[Operation]:
    """The part that is left of a history that fails by `name`; all of it if it does not fail by itself."""
    tries = _Tries(judge, name)
    left = list(operations)
    if not tries.fails(left):
        return left
    left = _of_one_key(left, tries)
    left = _beginning(left, tries)
    return _without_looking(left, tries)


def _of_one_key(operations: list[Operation], tries: _Tries) -> list[Operation]:
    by_key: dict[str, list[Operation]] = {}
    for op in operations:
        by_key.setdefault(repr(op.key), []).append(op)
    for part in sorted(by_key.values(), key=len):
        if len(part) < len(operations) and tries.fails(part):
            return part
    return operations


def until(operations: Sequence[Operation], position: int) -> list[Operation]:
    """What was known at this position of the history."""
    known = []
    for op in operations:
        if op.invoked > position:
            continue
        if op.completed > position and op.status == OK:
            op = copy.copy(op)
            op.status, op.completed, op.result = INFO, NEVER, None
        known.append(op)
    return known


def _beginning(operations: list[Operation], tries: _Tries) -> list[Operation]:
    ends = sorted(op.completed for op in operations if op.completed != NEVER)
    low, high = 0, len(ends) - 1
    if high < 0 or not tries.fails(until(operations, ends[high])):
        return operations
    while low < high:
        middle = (low + high) // 2
        if tries.fails(until(operations, ends[middle])):
            high = middle
        else:
            low = middle + 1
    return until(operations, ends[high])


def _without_looking(operations: list[Operation], tries: _Tries) -> list[Operation]:
    """Halves of what only looks are tried first, then quarters, and so on to single ones."""
    looks = [op for op in operations if op.kind in LOOKING]
    left, size = operations, max(1, len(looks) // 2)
    while looks:
        for at in range(0, len(looks), size):
            out = {id(op): True for op in looks[at : at + size]}
            fewer = [op for op in left if id(op) not in out]
            if len(fewer) < len(left) and tries.fails(fewer):
                left = fewer
        looks = [op for op in left if op.kind in LOOKING]
        if size == 1:
            break
        size = max(1, size // 2)
    return left
