"""Store commands and outcomes of healing: raising floors and purging below them (lsm/floors.py,
lsm/purge.py), reading everything (lsm/scrub.py), taking over what others keep of Paxos (lsm/paxos_moving.py).
"""

from __future__ import annotations

import enum

import msgspec

FloorParts = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
"""Per table, inclusive token ranges."""


class FloorStep(enum.IntEnum):
    """The steps of a round, in their order."""

    PROMISE = 0
    SETTLE = 1
    END = 2


class RaiseFloor(msgspec.Struct, frozen=True):
    """Take this step of a round, for a floor at this time; answered with Done or FloorBlocked."""

    step: FloorStep
    floor_us: int
    parts: FloorParts


class FloorBlocked(msgspec.Struct, frozen=True):
    """(table, key prefix) of partitions in which a proposal admitted before is neither committed nor given
    up.
    """

    partitions: tuple[tuple[int, bytes], ...]


class GarbageDue(msgspec.Struct, frozen=True):
    """Whether anything in these ranges is dead by then; answered with IsDue."""

    until_us: int
    parts: FloorParts


class IsDue(msgspec.Struct, frozen=True):
    """Whether there is something to purge; `heights` are (promised, settled, floor), the least of the
    ranges.
    """

    due: bool
    heights: tuple[int, int, int]


class Purge(msgspec.Struct, frozen=True):
    """Remove what is dead below the floor of these tokens (inclusive): so many notes after one are looked
    at.
    """

    table: int
    first_token: int
    last_token: int
    after: bytes
    rows_max: int


class Purged(msgspec.Struct, frozen=True):
    """`changed` records have less in them; go on after the note `after`, or done if it is empty."""

    after: bytes
    looked_at: int
    changed: int


# --- Paxos, taken over


class PaxosState(msgspec.Struct, frozen=True, array_like=True):
    """All that a replica keeps of Paxos for one partition (its key prefix), in the bytes in which it does.

    `proposal` is what is accepted, `commit` what was committed last (b"": none).
    """

    partition: bytes
    ballots: bytes
    proposal: bytes
    commit: bytes


class PaxosScan(msgspec.Struct, frozen=True):
    """The PaxosState of partitions with these tokens (inclusive) after one; answered with PaxosPage."""

    table: int
    first_token: int
    last_token: int
    after: bytes
    rows_max: int
    bytes_max: int


class PaxosMerge(msgspec.Struct, frozen=True):
    """Know all that these states of another replica say, too."""

    table: int
    states: tuple[PaxosState, ...]


class PaxosPage(msgspec.Struct, frozen=True):
    """States in key order; go on after the partition `after`, unless it is empty."""

    states: tuple[PaxosState, ...]
    after: bytes


# --- scrubbing


class Scrub(msgspec.Struct, frozen=True):
    """Read and check the next records of everything that is stored, after a key; see lsm/scrub.py."""

    after: bytes
    rows_max: int
    bytes_max: int


class Scrubbed(msgspec.Struct, frozen=True):
    """`records` were read; go on after `after` unless it is empty. `problems` are put right already."""

    after: bytes
    records: int
    bytes: int
    problems: tuple[str, ...]


class ReadLeaves(msgspec.Struct, frozen=True):
    """The rows of some runs of leaves [first, end) of a table, in their order, behind the key `after` up to
    the key `until` (b"": to the end). Answered with core.commands.Rows, cut at the limits of a slice.

    Who mends asks for what may lack rows, too (`lost_too`, lsm/lost.py).
    """

    table: int
    spans: tuple[tuple[int, int], ...]
    after: bytes
    until: bytes
    lost_too: bool = False


HealingCommand = RaiseFloor | GarbageDue | Purge | PaxosScan | PaxosMerge | Scrub | ReadLeaves
HealingOutcome = FloorBlocked | IsDue | Purged | PaxosPage | Scrubbed
