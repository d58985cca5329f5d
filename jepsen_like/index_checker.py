"""The judge of reads by predicate: was each answer complete and exact?

Rows are registers: writes of one row have unique numbers, a delete is a write of nothing. At a read, a row
may be in the state that any write left that was not certainly undone: one that did not fail, began before the
read ended, and was not followed by another that was acknowledged before the read began. So of an answer to
"all rows with property p" two things can be said for certain: a row that it holds must have been in that
state (`phantom`, `stale`), and a row that it lacks must possibly have been in one without p (`missing`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jepsen_like.checkers import Problem
from jepsen_like.history import FAIL, OK, Operation

State = Any
"""What a write left: its `value`; None for a delete, and before any write."""


class _Row:
    """The writes of one row, by when they were invoked."""

    def __init__(self, writes: Sequence[Operation]) -> None:
        self.writes = [write for write in writes if write.status != FAIL]
        done = sorted((write for write in self.writes if write.status == OK), key=lambda w: w.completed)
        self._completed = [write.completed for write in done]
        self._newest: list[int] = []
        """Of those acknowledged up to each: the latest invocation."""
        latest = -1
        for write in done:
            latest = max(latest, write.invoked)
            self._newest.append(latest)

    def possible(self, began: int, ended: int) -> list[Operation | None]:
        """The writes whose state a read in this time may have met; None: that before all."""
        at = bisect_left(self._completed, began)
        newest = self._newest[at - 1] if at else -1
        found: list[Operation | None] = [None] if newest < 0 else []
        for write in self.writes:
            if write.invoked >= ended:
                break
            if write.completed > newest:
                found.append(write)
        return found


def judge_answers(
    writes: Iterable[Operation], reads: Iterable[Operation], holds: Callable[[Operation, State], bool]
) -> list[Problem]:
    """Judge reads whose `result` is a list of (row, state); `holds(read, state)`: whether it asks for that.

    Writes have the row as `key` and the state as `value`. Names of problems: missing, phantom, stale, wrong
    (a state that the read does not ask for), duplicated.
    """
    by_row: dict[Any, list[Operation]] = {}
    for write in writes:
        by_row.setdefault(write.key, []).append(write)
    rows = {key: _Row(sorted(of, key=lambda write: write.invoked)) for key, of in by_row.items()}
    problems: list[Problem] = []
    for read in reads:
        if read.status == OK:
            problems += _judge(read, rows, holds)
    return problems


def _judge(
    read: Operation, rows: Mapping[Any, _Row], holds: Callable[[Operation, State], bool]
) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[Any, bool] = {}
    for key, state in read.result:
        if key in seen:
            problems.append(Problem("duplicated", f"{key} twice in {read!r}"))
        seen[key] = True
        if not holds(read, state):
            problems.append(Problem("wrong", f"{key} is {state}, which was not asked for, in {read!r}"))
        row = rows.get(key)
        if row is None or all(write.value != state for write in row.writes):
            problems.append(Problem("phantom", f"nobody wrote {state} to {key}, found by {read!r}"))
            continue
        possible = row.possible(read.invoked, read.completed)
        if not any(write is not None and write.value == state for write in possible):
            problems.append(Problem("stale", f"{key} was {state} in {read!r}, could be one of {possible}"))
    for key, row in rows.items():
        if key in seen:
            continue
        possible = row.possible(read.invoked, read.completed)
        if all(
            write is not None and write.value is not None and holds(read, write.value) for write in possible
        ):
            problems.append(Problem("missing", f"{key} not in {read!r}, though it was one of {possible}"))
    return problems
