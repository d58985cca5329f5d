"""One inverted index of this peer: opening, building, following the peer's own log.

    opening -> building -> following            a job failed: -> resting -> opening
                  ^------------'                the log no longer reaches back: built anew

**Opening** tells the offset that the last commit covers. If that is 0, or the log does not hold what follows
it (it was trimmed, or it is another log), the index is **built**: emptied, then filled from slices of the
table as it is, while the log goes on; the commit of the last slice covers the offset at which building began.
**Following** reads which rows changed (LogRows) and indexes them as they are then, so an index is never
behind an offset that it covers, and doing it twice does no harm. A crash therefore loses nothing but work.

Whatever is read of log and rows is durable before it comes here (lsm/commit.py), so an index never holds what
a power cut takes back.

What changed is brought in by one of two ways (index/tiers.py). A few rows are *shown* when a search waits for
them, or after a moment. That takes next to nothing and is not durable; FOLD_ROWS of them, or those of
FOLD_US, are then folded into the index on disk, beside searches and further rows. Many rows are committed
there at once; and as long as nobody waits for them they gather first, since large commits cost half as much
per row. As they come they are *added*, which is most of a commit's work, so that it is done beside what
brings them. So `reached`, what a search sees, runs ahead of what a crash leaves.

One job that changes the index is under way at a time, but for folding. What changes meanwhile gathers, and
all who wait for it share the next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from core import limits
from core.commands import ChangedRows, Failed, Outcome, Read, Rows, Slice
from index.asking import Segments
from index.changing import Change, Changeable
from index.mapping import Rules
from lsm.keys import TOKEN_MIN, successor, table_prefix, token_of
from node.bare_rows import BareRows
from node.inside import Inside
from node.search_place import SearchPlace

OPENING, BUILDING, FOLLOWING, RESTING, CLOSED = "opening", "building", "following", "resting", "closed"

SLICE_ROWS = 200
SLICE_BYTES = 256 * limits.KIB
BUILD_COMMIT_ROWS = 4_000
BUILD_COMMIT_BYTES = 8 * limits.MIB
SHOW_ROWS_MAX = 512
SHOW_BYTES_MAX = limits.MIB
"""What is shown and not folded yet: each search looks at all of it."""

FOLD_ROWS = 128
FOLD_US = limits.SECOND_US
GATHER_ROWS = 15_000
GATHER_BYTES = 24 * limits.MIB
GATHER_US = 4 * limits.SECOND_US
"""So many rows, or for so long, gather for one commit while nobody waits for them. What a commit adds is one
segment, and every eight of a size are merged into one, which costs as much as half of what adding them did.
"""

ADD_ROWS = 500
ADD_BYTES = 512 * limits.KIB
"""So many of them are added at once."""

SHOW_US = limits.SECOND_US // 5
"""After so long a few rows are shown without being waited for: to searches that do not ask for freshness."""

COVER_LAG = 100_000
"""Entries of other tables after which an idle index notes how far it is, so that a start need not read them
again.
"""

REST_US = 30 * limits.SECOND_US
"""After so long without a change an index lets go of what writing takes: some threads and MiB."""

REFRESH_US = 2 * limits.SECOND_US
"""Until then it looks so often whether files have been merged, to let go of the old ones."""

RETRY_US = 2 * limits.SECOND_US

DUE_MAX = 200
"""Expired rows that are looked at together. Of more, those of which nothing is left are taken out unseen, and
the others are looked at in rounds of DUE_MANY.
"""

DUE_MANY = 2_000

DocumentOf = Callable[[bytes, bytes | None, int], Change]
"""Key, row bytes (None: it is gone), now: the row as a change of an index. Pure, since jobs call it."""


class Owner(Protocol):
    """What an index asks of all of them together (node/search_indexes.py)."""

    def log_end(self) -> int:
        """The last offset of the log that is known."""

    def read_soon(self) -> None:
        """There is something to follow, or to settle."""

    def on_opened(self, index: OneIndex) -> None:
        """The index can be searched."""

    def settle(self, index: OneIndex) -> None:
        """The index has come further."""

    def is_awaited(self, index: OneIndex) -> bool:
        """Whether somebody waits for it to come as far as the log is."""

    def name_of(self, key: bytes) -> str:
        """A row as operators know it: its collection, and its id."""


class OneIndex:
    """An index under one name: of one table by one mapping."""

    def __init__(
        self, inside: Inside, place: SearchPlace, owner: Owner, *, name: str, table: int, rules: Rules
    ) -> None:
        self.name = name
        self.table = table
        self.rules = rules
        self.state = OPENING
        self.segments: Changeable | None = None
        self.reached = 0
        self.read_to = 0
        self.pending: dict[bytes, bytes | None] = {}
        self.pending_bytes = 0
        self.builds = 0
        self.document_of: DocumentOf
        self._inside = inside
        self._place = place
        self._owner = owner
        self._busy = False
        self._is_committing = False
        self._folding = False
        self._is_folded = False
        self._pending_since_us = 0
        self._shown: tuple[int, int] = (0, 0)
        self._shown_since_us = 0
        self._added = self._added_bytes = self._added_since_us = 0
        self._covers = 0
        self.next_due_us = 0
        self._due_reads = 0
        self._due_read = False
        self._is_thinned = False
        self._committed_us = self._refreshed_us = 0
        self._is_awake = False
        self._is_unwanted = False
        self._bare = BareRows(inside, owner.name_of)
        self._build_end = 0
        self._build_after = b""
        self._build_done = False

    # --- jobs

    def _job(self, what: str, job: Callable[[], Any]) -> None:
        assert not self._busy, self.name
        self._busy = True
        self._inside.run(("inverted", self.name, what), job)

    def on_done(self, what: str, result: Any) -> None:
        """A job of this index is done."""
        if what == "fold":
            self._folding = False
        else:
            self._busy = self._is_committing = False
        if self.segments is not None:
            self._bare.tell(self.segments.bare())
        if self.state == CLOSED:
            if what in ("open", "empty") and not isinstance(result, Failed):
                self.segments = result[0] if what == "open" else result
            self._close()
            return
        if isinstance(result, Failed):
            self._failed(what, result)
            return
        if self.state == RESTING:
            return  # the other job failed
        handlers: dict[str, Callable[[Any], None]] = {
            "open": self._opened,
            "empty": self._emptied,
            "show": self._showed,
            "fold": self._folded,
            "commit": self._committed,
            "add": self._was_added,
            "due": self._due,
            "expire": self._expired,
            "rest": self._ignore,
            "refresh": self._ignore,
        }
        handlers[what](result)

    def _ignore(self, _result: Any) -> None:
        """Nothing depends on it, but what has gathered meanwhile."""
        self._owner.read_soon()

    def _failed(self, what: str, failed: Failed) -> None:
        self._inside.log("error", "inverted", f"index {self.name}: {what}: {failed.detail}")
        self._inside.count("search_index_failures")
        self.state = RESTING
        self.segments = None
        self._forget()
        # What cannot be opened is emptied and built anew: it holds nothing that the table does not.
        again = "empty" if what == "open" else "open"
        self._inside.timer(RETRY_US, "inverted_retry", self.name, again)

    def retry(self, what: str) -> None:
        """After a failure, and a rest."""
        if self.state != RESTING:
            return
        if self._busy or self._folding:
            self._inside.timer(RETRY_US, "inverted_retry", self.name, what)
        elif what == "open":
            self.open()
        else:
            self._build()

    def _forget(self) -> None:
        """What was not committed is read again."""
        self.pending, self.pending_bytes = {}, 0
        self._is_folded, self._shown, self._is_thinned = False, (0, 0), False
        self._added = self._added_bytes = 0
        self._due_read = False

    def open(self) -> None:
        """Begin."""
        self.state = OPENING
        self._job("open", self._open_job)

    def _open_job(self) -> tuple[Changeable, int]:
        segments = self._place.open(self.name, self.rules)
        return segments, segments.next_due_us()

    def _opened(self, result: tuple[Changeable, int]) -> None:
        segments, self.next_due_us = result
        self.segments = segments
        self._covers = covers = segments.covers()
        if not covers or covers > self._owner.log_end():
            self._build()
            return
        self.state = FOLLOWING
        self.read_to = self.reached = covers
        self._owner.on_opened(self)

    # --- building

    @property
    def progress(self) -> float:
        """The share of the table that is built, by tokens: 0 to 1."""
        if self.state == FOLLOWING:
            return 1.0
        return (token_of(self._build_after) - TOKEN_MIN) / 2**64 if self._build_after else 0.0

    def rebuild(self) -> bool:
        """Build it anew where it stands; False if it is being opened or built anyway."""
        if self.state != FOLLOWING:
            return False
        if self._busy or self._folding:
            self._is_unwanted = True
        else:
            self._build()
        return True

    def _build(self) -> None:
        """Empty it, then fill it."""
        self._is_unwanted = False
        self.state = BUILDING
        segments, self.segments = self.segments, None
        self._forget()
        place, name, rules = self._place, self.name, self.rules

        def empty() -> Changeable:
            if segments is not None:
                segments.close()
            place.remove(name)
            return place.open(name, rules)

        self._job("empty", empty)

    def _emptied(self, segments: Changeable) -> None:
        self.segments = segments
        self._covers = self.reached = 0
        self._build_end = self._owner.log_end()
        self._build_after, self._build_done = b"", False
        self._inside.count("search_index_builds")
        self.builds += 1
        self._slice()

    def _slice(self) -> None:
        prefix = table_prefix(self.table)
        first = self._build_after + b"\x00" if self._build_after else prefix
        part = Slice(self.table, first, successor(prefix), b"", False, SLICE_ROWS, SLICE_BYTES)
        self._inside.submit(("inverted_slice", self.name), Read(part, digest=False))

    def on_slice(self, outcome: Outcome) -> None:
        """Rows of the table, for building."""
        if self.state != BUILDING:
            return
        if not isinstance(outcome, Rows):
            assert isinstance(outcome, Failed), outcome
            self._failed("build", outcome)
            return
        for key, data in outcome.rows:
            self._add(key, data)
            self._build_after = key
        self._build_done = not outcome.more
        if (
            self._build_done
            or self.pending_bytes >= BUILD_COMMIT_BYTES
            or len(self.pending) >= BUILD_COMMIT_ROWS
        ):
            self._commit(self._build_end if self._build_done else 0)
        else:
            self._slice()

    # --- following

    def _add(self, key: bytes, data: bytes | None) -> None:
        if not self.pending:
            self._pending_since_us = self._inside.world.monotonic_us()
        old = self.pending.get(key)
        self.pending_bytes += len(key) + len(data or b"") - (len(old) if old else 0)
        self.pending[key] = data

    def mend(self, key: bytes, data: bytes | None) -> None:
        """Index a row as it is, which was found to be indexed wrongly."""
        if self.state == FOLLOWING:
            self._add(key, data)
            self.go_on()

    def take(self, outcome: ChangedRows) -> None:
        """Rows that changed, of this table and others."""
        if self.state != FOLLOWING or outcome.next_after <= self.read_to:
            return
        if outcome.first > self.read_to + 1:
            text = f"index {self.name}: the log no longer reaches back, so it is built anew over the rows"
            self._inside.log("warning", "inverted", text)
            self.rebuild()
            return
        prefix = table_prefix(self.table)
        for key, data in outcome.rows:
            if key.startswith(prefix):
                self._add(key, data)
        self.read_to = outcome.next_after

    def go_on(self) -> None:
        """Do what is next; without anything pending the index is as far as was read."""
        if self.state != FOLLOWING or self._busy or self._due_reads:
            return
        if self._is_unwanted:
            if not self._folding:
                self._build()
            return
        segments = self.segments
        assert segments is not None, "it is open"
        now_us = self._inside.clock.now_us()
        if self._is_folded:
            self._is_folded = False
            self._show(segments.adopt)
        elif 0 < self.next_due_us <= now_us and not self._due_read:
            count = DUE_MANY if self._is_thinned else DUE_MAX + 1
            self._job("due", partial(segments.due, now_us, count))
        elif self.pending or self._added:
            self._bring_in(segments)
        else:
            self.reached = self.read_to
            self._idle(segments)
        self._fold_in_time(segments)

    def _bring_in(self, segments: Changeable) -> None:
        """Show what is pending, or commit it, or let it gather."""
        rows, size = self._shown
        count = len(self.pending)
        is_awaited = self._owner.is_awaited(self)
        is_small = rows + count <= SHOW_ROWS_MAX and size + self.pending_bytes <= SHOW_BYTES_MAX
        waited_us = self._since_us(self._added_since_us if self._added else self._pending_since_us)
        if is_small and not self._added and (is_awaited or waited_us >= SHOW_US):
            changes, covers = self._changes(), self.read_to
            self._show(lambda: segments.show(changes(), covers))
        elif self._folding:
            return  # its end asks again
        elif (
            is_awaited
            or self._added >= GATHER_ROWS
            or self._added_bytes >= GATHER_BYTES
            or waited_us >= GATHER_US
        ):
            self._commit(self.read_to)
        elif count >= ADD_ROWS or self.pending_bytes >= ADD_BYTES:
            self._add_some(segments)

    def _add_some(self, segments: Changeable) -> None:
        """Do most of the work of the commit to come."""
        if not self._added:
            self._added_since_us = self._pending_since_us
        self._added += len(self.pending)
        self._added_bytes += self.pending_bytes
        changes = self._changes()
        self._job("add", lambda: segments.add(changes()))

    def _was_added(self, _result: None) -> None:
        self.go_on()
        self._owner.read_soon()

    def _since_us(self, at_us: int) -> int:
        return self._inside.world.monotonic_us() - at_us

    def _idle(self, segments: Changeable) -> None:
        """There is nothing new."""
        if self._folding or self._shown[0]:
            return
        if self.reached - self._covers >= COVER_LAG:
            self._commit(self.reached)
        elif self._is_awake and self._since_us(self._committed_us) > REST_US:
            self._is_awake = False
            self._job("rest", segments.rest)
        elif self._is_awake and self._since_us(max(self._committed_us, self._refreshed_us)) > REFRESH_US:
            self._refreshed_us = self._inside.world.monotonic_us()
            self._job("refresh", segments.refresh)

    def _changes(self) -> Callable[[], list[Change]]:
        """What is pending, as a function that makes changes of it."""
        rows, self.pending, self.pending_bytes = self.pending, {}, 0
        document_of, now_us = self.document_of, self._inside.clock.now_us()
        return lambda: [document_of(key, data, now_us) for key, data in rows.items()]

    # --- showing and folding

    def _show(self, change: Callable[[], None]) -> None:
        """Do what changes only what is seen."""
        segments = self.segments
        assert segments is not None, "it is open"

        def job() -> tuple[int, int, tuple[int, int]]:
            change()
            return segments.covers(), segments.next_due_us(), segments.shown()

        self._job("show", job)

    def _showed(self, result: tuple[int, int, tuple[int, int]]) -> None:
        if not self._shown[0]:
            self._shown_since_us = self._inside.world.monotonic_us()
        covers, self.next_due_us, self._shown = result
        self._due_read = False
        self.reached = max(self.reached, covers)
        self.go_on()
        self._owner.settle(self)

    def _fold_in_time(self, segments: Changeable) -> None:
        """Make durable what was shown, beside what else goes on."""
        rows = self._shown[0]
        if not rows or self._folding or self._is_folded or self._is_committing or self._added:
            return
        if rows >= FOLD_ROWS or self._since_us(self._shown_since_us) >= FOLD_US:
            self._folding = True

            def job() -> int:
                covers = segments.covers()
                segments.fold()
                return covers

            self._inside.run(("inverted", self.name, "fold"), job)

    def _folded(self, covers: int) -> None:
        self._inside.count("search_index_commits")
        self._committed_us, self._is_awake = self._inside.world.monotonic_us(), True
        self._shown_since_us = self._committed_us
        self._covers, self._is_folded = covers, True
        self.go_on()

    def _commit(self, covers: int) -> None:
        self._is_committing = True
        segments = self.segments
        assert segments is not None, "it is open"
        changes = self._changes()

        def job() -> tuple[int, int]:
            segments.commit(changes(), covers)
            return covers, segments.next_due_us()

        self._job("commit", job)

    def _committed(self, result: tuple[int, int]) -> None:
        self._inside.count("search_index_commits")
        covers, self.next_due_us = result
        self._due_read = False
        self._committed_us, self._is_awake = self._inside.world.monotonic_us(), True
        self._covers, self._shown = covers, (0, 0)
        self._added = self._added_bytes = 0
        if self.state == BUILDING:
            if not self._build_done:
                self._slice()
                return
            self.state = FOLLOWING
            self.read_to = self.reached = covers
            self._owner.on_opened(self)
            return
        self.reached = covers
        self.go_on()
        self._owner.settle(self)

    # --- what expires

    def _due(self, keys: tuple[bytes, ...]) -> None:
        """Look at these rows again. Until they are brought in the index stays due: searches wait for it."""
        if len(keys) > DUE_MAX and not self._is_thinned:
            if not self._folding:  # its end asks again
                self._expire()
            return
        self._is_thinned = False
        self._due_reads = len(keys)
        if not keys:
            self.next_due_us = 0  # the commit that follows says
            self.go_on()
        for key in keys:
            part = Slice(self.table, key, b"", b"", True, 1, SLICE_BYTES)
            self._inside.submit(("inverted_due", self.name, key), Read(part, digest=False))

    def _expire(self) -> None:
        """Take out all of which nothing is left."""
        segments = self.segments
        assert segments is not None, "it is open"
        self._is_committing = True
        now_us = self._inside.clock.now_us()

        def job() -> tuple[int, int, tuple[int, int]]:
            segments.expire(now_us)
            return now_us, segments.next_due_us(), segments.shown()

        self._job("expire", job)

    def _expired(self, result: tuple[int, int, tuple[int, int]]) -> None:
        now_us, self.next_due_us, self._shown = result
        self._is_thinned = 0 < self.next_due_us <= now_us
        self._committed_us, self._is_awake = self._inside.world.monotonic_us(), True
        self.go_on()
        self._owner.settle(self)

    def on_due(self, outcome: Outcome, key: bytes) -> None:
        """A row as it is now."""
        self._due_reads -= 1
        if isinstance(outcome, Rows) and self.state == FOLLOWING:
            self._add(key, outcome.rows[0][1] if outcome.rows else None)
            self._due_read = True
        if not self._due_reads:
            if not self._due_read:  # a disk that cannot read them does not keep searches waiting
                self.next_due_us = self._inside.clock.now_us() + RETRY_US
            self.go_on()

    # --- searching, closing

    @property
    def can_search(self) -> bool:
        """Whether it holds the whole table, as of some time."""
        return self.state == FOLLOWING and self.segments is not None

    def search(self, number: int, work: Callable[[Segments], Any]) -> None:
        """Have work done on the segments; answered through on_done of tickets `inverted_work`."""
        segments = self.segments
        assert segments is not None, "it was asked"
        self._inside.run(("inverted_work", number), partial(work, segments))

    def close(self) -> None:
        """It is not wanted any more, nor is what it holds."""
        self.state = CLOSED
        self._forget()
        self._close()

    def _close(self) -> None:
        if self._busy or self._folding:
            return  # its end closes
        segments, self.segments = self.segments, None
        place, name = self._place, self.name

        def job() -> None:
            if segments is not None:
                segments.close()
            place.remove(name)

        self._inside.run(("inverted_closed", self.name), job)
