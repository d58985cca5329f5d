"""What a store has lost: ranges of rows whose bytes were damaged, until other replicas gave them back.

Opening a database whose bytes are damaged copies what can be read (lsm/salvage.py) and notes, in system
records `lost/`, between which rows something may be missing. As long as a note stands, nothing in its range
counts towards any level: reads, hashes, Paxos steps and increments are refused with `Why.MENDING`, and a
mutation is applied, since it does no harm, but not acknowledged. A replica that forgot what it acknowledged,
or a promise that it gave, would else make a quorum of two out of one. node/mending.py takes a note away when
enough of the other replicas have been merged.

Only who mends reads such a range itself, and says so (`lost_too`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from core.commands import (
    Find,
    MergeRows,
    PaxosAccept,
    PaxosCommit,
    PaxosFetch,
    PaxosPrepare,
    Read,
    Sweep,
    TreeHashes,
)
from core.healing import PaxosScan, ReadLeaves
from core.ports import Engine
from lsm import keys
from lsm.hash_tree import LEAVES, leaf_of

if TYPE_CHECKING:
    from lsm.store import Plan

LOST_PREFIX: Final = b"lost/"
TABLE_MAX: Final = 2**32 - 1

Span = tuple[int | None, int, int]
"""(table, first leaf, end leaf); None stands for what is not rows."""


class Lost(msgspec.Struct, frozen=True, array_like=True):
    """Something from the first to the last (table, leaf of the hash tree), both included, may be missing."""

    first_table: int
    first_leaf: int
    last_table: int
    last_leaf: int

    def hits(self, table: int, first: int, end: int) -> bool:
        """Whether it touches the leaves [first, end) of a table."""
        return (self.first_table, self.first_leaf) <= (table, end - 1) and (table, first) <= (
            self.last_table,
            self.last_leaf,
        )

    def leaves_of(self, table: int, leaves: int) -> tuple[int, int]:
        """The leaves [first, end) of a table in it; equal if there are none."""
        if not self.first_table <= table <= self.last_table:
            return 0, 0
        first = self.first_leaf if table == self.first_table else 0
        end = self.last_leaf + 1 if table == self.last_table else leaves
        return first, end


def decode_lost(data: bytes) -> Lost:
    """The value of a note; raises msgspec.DecodeError for anything else."""
    return msgspec.msgpack.decode(data, type=Lost)


def encode_lost(lost: Lost) -> bytes:
    """The value of a note."""
    return msgspec.msgpack.encode(lost)


class LostRanges:
    """The notes of one store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.ranges: Sequence[Lost] = ()
        self.reload()

    def reload(self) -> None:
        """Read what is noted."""
        first = keys.system_key(LOST_PREFIX)
        self.ranges = tuple(decode_lost(v) for _, v in self._engine.scan(first, keys.successor(first)))

    def hits(self, spans: Iterable[Span]) -> bool:
        """Whether something of these may be missing."""
        return any(
            lost.hits(table, first, end)
            for table, first, end in spans
            if table is not None
            for lost in self.ranges
        )


class Damage(msgspec.Struct, frozen=True):
    """Leaves [first, end) of a table's hash tree lie in damaged bytes; `table` is None for what is not
    rows.
    """

    table: int | None
    first: int
    end: int
    text: str


def where(plan: Plan) -> list[Span]:
    """The slices of the hash tree that a plan reads; (None, 0, 0) for what is not rows."""
    command = plan.command
    if plan.mutation is not None:
        leaf = leaf_of(plan.mutation.token)
        return [(plan.mutation.table, leaf, leaf + 1)]
    if isinstance(command, Read):
        wanted = command.slice
        if wanted.point or wanted.partition:
            leaf = leaf_of(keys.token_of(wanted.first))
            return [(wanted.table, leaf, leaf + 1)]
        first = leaf_of(keys.token_of(wanted.first)) if len(wanted.first) >= 13 else 0
        inside = wanted.end.startswith(keys.table_prefix(wanted.table)) and len(wanted.end) >= 13
        end = LEAVES
        if inside:  # no row has the token of an end that is no more than a token
            end = leaf_of(keys.token_of(wanted.end) - (len(wanted.end) == 13)) + 1
        return [(wanted.table, first, end)]
    if isinstance(command, MergeRows):
        leaves = sorted({leaf_of(keys.token_of(key)) for key, _ in command.rows})
        return [(command.table, leaf, leaf + 1) for leaf in leaves]
    if isinstance(command, PaxosPrepare | PaxosAccept | PaxosCommit | PaxosFetch | Sweep):
        leaf = leaf_of(keys.token_of(command.partition))
        return [(command.table, leaf, leaf + 1)]
    if isinstance(command, TreeHashes | ReadLeaves):
        return [(command.table, *span) for span in command.spans]
    if isinstance(command, Find):
        spans = ((command.first_token, command.last_token), *command.also)
        return [(command.table, leaf_of(first), leaf_of(last) + 1) for first, last in spans]
    if isinstance(command, PaxosScan):
        return [(command.table, leaf_of(command.first_token), leaf_of(command.last_token) + 1)]
    return [(None, 0, 0)]
