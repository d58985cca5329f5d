"""Judges of histories. Each takes what was recorded and gives the problems it sees; none means that it is
fine.

`set_full` follows Jepsen's checker of that name: per element, from all reads that could show it. `register`
decides for reads at QUORUM whether each saw the last acknowledged write or one that was under way, and
never less than an earlier read. `stats` keeps a run from passing because nothing worked. All are linear in
the history, or nearly so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from core.cell import NO_VERSION, Version
from jepsen_like.history import FAIL, INFO, NEVER, OK, PENDING, History, Operation

PROBLEMS_MAX = 20
"""So many are told; the rest is counted."""


class Problem(NamedTuple):
    """One thing that must not be."""

    name: str
    text: str


class Sighting(NamedTuple):
    """One read of a set: what it looked at is [first, end) of elements, what it saw are `seen` (in order)."""

    operation: Operation
    first: int
    end: int
    seen: tuple[int, ...]


class SetResult(NamedTuple):
    """Counts of `set_full`, and its problems."""

    acknowledged: int
    unknown: int
    present: int
    recovered: int
    never_read: int
    problems: list[Problem]


def set_full(
    adds: Iterable[Operation], sightings: Iterable[Sighting], finals: Iterable[Sighting]
) -> SetResult:
    """Judge a set of integers: adds have it as `value`; `finals` are the last reads and cover everything.

    lost: known (acknowledged, or seen by a read) and absent from a final read. stale: known before a read
    began that lacks it. unexpected: seen, but never added or certainly not. duplicated: twice in one read.
    never_read counts acknowledged elements that no read covered, which makes the test weak and so is a
    problem too.
    """
    added = {add.value: add for add in adds}
    known_at = {value: add.completed for value, add in added.items() if add.status == OK}
    problems: list[Problem] = []
    covered: dict[int, bool] = {}
    everything = [*sightings, *finals]
    for sighting in everything:
        problems += _strange(sighting, added)
        for value in sighting.seen:
            known_at[value] = min(known_at.get(value, NEVER), sighting.operation.completed)
    known = sorted(known_at)
    for sighting in everything:
        problems += _missing(sighting, known, known_at, covered)
    final = frozenset(value for sighting in finals for value in sighting.seen)
    acknowledged = [value for value, add in added.items() if add.status == OK]
    never_read = sum(value not in covered for value in acknowledged)
    if never_read:
        problems.append(Problem("never_read", f"{never_read} acknowledged elements were never looked for"))
    unknown = [value for value, add in added.items() if add.status in (INFO, PENDING)]
    recovered = sum(value in final for value in unknown)
    return SetResult(len(acknowledged), len(unknown), len(final), recovered, never_read, problems)


def _strange(sighting: Sighting, added: Mapping[int, Operation]) -> list[Problem]:
    problems = []
    previous: dict[int, bool] = {}
    for value in sighting.seen:
        add = added.get(value)
        if value in previous:
            problems.append(Problem("duplicated", f"{value} twice in {sighting.operation!r}"))
        previous[value] = True
        if add is None or add.invoked > sighting.operation.completed:
            problems.append(Problem("unexpected", f"{value} was not added before {sighting.operation!r}"))
        elif add.status == FAIL:
            problems.append(Problem("unexpected", f"{value} failed ({add!r}) but was seen"))
    return problems


def _missing(
    sighting: Sighting, known: list[int], known_at: Mapping[int, int], covered: dict[int, bool]
) -> list[Problem]:
    problems = []
    seen = frozenset(sighting.seen)
    began = sighting.operation.invoked
    for value in known[bisect_left(known, sighting.first) : bisect_left(known, sighting.end)]:
        if known_at[value] >= began:
            continue
        covered[value] = True
        if value not in seen:
            name = "lost" if sighting.operation.kind.startswith("final") else "stale"
            problems.append(
                Problem(name, f"{value} was known at {known_at[value]}, not in {sighting.operation!r}")
            )
    return problems


class Seen(NamedTuple):
    """What a read of a register returned: the value (None: nothing) and the version it carries."""

    value: int | None
    version: Version


def register(operations: Iterable[Operation], monotonic: bool = True) -> list[Problem]:
    """Judge registers by `key`; see `registers`."""
    by_key: dict[object, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    return registers(by_key, monotonic)


def registers(by_key: Mapping[object, list[Operation]], monotonic: bool = True) -> list[Problem]:
    """Judge registers, given all that touched each.

    `write` has a unique `value` and its version as result, `delete` a version (it may stand in many lists),
    `read` a `Seen`. phantom: a value that nobody wrote there, or whose write certainly failed. stale: between
    what a read returned and the read, something else was invoked and acknowledged (a value that a delete
    should have taken is a ghost). back: an earlier read (if reads are `monotonic`), or an acknowledged write,
    had a greater version.
    """
    problems: list[Problem] = []
    for operations in by_key.values():
        problems += _register(operations, monotonic)
    return problems


def _register(operations: list[Operation], monotonic: bool) -> list[Problem]:
    writes = {op.value: op for op in operations if op.kind == "write"}
    deletes = [op for op in operations if op.kind == "delete" and op.status != FAIL]
    ends = sorted((op for op in operations if op.status == OK), key=lambda op: op.completed)
    reads = [op for op in operations if op.kind == "read" and op.status == OK]
    problems: list[Problem] = []
    newest: Operation | None = None  # of what was acknowledged so far, the one invoked last
    greatest: Version = NO_VERSION
    greatest_of: Operation | None = None
    at = 0
    for read in sorted(reads, key=lambda op: op.invoked):
        while at < len(ends) and ends[at].completed < read.invoked:
            done = ends[at]
            at += 1
            version = done.result.version if done.kind == "read" else done.result
            if done.kind != "read" and (newest is None or done.invoked > newest.invoked):
                newest = done
            if version > greatest and (monotonic or done.kind != "read"):
                greatest, greatest_of = version, done
        seen: Seen = read.result
        if seen.value is None:
            source_completed = max(
                (op.completed for op in deletes if op.invoked < read.completed), default=-1
            )
        else:
            source = writes.get(seen.value)
            if source is None or source.status == FAIL or source.invoked > read.completed:
                problems.append(Problem("phantom", f"{read!r} saw what was not written: {source!r}"))
                continue
            source_completed = source.completed
        if newest is not None and source_completed < newest.invoked:
            name = "ghost" if newest.kind == "delete" else "stale"
            problems.append(Problem(name, f"{read!r}, but {newest!r} was acknowledged"))
        if seen.version < greatest and not (seen.value is None and deletes):
            problems.append(Problem("back", f"{read!r} went back behind {greatest} of {greatest_of!r}"))
    return problems


def stats(history: History, kinds: Iterable[str]) -> list[Problem]:
    """A kind of operation that never worked proves nothing."""
    counts = history.counts()
    return [
        Problem("stats", f"no {kind} ever worked: {counts.get(kind)}")
        for kind in kinds
        if counts.get(kind, {}).get(OK, 0) == 0
    ]
