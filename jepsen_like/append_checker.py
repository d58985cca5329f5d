"""Judges lists to which unique elements are appended, one conditional update each.

What a read shows is the whole history of its key, so the order of all updates is plain to see and judging is
linear: every read must be a beginning of the longest one. It finds forks (two orders), lost and doubled
updates, elements from nowhere, reads and updates that do not see what was acknowledged before they began,
and an update whose unknown end a SERIAL read had settled as "not applied" and that came all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.history import FAIL, OK, Operation


class Settled(NamedTuple):
    """An append that its coordinator gave up as unknown, and a SERIAL read that began after that."""

    append: Operation
    read: Operation


def appends(by_key: Mapping[object, list[Operation]], settled: Iterable[Settled]) -> list[Problem]:
    """Judge each key: `append` has its element as `value`; a `read` brings the tuple of elements."""
    problems: list[Problem] = []
    for key, operations in by_key.items():
        problems += _list(key, operations)
    for append, read in settled:
        longest = _longest(by_key[append.key])
        if read.status == OK and append.value not in read.result and append.value in longest:
            problems.append(Problem("unsettled", f"{read!r} settled {append!r}, which came later"))
    return problems[:PROBLEMS_MAX]


def _longest(operations: list[Operation]) -> tuple[int, ...]:
    reads = [op.result for op in operations if op.kind == "read" and op.status == OK]
    return max(reads, key=len, default=())


def _list(key: object, operations: list[Operation]) -> list[Problem]:
    longest = _longest(operations)
    position = {element: index for index, element in enumerate(longest)}
    added = {op.value: op for op in operations if op.kind == "append"}
    last = max((op.invoked for op in operations if op.kind == "read" and op.status == OK), default=-1)
    problems = []
    if len(position) < len(longest):
        problems.append(Problem("duplicated", f"{key}: {longest}"))
    for element in longest:
        append = added.get(element)
        if append is None or append.status == FAIL:
            problems.append(Problem("phantom", f"{key}: {element} is there, but {append!r}"))
    problems += [
        Problem("lost", f"{key}: {append!r} is not in {longest}")
        for append in added.values()
        if append.status == OK and append.value not in position and append.completed < last
    ]
    problems += [
        Problem("forked", f"{op!r} is no beginning of {longest}")
        for op in operations
        if op.kind == "read" and op.status == OK and op.result != longest[: len(op.result)]
    ]
    return problems or _in_real_time(operations, position)


def _in_real_time(operations: list[Operation], position: Mapping[int, int]) -> list[Problem]:
    """Whether what ended before another began comes before it: `known` is how much had."""
    problems = []
    # What no read shows that began later (the final one did not come) has no place to be judged by.
    placed = [op for op in operations if op.kind == "read" or op.value in position]
    ended = sorted((op for op in placed if op.status == OK), key=lambda op: op.completed)
    known, at = 0, 0
    last: Operation | None = None
    for op in sorted(operations, key=lambda op: op.invoked):
        while at < len(ended) and ended[at].completed < op.invoked:
            reach = _reach(ended[at], position)
            if reach > known:
                known, last = reach, ended[at]
            at += 1
        seen = op.kind == "append" and op.value in position
        if (seen or (op.kind == "read" and op.status == OK)) and _reach(op, position) - seen < known:
            problems.append(Problem("stale", f"{op!r} came before {last!r}, which had ended"))
        if op.kind == "read" and op.status == OK:
            late = [one for one in operations if one.kind == "append" and one.invoked > op.completed]
            if any(one.value in op.result for one in late):
                problems.append(Problem("phantom", f"{op!r} shows what was not yet begun"))
    return problems


def _reach(op: Operation, position: Mapping[int, int]) -> int:
    """How many elements the list had after this operation."""
    return len(op.result) if op.kind == "read" else position[op.value] + 1
