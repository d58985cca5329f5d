"""TTL indexes: documents are deleted some time after the date in them.

An index with `expire_after_s` has one entry for each document that holds a date at its path: the earliest, as
a number (index/entries_json.py `date_terms`). So what has expired is the beginning of the index, and looking
for it costs nothing while there is nothing. Every peer looks through its own entries, in passes `PASS_US`
apart, for documents of ranges whose first replica *that lives* it is; where two peers both think so, both do
it, which is no harm.

*Never a document whose date was moved on.* A candidate is read at QUORUM and judged as of now, its partial
index's filter included; then exactly what was read is deleted: the tombstone lies just above the newest
version read. A write that nobody had read yet is newer, and stays. It stays whole, because in a collection
with such an index every edit writes the whole document (documents/operations.py). Where there are unique
indexes too, writes are decided one after the other, and so is the deletion.

A deletion is one like any other: subscribers see it, searches and indexes follow it. Until it is done the
document is there: at most a pass late, if the peers live and do not have more to delete than they can (each
deletes `AT_ONCE` at a time). What is not built, or cannot be read or written at QUORUM now, waits for the
next pass.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from core import limits
from core.cell import Version
from core.commands import Candidates, Find, Outcome
from core.consistency import Level
from core.mutation import DELETE
from core.requests import (
    Answer,
    ConditionalRequest,
    Judged,
    PartRead,
    ReadRequest,
    RowsRead,
    RowWrite,
    WriteRequest,
    Written,
)
from core.row import Row, decode_row, newest_version
from index.entries import Compiled, RowView
from index.entries_json import NUMBER, value_term
from lsm.keys import ROW_SUFFIX, TOKEN_MAX, TOKEN_MIN, split_row_key

if TYPE_CHECKING:
    from core.schema import Index, Table
    from node.index_building import IndexBuilding
    from node.unique_building import UniqueBuilding
    from node.writes import Writes

PASS_US: Final = 5 * limits.SECOND_US
"""From the end of a pass through the indexes to the beginning of the next."""
PAGE_PAUSE_US: Final = 10_000
PAGE_ROWS: Final = 100
AT_ONCE: Final = 16
_EARLIEST: Final = NUMBER + b"\x00"


def cut_off(index: Index, now_us: int) -> bytes:
    """The term of the latest date that has expired."""
    return value_term(now_us - index.expire_after_s * limits.SECOND_US)


def has_expired(index: Index, compiled: Compiled, key: bytes, row: Row, now_us: int) -> bool:
    """Whether the document in this row is to be deleted at `now_us`."""
    view = RowView(key, ROW_SUFFIX, row.cells, now_us)
    latest = cut_off(index, now_us)
    return view.is_there and any(_EARLIEST <= term <= latest for term in compiled.terms(view))


def deletion(table: int, key: bytes, newest: Version) -> WriteRequest:
    """Delete what is not newer than this, and nothing else."""
    rows = (RowWrite(ROW_SUFFIX, (), replace=True),)
    return WriteRequest(table, key, rows, Level.QUORUM, DELETE, timestamp_us=newest[0] + 1)


class Expiring:
    """Deletes what has expired and is this peer's to delete."""

    def __init__(self, beside: UniqueBuilding, writes: Writes, building: IndexBuilding) -> None:
        """Nothing is done before there is a TTL index; `beside` has the parts that it needs, too."""
        self._inside = beside.inside
        self._metadata = beside.metadata
        self._uniques = beside.uniques
        self._scans = beside.scans
        self._swim = beside.swim
        self._writes = writes
        self._building = building
        self._ticking = False
        self._todo: list[tuple[Table, Index]] = []
        self._place: tuple[bytes, bytes] = (b"", b"")
        self._candidates: list[bytes] = []
        self._under_way = 0
        self._beginning = False
        self._more = False
        self._inside.on_timer("expire", self._next_page)
        self._inside.on_stored("expire", self._on_found)
        self._metadata.on_adopted(self.start)

    def start(self) -> None:
        """Begin to look, if there is a TTL index."""
        if not self._ticking and self._indexes():
            self._ticking = True
            self._inside.timer(self._inside.world.below(PASS_US) + 1, "expire")

    def _indexes(self) -> list[tuple[Table, Index]]:
        tables = self._metadata.state.tables
        found = [(tables[number], index) for number in sorted(tables) for index in tables[number].indexes]
        return [(table, index) for table, index in found if index.expire_after_s >= 0]

    # --- passes and pages

    def _next_page(self) -> None:
        """Look at the next entries; at the end of a pass begin another, if there are TTL indexes still."""
        if not self._todo:
            self._todo = [one for one in self._indexes() if self._building.is_built(one[1].id)]
        if not self._todo:
            self._rest()
            return
        table, index = self._todo[-1]
        now_us = self._inside.clock.now_us()
        term, key = self._place
        latest = cut_off(index, now_us)
        command = Find(
            table.id,
            index.id,
            ((_EARLIEST, latest + b"\x00"),),
            TOKEN_MIN,
            TOKEN_MAX,
            b"",
            term,
            key,
            PAGE_ROWS,
            limits.SLICE_BYTES_MAX,
            now_us,
        )
        self._inside.submit(("expire",), command)

    def _rest(self) -> None:
        self._ticking = bool(self._indexes())
        if self._ticking:
            self._inside.timer(PASS_US, "expire")

    def _on_found(self, outcome: Outcome) -> None:
        table, index = self._todo[-1]
        if not isinstance(outcome, Candidates):  # damaged, or dropped: the next pass tries again
            self._end_of_index()
            return
        self._place, self._more = (outcome.term, outcome.key), outcome.more
        compiled = self._compiled(table, index)
        now_us = self._inside.clock.now_us()
        for _, key, data in outcome.rows:
            partition = split_row_key(key)[2]
            mine = compiled is not None and self._is_mine(table, split_row_key(key)[1])
            if mine and compiled and has_expired(index, compiled, partition, decode_row(data), now_us):
                self._candidates.append(partition)
        self._candidates.reverse()
        self._delete_more()

    def _end_of_index(self) -> None:
        self._todo.pop()
        self._place = (b"", b"")
        if self._todo:
            self._inside.timer(PAGE_PAUSE_US, "expire")
        else:
            self._rest()

    def _compiled(self, table: Table, index: Index) -> Compiled | None:
        """The index made ready, if there still is one."""
        now = self._metadata.state.tables.get(table.id)
        made = () if now is None else self._uniques.indexed.of(now)
        return next((one for one in made if one.id == index.id), None)

    def _is_mine(self, table: Table, token: int) -> bool:
        placement = self._metadata.state.placement(table.id)
        replicas = () if placement is None else placement.replicas(token)
        first = next((peer for peer in replicas if self._swim.is_alive(peer)), None)
        return first == self._inside.identity.peer

    # --- deleting

    def _delete_more(self) -> None:
        if self._beginning:
            return  # one ended at once, as a quorum is away: whoever begins them looks for the end
        self._beginning = True
        while self._candidates and self._under_way < AT_ONCE:
            self._under_way += 1
            self._delete(self._candidates.pop())
        self._beginning = False
        if not self._under_way:
            if self._more:
                self._inside.timer(PAGE_PAUSE_US, "expire")
            else:
                self._end_of_index()

    def _done(self, answer: Answer) -> None:
        done = isinstance(answer, Written) or (isinstance(answer, Judged) and answer.applied)
        self._inside.count("documents_expired", int(done))
        self._under_way -= 1
        self._delete_more()

    def _delete(self, key: bytes) -> None:
        table, index = self._todo[-1]
        settings, now_us = self._inside.settings, self._inside.world.monotonic_us()
        compiled = self._compiled(table, index)
        if compiled is None:
            self._under_way -= 1  # dropped meanwhile
            return
        if self._metadata.state.tables[table.id].uniques:
            request = _decided(table.id, index, compiled, key)
            self._uniques.begin(request, now_us + settings.write_timeout_us, self._done)
            return
        read = ReadRequest(table.id, key, ROW_SUFFIX, b"", True, Level.QUORUM)
        then = partial(self._on_read, index, compiled, key)
        self._scans.read(read, now_us + settings.read_timeout_us, then)

    def _on_read(self, index: Index, compiled: Compiled, key: bytes, answer: Answer) -> None:
        if isinstance(answer, RowsRead) and answer.rows:
            table, row = self._todo[-1][0].id, answer.rows[0].row
            if has_expired(index, compiled, key, row, answer.now_us):
                until_us = self._inside.world.monotonic_us() + self._inside.settings.write_timeout_us
                self._writes.begin(deletion(table, key, newest_version(row)), until_us, self._done)
                return
        self._done(answer)


def _decided(table: int, index: Index, compiled: Compiled, key: bytes) -> ConditionalRequest:
    """The deletion as a conditional update."""

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
        for item in reads[0].rows:
            if has_expired(index, compiled, key, item.row, reads[0].now_us):
                rows = (RowWrite(ROW_SUFFIX, (), replace=True),)
                return WriteRequest(table, key, rows, Level.QUORUM, DELETE)
        return None

    return ConditionalRequest(table, key, (PartRead(ROW_SUFFIX),), decide, Level.QUORUM)
