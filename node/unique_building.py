"""Building unique indexes online: reserving what documents held before the index was there.

From the epoch on that has the index every write claims what is new to its document (node/uniques.py). What
was there before is walked through here by one peer, the first that lives: each document is looked at in the
order of its conditional updates, and its values are claimed for it as a write would claim them. If another
document holds one, and this one still does, they are duplicates: the build has failed, and a few of them are
told. Then nothing is undone: what is reserved stays, no write can add another duplicate, and whoever mends
those there are drops the index and makes it anew.

How far it got is a note in the index's own table, so another peer goes on when this one dies. Two who build
at once only work twice: claims may be repeated.

*From when on.* What was planned by a schema without the index may still be written for a while. Replicas that
know the index refuse it, and coordinators that know it stop it, but one write may be under way in between;
all such have ended, acknowledged or not, after two write timeouts, and so long the walk waits. What was
acknowledged at QUORUM is then seen by it. What was *not* acknowledged, and came to a replica that was away
all the time, may still turn up later: such a document holds its value without having claimed it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core import limits
from core.cell import ROW_MARKER_COLUMN, VALUE
from core.consistency import Level
from core.mutation import UPDATE
from core.requests import (
    Answer,
    ConditionalRequest,
    Invalid,
    Judged,
    PartRead,
    ReadRequest,
    RowsRead,
    RowWrite,
    ScanRequest,
    Write,
    WriteRequest,
)
from index.entries import Term
from index.uniqueness import NoValueError, TooManyValuesError, UniqueIndex
from lsm.keys import ROW_SUFFIX, split_row_key
from node.unique_claims import AGAIN, DONE, NOTE_COLUMN, Claim, Taken, fence_of, row_of

if TYPE_CHECKING:
    from core.schema import Index, Table
    from node.scans import Scans
    from node.swim import Swim
    from node.uniques import Uniques

NOTE_KEY: Final = b"built"
"""The partition of an index's table that holds the note: shorter than any hash."""
TICK_US: Final = limits.SECOND_US // 2
PAGE_ROWS: Final = 100
AT_ONCE: Final = 8
"""Documents of a page whose values are claimed at one time."""
RETRY_US: Final = limits.SECOND_US // 10
FAILURES_MAX: Final = 2 * PAGE_ROWS
"""So many documents of a page may have to come again before the page is given up, and begun anew."""
TOLD_MAX: Final = 10
"""A build that found so many duplicates ends."""
BUILDING, BUILT, FAILED = "building", "built", "failed"
PARTS: Final = 1_000_000
"""All parts of a page of rows."""


class Duplicate(msgspec.Struct, frozen=True):
    """Documents that hold one value; a single one holds something that cannot be compared, or too much."""

    ids: tuple[str, ...]


class Note(msgspec.Struct, frozen=True):
    """How far an index is built: all rows up to the key `after` (hex) were looked at, `documents` of them."""

    state: str = BUILDING
    after: str = ""
    documents: int = 0
    duplicates: tuple[Duplicate, ...] = ()


_decoder = msgspec.json.Decoder(Note)


def note_request(index: Index, level: Level = Level.QUORUM) -> ReadRequest:
    """Asks how far a unique index is built; `note_in` reads the answer."""
    return ReadRequest(index.reservations, NOTE_KEY, ROW_SUFFIX, b"", True, level)


def note_in(reads: RowsRead) -> Note:
    """The note that was read; that of the beginning if there is none yet."""
    for cell in row_of(reads).cells:
        if cell.column == NOTE_COLUMN and not cell.is_dead(reads.now_us):
            return _decoder.decode(cell.value or b"{}")
    return Note()


class _Seen(Invalid, frozen=True):
    """What a document holds, and its fence."""

    values: tuple[Term, ...] = ()
    fence: int = 0


