"""Forgetting the oldest of a change log: by age, by size, and what is more than a table's share.

The log has one sequence, and goes from its old end as a whole. A table may have a *share*, in bytes: its
newest entries up to so many bytes are kept, whatever the size of the log, and what is older is nobody's to
read any more. Since entries of others stand between, an offset per table says up to where it is forgotten;
images there are removed, mutations stay for siblings that follow until the log's end comes by.

Bytes are counted by going through the entries once, behind whoever writes, and only if some table has a
share: per table in a bounded number of chunks, the oldest of which goes as soon as the others are enough.

The id of a mutation outlives its entry until the floor of its range has passed it (lsm/floors.py), by some
time: from then on the mutation is refused by its time, and need not be known any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from core.commands import Outcome
from core.limits import SECOND_US
from core.trimming import LogTrim, Share, Trimmed
from lsm import keys
from lsm.hash_tree import leaf_of
from lsm.log import FORGOTTEN_KEY, REPAIRED, ChangeLog, LogEntry

if TYPE_CHECKING:
    from core.ports import Engine
    from core.schema import Table
    from lsm.floors import Floors

TRIM_MAX: Final = 2_000
"""Entries looked at by each part of one LogTrim."""

CHUNKS: Final = 128
"""Into so many chunks a share is divided: it is kept to within one of them."""

REMOVE_EVERY: Final = 16
"""Records go by one range deletion for so many steps, as long as there is more to forget."""

IDS_KEPT_US: Final = 3_600 * SECOND_US
"""So far below the floor an id is forgotten: a write that is under way, for minutes at most, and is sent
again is still known.
"""

RUN_MIN: Final = 8
"""So many ids in a row go by a deletion of their range."""

GAP_MAX: Final = 16
"""Between two of those a coordinator made at most so many others, which may be replicated elsewhere."""


class Counted:
    """The bytes of one table's entries: `chunks` are (last offset, bytes), oldest first."""

    __slots__ = ("bytes_max", "chunks", "kept_from", "total")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.chunks: deque[tuple[int, int]] = deque()
        self.total = 0
        self.kept_from = 0
        """Behind this offset lies the share."""

    def add(self, offset: int, size: int) -> None:
        """The next entry."""
        chunks = self.chunks
        if chunks and chunks[-1][1] + size <= self.bytes_max // CHUNKS:
            chunks[-1] = (offset, chunks[-1][1] + size)
        else:
            chunks.append((offset, size))
        self.total += size
        while self.total - chunks[0][1] >= self.bytes_max:
            self.kept_from, gone = chunks.popleft()
            self.total -= gone


