"""Expiry as events: what runs out by itself is logged, too, where a table keeps changes.

A row that is written with a time to live leaves a note of when something in it dies (`D | due | row key`),
in its own batch. Once due, a log entry of the kind EXPIRED says so, with the row before and after: the same
bytes, looked at before and at that moment. It is no mutation: no sibling follows it, each replica logs its
own. Its id is made of row, moment and version, so all replicas give one event one id.

Each log says of a row: it was there, it ran out, it was written anew, in this order; so images chain.

    what died before a write was admitted is logged before that write
    a write that was admitted before, and comes after, is judged as of the moment up to which all is logged
    that died (`swept_us`, and what an earlier write had told of its row), and so finds the row gone, as the
    reader of the log has it

What was written before the table kept changes leaves no notes, and no events.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from core.cell import Cell
from core.expiring import Expired, ExpireRows
from core.row import EMPTY_ROW, OPERATION_SUFFIX, Row, encode_row, exists
from lsm import keys
from lsm.hash_tree import record_hash
from lsm.log import EXISTED, EXISTS, Image

if TYPE_CHECKING:
    from core.ports import Engine
    from lsm.log import ChangeLog

Puts = list[tuple[bytes, bytes | None]]
Stored = Callable[[bytes], "tuple[str, bytes, Row] | None"]
"""What is known of a row's key: its table's `changes`, its bytes and the row as readers have it; None if the
table, or its changes, are no more."""

SWEPT_KEY: Final = keys.META + b"expired"
TOLD: Final = b"t"
"""What a note holds as soon as its event is logged, until the sweep comes by."""
AHEAD_MAX: Final = 64
"""Moments of one row that are noted; a collection may have one per element, and notes the next ones then."""


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """What ran out of a row: when, and its cells as a row."""

    at_us: int
    cells: bytes


def moments(row: Row, after_us: int) -> list[int]:
    """When something in a row dies after a time, ascending."""
    times = [cell.dead_from_us for cell in row.cells if cell.value is not None]
    return sorted(dict.fromkeys(time_us for time_us in times if time_us > after_us))


class Expiring:
    """What of a store's rows has run out, and how far that is logged."""

    def __init__(self, engine: Engine, log: ChangeLog) -> None:
        self.engine = engine
        self._log = log
        self.reload()

    def reload(self) -> None:
        """Find how far the log tells of it."""
        kept = self.engine.get(SWEPT_KEY)
        self.swept_us = 0 if kept is None else int.from_bytes(kept, "big")

    def before_write(
        self, puts: Puts, row: tuple[bytes, Row, bytes | None], changes: str, now_us: int
    ) -> int:
        """Log what of a stored row (key, row, bytes) ran out before a write; when to judge the write at."""
        key, stored, data = row
        judged_us = max(now_us, self.swept_us)
        if not any(cell.dead_from_us and cell.value is not None for cell in stored.cells):
            return judged_us
        untold, noted, ahead = [], 0, 0
        for at_us in moments(stored, self.swept_us):
            note_key = keys.expiry_key(at_us, key)
            note = self.engine.get(note_key)
            noted += note is not None
            if note == TOLD:
                judged_us, ahead = max(judged_us, at_us), 0
                continue
            if note is not None or noted >= AHEAD_MAX:
                untold.append((at_us, note_key))
            ahead += at_us > judged_us
            if ahead == AHEAD_MAX:  # what is told is so from the first one on
                break
        for at_us, note_key in untold:
            if at_us <= judged_us:
                self._stage(puts, (key, stored, data or b""), changes, at_us)
                puts.append((note_key, TOLD))
        return judged_us

    def note(self, puts: Puts, key: bytes, row: Row, after_us: int = 0) -> None:
        """Note when something in a row that is being written dies; what is dead by `after_us` is told so, and
        what was told stays told: a repair brings rows that a late write had met already.
        """
        times = moments(row, self.swept_us)
        dead = bisect_right(times, after_us)
        for at_us in times[max(0, dead - AHEAD_MAX) : dead + AHEAD_MAX]:
            note_key = keys.expiry_key(at_us, key)
            before = self.engine.get(note_key)
            note = TOLD if at_us <= after_us or before == TOLD else b""
            if note != before:
                puts.append((note_key, note))

    def _stage(self, puts: Puts, row: tuple[bytes, Row, bytes], changes: str, at_us: int) -> None:
        key, stored, data = row
        suffix = key[keys.prefix_end(key) :]
        if suffix[:1] == OPERATION_SUFFIX:
            return
        gone = tuple(cell for cell in stored.cells if cell.dead_from_us == at_us and cell.value is not None)
        flags = (EXISTED if exists(stored, at_us - 1) else 0) | (EXISTS if exists(stored, at_us) else 0)
        before, after = data if "old" in changes else None, data if "new" in changes else None
        ended = _encode(Ended(at_us, encode_row(Row(None, tuple(map(_bare, gone))))))
        self._log.stage_expired(puts, (key, ended), Image(suffix, before, after, flags), at_us)

    def sweep(self, command: ExpireRows, stored: Stored, write: Callable[[Puts], int]) -> tuple[Expired, int]:
        """Log what has run out by now, a bounded number of rows at a time."""
        puts: Puts = []
        found, count, until_us = 0, 0, command.now_us
        end = keys.EXPIRY + (command.now_us + 1).to_bytes(8, "big")
        for key, note in self.engine.scan(keys.EXPIRY, end):
            at_us, row_key = keys.split_expiry(key)
            if count == command.rows_max:
                until_us = min(until_us, at_us - 1)  # those of one moment may be cut apart
            if at_us > until_us:
                break
            count += 1
            puts.append((key, None))
            row = None if note == TOLD else stored(row_key)
            if row is None or row[2] is EMPTY_ROW:
                continue
            if any(cell.dead_from_us == at_us and cell.value is not None for cell in row[2].cells):
                self._stage(puts, (row_key, row[2], row[1]), row[0], at_us)
                found += 1
            for next_us in moments(row[2], at_us)[AHEAD_MAX - 1 : AHEAD_MAX]:
                note_key = keys.expiry_key(next_us, row_key)
                if self.engine.get(note_key) is None:
                    puts.append((note_key, b""))
                    until_us = min(until_us, next_us - 1)  # this scan does not see it
        swept_us = max(self.swept_us, until_us)
        sequence = 0
        if puts:
            puts.append((SWEPT_KEY, swept_us.to_bytes(8, "big")))
            try:
                sequence = write(puts)
            except BaseException:
                self._log.abort()
                raise
            self._log.commit()
        self.swept_us = swept_us
        return Expired(found, until_us < command.now_us, swept_us), sequence


def decode_ended(data: bytes) -> Ended:
    """What an EXPIRED entry says; raises msgspec.DecodeError."""
    return _decode(data)


def ended_id(key: bytes, at_us: int, version: tuple[int, int]) -> str:
    """The id of the event: the same on every replica, and no other row's, of which a partition may have many
    of one version.
    """
    return f"x{record_hash(key, b''):x}-{at_us:x}-{version[0]:x}-{version[1]:x}"


def _bare(cell: Cell) -> Cell:
    return msgspec.structs.replace(cell, value=b"")


_encode: Callable[[Ended], bytes] = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ended).decode