class UniqueBuilding:
    """Builds what is new, while this is the first peer that lives."""

    def __init__(self, uniques: Uniques, swim: Swim, scans: Scans) -> None:
        """Nothing is done before a unique index is adopted."""
        self.inside = uniques.inside
        self.metadata = uniques.metadata
        self.swim = swim
        self.scans = scans
        self.uniques = uniques
        self._since_us: dict[int, int] = {}
        self._settled: dict[int, bool] = {}
        self._ticking = False
        self._build: _Build | None = None
        self.inside.on_timer("unique_tick", self._tick)
        self.metadata.on_adopted(self._on_adopted)

    def start(self) -> None:
        """Begin with what the start found."""
        self._on_adopted()

    def _open(self) -> list[tuple[Table, Index]]:
        """The indexes of which this peer does not know that they are built, or that this failed."""
        tables = self.metadata.state.tables
        found = [(tables[number], index) for number in sorted(tables) for index in tables[number].indexes]
        return [(table, one) for table, one in found if one.unique and one.id not in self._settled]

    def _on_adopted(self) -> None:
        now_us = self.inside.world.monotonic_us()
        for _, index in self._open():
            self._since_us.setdefault(index.id, now_us)
        self._tick_later()

    def _tick_later(self) -> None:
        if not self._ticking and self._build is None and self._open():
            self._ticking = True
            self.inside.timer(TICK_US, "unique_tick")

    def _tick(self) -> None:
        """Look how far the first open index is; build on if that is for us to do."""
        self._ticking = False
        waiting = self._open()
        if not waiting or self._build is not None:
            return
        table, index = waiting[0]
        deadline_us = self.inside.world.monotonic_us() + self.inside.settings.read_timeout_us
        self._ticking = True
        self.scans.read(note_request(index), deadline_us, partial(self._on_note, table, index))

    def _on_note(self, table: Table, index: Index, answer: Answer) -> None:
        self._ticking = False
        if isinstance(answer, RowsRead):
            note = note_in(answer)
            if note.state != BUILDING:
                self._settled[index.id] = True
            elif self._is_mine() and self._has_waited(index):
                self._build = _Build(self, table, index, note)
                self._build.go_on()
        self._tick_later()

    def _is_mine(self) -> bool:
        return self.swim.alive()[:1] == (self.inside.identity.peer,)

    def _has_waited(self, index: Index) -> bool:
        waited_us = self.inside.world.monotonic_us() - self._since_us[index.id]
        return waited_us >= 2 * self.inside.settings.write_timeout_us

    def ended(self) -> None:
        """A build came to its end, or to a step that did not work: look again."""
        self._build = None
        self._tick_later()