class Trimming:
    """Trims one log. `tables` says which tables there are."""

    def __init__(
        self, engine: Engine, log: ChangeLog, floors: Floors, tables: Callable[[int], Table | None]
    ) -> None:
        self._engine = engine
        self._log = log
        self._floors = floors
        self._tables = tables
        self.reload()

    def reload(self) -> None:
        """Count anew."""
        self._counted: dict[int, Counted] = {}
        self._counted_to = self._counted_bytes = 0
        self._unremoved = 1
        """Steps whose records are there yet; a crash may have left some."""

    def run(self, wanted: LogTrim) -> tuple[Outcome, int]:
        """The command, as the store does it."""
        return self.trim(wanted), self._engine.written()

    def trim(self, wanted: LogTrim) -> Trimmed:
        """Do a bounded piece of what is wanted."""
        is_counted = not wanted.shares or self._count(wanted.shares)
        is_bare = True
        for share in wanted.shares:
            is_bare = self._forget_share(share) and is_bare
        forgotten, is_cut = self._forget(wanted)
        return Trimmed(forgotten, is_cut or not (is_counted and is_bare))

    # --- shares

    def _count(self, shares: tuple[Share, ...]) -> bool:
        """Go on counting; True at the log's end."""
        if {share.table: share.bytes_max for share in shares} != {
            table: counted.bytes_max for table, counted in self._counted.items()
        }:
            self._counted = {share.table: Counted(share.bytes_max) for share in shares}
            self._counted_to = self._counted_bytes = 0
        if self._counted_to < self._log.trimmed[0]:
            self._counted_to, self._counted_bytes = self._log.trimmed
        examined = 0
        for offset, entry in self._log.entries(self._counted_to, TRIM_MAX):
            counted = self._counted.get(entry.table)
            if counted is not None:
                counted.add(offset, entry.bytes_total - self._counted_bytes)
            self._counted_to, self._counted_bytes = offset, entry.bytes_total
            examined += 1
        return examined < TRIM_MAX

    def _forget_share(self, share: Share) -> bool:
        """Have what is beyond a share be nobody's to read; True when it is done."""
        begin, last = self._log.forgotten.get(share.table, 0), self._log.trimmed[0]
        goal = min(self._counted[share.table].kept_from, share.held)
        if goal <= max(begin, last):
            return True
        puts: list[tuple[bytes, bytes | None]] = []
        for offset, entry in self._entries(max(begin, last), goal):
            last = offset
            if entry.table == share.table:
                puts.append((keys.log_key(keys.LOG_IMAGES, offset), None))
        puts.append((FORGOTTEN_KEY + share.table.to_bytes(4, "big"), last.to_bytes(8, "big")))
        self._engine.write(puts)
        self._log.forgotten[share.table] = last
        return last >= goal

    def _entries(self, after: int, last: int) -> Iterator[tuple[int, LogEntry]]:
        for offset, entry in self._log.entries(after, min(TRIM_MAX, last - after)):
            if offset <= last:
                yield offset, entry

    # --- the log's old end

    def _forget(self, wanted: LogTrim) -> tuple[int, bool]:
        """Forget the oldest entries that need not be kept; how many, and whether there are more.

        Stops at the first that is to stay, and after TRIM_MAX. The note of what is trimmed goes first: if a
        crash leaves entries below it, they are not held any more and the next trim removes them.
        """
        log, before_us = self._log, dict(wanted.tables)
        ids: list[bytes] = []
        first, last_bytes = log.trimmed
        last, total = first, last_bytes + log.size_bytes
        for offset, entry in log.entries(first, TRIM_MAX):
            size, is_held = total - last_bytes, offset > wanted.held
            is_old = entry.admitted_us < before_us.get(entry.table, wanted.before_us)
            counted = self._counted.get(entry.table) if wanted.shares else None
            if not is_old and (size <= wanted.bytes_max or (counted and offset > counted.kept_from)):
                break
            if is_held and entry.admitted_us >= wanted.held_before_us and size <= wanted.held_bytes_max:
                break
            last, last_bytes = offset, entry.bytes_total
            if self._is_over(entry):
                ids.append(keys.mutation_key(entry.start, entry.sequence, entry.attempt))
        is_cut = last - first == TRIM_MAX
        if last > first:
            if ids:
                self._forget_ids(sorted(ids))
            log.trimmed_to(last, last_bytes)
            self._unremoved += 1
        if self._unremoved and (not is_cut or self._unremoved >= REMOVE_EVERY):
            log.remove_trimmed()
            self._unremoved = 0
        return last - first, is_cut

    def _is_over(self, entry: LogEntry) -> bool:
        """Whether a mutation would be refused for its time, or its table, should it come again."""
        if entry.kind >= REPAIRED:
            return False
        floor_us = self._floors.at(entry.table, leaf_of(entry.token)).floor_us
        return entry.admitted_us <= floor_us - IDS_KEPT_US or self._tables(entry.table) is None

    def _forget_ids(self, ids: list[bytes]) -> None:
        """Remove the records of these ids, which are in order; what came late and is logged later stays."""
        puts: list[tuple[bytes, bytes | None]] = []
        for near in _near(ids):
            for run in list(self._runs(near)):  # no engine promises what a scan tells of later writes
                if len(run) < RUN_MIN:
                    puts += [(key, None) for key in run]
                else:
                    self._engine.delete_range(run[0], run[-1] + b"\x00")
        if puts:
            self._engine.write(puts)

    def _runs(self, ids: list[bytes]) -> Iterator[list[bytes]]:
        """Those that are there, cut where others lie between."""
        wanted, run = frozenset(ids), list[bytes]()
        for key, _ in self._engine.scan(ids[0], ids[-1] + b"\x00"):
            if key in wanted:
                run.append(key)
            elif run:
                yield run
                run = []
        if run:
            yield run


def _near(ids: list[bytes]) -> Iterator[list[bytes]]:
    """These keys of mutation ids, cut where many others may lie between two of them."""
    begin = 0
    for at in range(1, len(ids) + 1):
        if at == len(ids) or not keys.are_near(ids[at - 1], ids[at], GAP_MAX):
            yield ids[begin:at]
            begin = at
