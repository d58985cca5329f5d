"""Floors: below which time deletions are over and done with, per table and range of tokens.

A round among all replicas of a range (node/floors.py) raises three times in turn, each durable here:

- *promised*: no mutation admitted at or before it is applied here any more, but for those that a sibling has
  logged and that are followed, and proposals that were accepted and have to be finished;
- *settled*: after all had promised, all siblings' logs were followed to their end. Whatever was admitted by
  then
  and is anywhere, is here;
- *floor*: all have settled. What is dead since then may go, from each replica at its own time.

So `floor <= settled <= promised`. Cells that come without their mutation (read repair, hash trees) carry the
least `settled` of the replicas that they were read from: a replica that has settled holds all deletions up to
there, so nothing that it shows can be something that was deleted. At a higher floor here they are refused. No
clock is compared for it.

In a store this is one system record per table, `floor/ | table u32`: `FloorRange`s in order of leaves of the
hash tree, which end where vnodes do. Whoever moves a range merges the records of those that it is moved from
by `merged`, durably, before it applies or serves anything of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from core.commands import NO_BALLOT, Done, Failed, Outcome, PaxosAccept, PaxosRefused, Rows, Why
from core.errors import CorruptionError
from core.healing import FloorBlocked, FloorParts, FloorStep, RaiseFloor
from core.mutation import decode_mutation
from core.ports import Engine
from lsm import keys
from lsm.dead_runs import DeadRuns
from lsm.hash_tree import leaf_of
from lsm.lost import Span

FLOOR_PREFIX: Final = b"floor/"
BLOCKING_MAX: Final = 16
"""So many partitions with unfinished proposals are named at once."""


class FloorRange(msgspec.Struct, frozen=True, array_like=True):
    """Leaves [first, end) of a table; times in microseconds, of admission."""

    first: int
    end: int
    promised_us: int = 0
    settled_us: int = 0
    floor_us: int = 0

    @property
    def heights(self) -> tuple[int, int, int]:
        """What was promised, settled, and is over."""
        return self.promised_us, self.settled_us, self.floor_us


Ranges = tuple[FloorRange, ...]
NOWHERE: Final = FloorRange(0, 0)


def encode_ranges(ranges: Ranges) -> bytes:
    """The record of a table."""
    return msgspec.msgpack.encode(ranges)


def decode_ranges(data: bytes) -> Ranges:
    """The ranges of a record; raises msgspec.DecodeError for anything else."""
    return msgspec.msgpack.decode(data, type=Ranges)


def floor_key(table: int) -> bytes:
    """The system record of a table."""
    return FLOOR_PREFIX + table.to_bytes(4, "big")


def raised(ranges: Ranges, first: int, end: int, step: FloorStep, time_us: int) -> Ranges:
    """The ranges with one height of the leaves [first, end) at least `time_us`; pure."""
    found: list[FloorRange] = []
    at = first
    for one in ranges:
        if one.end <= first or one.first >= end:
            found.append(one)
            continue
        if one.first < first:
            found.append(msgspec.structs.replace(one, end=first))
        if at < one.first:
            found.append(_higher(FloorRange(at, one.first), step, time_us))
        inside = msgspec.structs.replace(one, first=max(first, one.first), end=min(end, one.end))
        found.append(_higher(inside, step, time_us))
        at = inside.end
        if one.end > end:
            found.append(msgspec.structs.replace(one, first=end))
    if at < end:
        found.append(_higher(FloorRange(at, end), step, time_us))
    return _joined(found)


def merged(one: Ranges, other: Ranges) -> Ranges:
    """At every leaf the greater of both in each height: what a replica keeps to that takes over from
    others.
    """
    for part in other:
        for step, time_us in zip(FloorStep, part.heights, strict=True):
            if time_us:
                one = raised(one, part.first, part.end, step, time_us)
    return one


def _higher(one: FloorRange, step: FloorStep, time_us: int) -> FloorRange:
    promised, settled, floor = one.heights
    if step is FloorStep.PROMISE:
        promised = max(promised, time_us)
    elif step is FloorStep.SETTLE:
        settled = max(settled, time_us)
    else:
        floor = max(floor, time_us)
    return FloorRange(one.first, one.end, promised, settled, floor)


def _joined(ranges: Iterable[FloorRange]) -> Ranges:
    found: list[FloorRange] = []
    for one in sorted(ranges, key=lambda one: one.first):
        if found and found[-1].end == one.first and found[-1].heights == one.heights:
            found[-1] = msgspec.structs.replace(found[-1], end=one.end)
        else:
            found.append(one)
    return tuple(found)


class Floors:
    """The floors of one store, in memory as they are on disk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._firsts: dict[int, list[int]] = {}
        self.tables: dict[int, Ranges] = {}
        """By table; empty as long as there never was a round."""
        self.dead_runs = DeadRuns()
        self.reload()

    def reload(self) -> None:
        """Read all records."""
        self.tables, self._firsts = {}, {}
        first = keys.system_key(FLOOR_PREFIX)
        for key, value in self._engine.scan(first, keys.successor(first)):
            self._set(int.from_bytes(key[-4:], "big"), decode_ranges(value))

    def _set(self, table: int, ranges: Ranges) -> None:
        self.tables[table] = ranges
        self._firsts[table] = [one.first for one in ranges]

    def forget(self, tables: Iterable[int]) -> None:
        """The records of these tables are gone."""
        for table in tables:
            del self.tables[table], self._firsts[table]

    def at(self, table: int, leaf: int) -> FloorRange:
        """The heights at one leaf."""
        firsts = self._firsts.get(table)
        if not firsts:
            return NOWHERE
        at = bisect_right(firsts, leaf) - 1
        found = self.tables[table][at] if at >= 0 else NOWHERE
        return found if leaf < found.end else NOWHERE

    def refuses(self, table: int, token: int, admitted_us: int, *, followed: bool) -> int:
        """The time up to which mutations not met before are refused there, if this one is; else 0."""
        here = self.at(table, leaf_of(token))
        limit_us = here.floor_us if followed else here.promised_us
        return limit_us if admitted_us <= limit_us else 0

    def tagged(self, rows: Rows, span: Span) -> Rows:
        """Rows of these leaves with the time up to which they take account of everything."""
        table, first, end = span
        assert table is not None, "rows of a table"
        return msgspec.structs.replace(rows, settled_us=self.settled(table, first, end))

    def refusal(self, step: PaxosAccept) -> tuple[Outcome, int] | None:
        """The outcome of a proposal that is not accepted any more; None if it may be."""
        if not step.proposal or not self.tables:
            return None
        token = keys.token_of(step.partition)
        here = self.at(step.table, leaf_of(token))
        limit_us = here.settled_us if step.again else here.promised_us
        if not limit_us or _admitted(step.partition, step.proposal) > limit_us:
            return None
        return PaxosRefused((limit_us, 0), NO_BALLOT), 0

    def least(self, parts: FloorParts) -> tuple[int, int, int]:
        """The least of each height over these ranges."""
        found: list[tuple[int, int, int]] = []
        for table, pairs in parts:
            for first_token, last_token in pairs:
                at, end = leaf_of(first_token), leaf_of(last_token) + 1
                for one in self.tables.get(table, ()):
                    if at < end and one.first <= at < one.end:
                        found.append(one.heights)
                        at = one.end
                if at < end:
                    return 0, 0, 0
        if not found:
            return 0, 0, 0
        return min(h[0] for h in found), min(h[1] for h in found), min(h[2] for h in found)

    def settled(self, table: int, first: int, end: int) -> int:
        """Up to when all that was admitted is here, for all of the leaves [first, end)."""
        least, at = 2**63 - 1, first
        for one in self.tables.get(table, ()):
            if one.end <= first or one.first >= end:
                continue
            if one.first > at:
                return 0
            least, at = min(least, one.settled_us), one.end
        return least if at >= end else 0

    def pieces(self, table: int, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The leaves [first, end) cut where heights change: (first, end, settled)."""
        at = first
        for one in self.tables.get(table, ()):
            if one.end <= at or one.first >= end:
                continue
            if at < one.first:
                yield at, one.first, 0
            at = min(one.end, end)
            yield max(first, one.first), at, one.settled_us
        if at < end:
            yield at, end, 0

    # --- the steps of a round

    def step(
        self, command: RaiseFloor
    ) -> tuple[Outcome, list[tuple[bytes, bytes | None]], dict[int, Ranges]]:
        """What a step of a round comes to: the outcome, what to write, and what then is in memory (`commit`).

        A promise waits for proposals that were accepted and are neither committed nor given up; so does
        settling.
        """
        time_us = command.floor_us
        if command.step is not FloorStep.END:
            blocking = self._unfinished(command)
            if blocking:
                return FloorBlocked(tuple(blocking)), [], {}
        new: dict[int, Ranges] = {}
        for table, pairs in command.parts:
            ranges = self.tables.get(table, ())
            for first_token, last_token in pairs:
                first, end = leaf_of(first_token), leaf_of(last_token) + 1
                if (
                    command.step is not FloorStep.PROMISE
                    and self._least(table, first, end, command.step) < time_us
                ):
                    text = f"table {table} has not been brought to {time_us} by the step before"
                    return Failed(Why.MALFORMED, text), [], {}
                ranges = raised(ranges, first, end, command.step, time_us)
            new[table] = ranges
        puts: list[tuple[bytes, bytes | None]] = [
            (keys.system_key(floor_key(table)), encode_ranges(ranges)) for table, ranges in new.items()
        ]
        return Done(), puts, new

    def commit(self, new: dict[int, Ranges]) -> None:
        """What a step came to is written."""
        for table, ranges in new.items():
            self._set(table, ranges)

    def _least(self, table: int, first: int, end: int, step: FloorStep) -> int:
        """The least height that the step before `step` has reached on these leaves."""
        if step is FloorStep.END:
            return self.settled(table, first, end)
        least, at = 2**63 - 1, first
        for one in self.tables.get(table, ()):
            if at < end and one.first <= at < one.end:
                least, at = min(least, one.promised_us), one.end
        return least if at >= end else 0

    def _unfinished(self, command: RaiseFloor) -> Sequence[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for table, pairs in command.parts:
            for pair in pairs:
                for key, proposal in self._engine.scan(*keys.paxos_bounds(keys.PROPOSAL, table, *pair)):
                    if _admitted(key, proposal) <= command.floor_us:
                        found.append((table, keys.partition_of_paxos(key)))
                        if len(found) == BLOCKING_MAX:
                            return found
        return found


def _admitted(key: bytes, proposal: bytes) -> int:
    try:
        return decode_mutation(proposal).admitted_us
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptionError(f"proposal {key.hex()} does not decode: {error}") from error