class _Build:
    """One walk through a table, page by page."""

    def __init__(self, parent: UniqueBuilding, table: Table, index: Index, note: Note) -> None:
        self._parent = parent
        self._table = table.id
        self._index = index
        self._note = note
        self._request = 0
        self._keys: list[bytes] = []
        self._page: RowsRead | None = None
        self._under_way = 0
        self._failures = 0
        self._failed = False
        self._found: list[Duplicate] = []
        self._checked = 0

    def go_on(self) -> None:
        """Read the next page."""
        inside = self._parent.inside
        after = bytes.fromhex(self._note.after)
        self._request = -inside.new_op()  # clients' requests have positive numbers
        self._keys, self._found, self._checked, self._failures = [], [], 0, 0
        deadline_us = inside.world.monotonic_us() + inside.settings.read_timeout_us
        request = ScanRequest(self._table, after, PAGE_ROWS, Level.QUORUM)
        self._parent.scans.scan(self._request, request, deadline_us, self._on_part)
        self._parent.scans.want(self._request, PARTS)

    def _on_part(self, answer: Answer, last: bool) -> None:
        if not isinstance(answer, RowsRead):
            self._parent.ended()
            return
        self._keys += [split_row_key(item.key)[2] for item in answer.rows]
        if last:
            self._page = answer
            self._keys.reverse()
            self._claim_more()

    # --- the documents of a page

    def _unique(self) -> UniqueIndex | None:
        table = self._parent.metadata.state.tables.get(self._table)
        if table is None:
            return None
        return next((one for one in self._parent.uniques.of(table) if one.id == self._index.id), None)

    def _claim_more(self) -> None:
        while self._keys and self._under_way < AT_ONCE and not self._failed:
            self._under_way += 1
            self._look(self._keys.pop())
        if not self._under_way:
            if self._failed:
                self._parent.ended()
            else:
                self._save()

    def _checked_one(self) -> None:
        self._under_way -= 1
        self._checked += 1
        self._claim_more()

    def _not_now(self, key: bytes) -> None:
        """A document that could not be looked at, or its value claimed, comes again later in the page."""
        self._failures += 1
        self._failed = self._failures > FAILURES_MAX or self._unique() is None
        self._keys.insert(0, key)

        def again() -> None:
            self._under_way -= 1
            self._claim_more()

        self._parent.uniques.later(RETRY_US, again)

    def _deadline_us(self) -> int:
        inside = self._parent.inside
        return inside.world.monotonic_us() + inside.settings.write_timeout_us

    def _look(self, key: bytes) -> None:
        """What the document holds now, in the order of its conditional updates."""
        index = self._unique()
        if index is None:
            self._not_now(key)
            return

        def decide(reads: tuple[RowsRead, ...]) -> Invalid:
            row, fence = row_of(reads[0]), fence_of(reads[1])
            try:
                values = index.values(key, row, max(reads[0].now_us, fence), strict=True)
            except (NoValueError, TooManyValuesError):
                return _Seen("object", "")
            return _Seen("seen", "", (), tuple(values), fence)

        request = self._parent.uniques.on_document(self._table, key, decide)
        self._parent.uniques.decide(request, self._deadline_us(), partial(self._on_seen, index, key))

    def _on_seen(self, index: UniqueIndex, key: bytes, answer: Answer) -> None:
        if not isinstance(answer, _Seen):
            self._not_now(key)
        elif answer.code == "object":
            self._found.append(Duplicate((_id(key),)))
            self._checked_one()
        else:
            self._claim_next(index, key, list(answer.values), answer.fence)

    def _claim_next(self, index: UniqueIndex, key: bytes, values: list[Term], fence: int) -> None:
        if not values:
            self._checked_one()
            return
        term = values.pop(0)

        def ended(how: str | Answer) -> None:
            if how is DONE:
                self._claim_next(index, key, values, fence)
            elif how is AGAIN:
                self._look(key)
            elif isinstance(how, Taken):
                self._compare(
                    (index, key, term), how.holder, partial(self._claim_next, index, key, values, fence)
                )
            else:
                self._not_now(key)

        claim = Claim(
            self._parent.uniques, (self._table, index, term), (key, fence), self._deadline_us(), ended
        )
        claim.start()

    def _compare(self, held: tuple[UniqueIndex, bytes, Term], holder: bytes, then: Any) -> None:
        """Another document holds the value: are they duplicates, or has this one lost it meanwhile?"""
        index, key, term = held

        def decide(reads: tuple[RowsRead, ...]) -> Invalid:
            row, fence = row_of(reads[0]), fence_of(reads[1])
            there = index.values(key, row, max(reads[0].now_us, fence))
            return _Seen("seen", "", (), tuple(there), fence)

        def seen(answer: Answer) -> None:
            if not isinstance(answer, _Seen):
                self._not_now(key)
                return
            if term in answer.values:
                self._found.append(Duplicate((_id(holder), _id(key))))
            then()

        request = self._parent.uniques.on_document(self._table, key, decide)
        self._parent.uniques.decide(request, self._deadline_us(), seen)

    # --- how far it got

    def _save(self) -> None:
        """Note the page, unless somebody else got farther."""
        page, before = self._page, self._note
        assert page is not None
        told = tuple(dict.fromkeys((*before.duplicates, *self._found)))[:TOLD_MAX]
        state = BUILDING if page.more and len(told) < TOLD_MAX else FAILED if told else BUILT
        note = Note(state, page.after.hex() or before.after, before.documents + self._checked, told)

        def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
            there = note_in(reads[0])
            if there.state != BUILDING or bytes.fromhex(there.after) != bytes.fromhex(before.after):
                return None
            writes = (
                Write(ROW_MARKER_COLUMN, (), VALUE, b""),
                Write(NOTE_COLUMN, (), VALUE, msgspec.json.encode(note)),
            )
            rows = (RowWrite(ROW_SUFFIX, writes),)
            return WriteRequest(self._index.reservations, NOTE_KEY, rows, Level.QUORUM, UPDATE)

        request = ConditionalRequest(
            self._index.reservations, NOTE_KEY, (PartRead(ROW_SUFFIX),), decide, Level.QUORUM
        )
        self._parent.uniques.decide(request, self._deadline_us(), partial(self._on_saved, note))

    def _on_saved(self, note: Note, answer: Answer) -> None:
        if isinstance(answer, Judged) and answer.applied and note.state == BUILDING:
            self._note = note
            self.go_on()
            return
        if isinstance(answer, Judged) and answer.applied:
            level = "info" if note.state == BUILT else "warning"
            self._parent.inside.log(
                level, f"unique_index_{note.state}", f"{self._index.name}: {note.documents} documents"
            )
        self._parent.ended()


def _id(key: bytes) -> str:
    return key.decode("utf-8", "replace")
