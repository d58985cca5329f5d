"""The other half of segments: how an index is changed. See index/asking.py for the half that answers.

There are two kinds of change. What is *shown* is visible to searches at once and costs microseconds, but a
crash takes it back; what is *written* is durable, which costs files and their syncs. index/tiers.py puts one
before the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from index.asking import Segments
from index.query import TokenRanges


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A row as it is now: its key (lsm/keys.py) and its document as JSON text, None if it is gone.

    `due_us` is when a part of it expires, so that the row should be looked at again; 0 for never.
    `is_gone_then` says that nothing is left of the document at that time, so that nobody need look.
    """

    key: bytes
    document: bytes | None
    due_us: int = 0
    is_gone_then: bool = False


def hash_of(document: bytes) -> bytes:
    """What `Visible.held` tells of a document."""
    return blake2b(document, digest_size=16).digest()


class Visible(Segments, Protocol):
    """Segments that also tell what expires, and how much they hold."""

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired by now, the first ones."""

    def next_due_us(self) -> int:
        """When the first row is due; 0 for never."""

    def documents(self) -> int:
        """How many documents there are."""

    def held(self, ranges: TokenRanges) -> dict[bytes, bytes]:
        """By the key of their row, a hash of each document in these ranges: to compare with the rows."""


class Durable(Visible, Protocol):
    """An index whose changes outlive a crash. Slow: called by jobs only, one `write` at a time.

    What is written is seen after the next `reload`, and in views that are taken from then on. Raises
    StoreError (core/errors.py) for what a disk does; it must be opened anew then.
    """

    def add(self, changes: Sequence[Change]) -> None:
        """Prepare to write these: the next `write` makes them durable, before those that it is given."""

    def write(self, changes: Sequence[Change], covers: int) -> None:
        """Make all these changes durable, together with `covers`, or none of it. Later ones of a key win."""

    def expire(self, now_us: int) -> bool:
        """Make durable that what is gone by now (`Change.is_gone_then`) is not there; with it whatever was
        added. Whether there was any.
        """

    def reload(self) -> None:
        """See what is durable."""

    def refresh(self) -> bool:
        """See what is durable in the files that it was merged into since; whether it was."""

    def having(self, keys: Sequence[bytes]) -> tuple[bytes, ...]:
        """Those of these rows that it holds, or has held lately."""

    def view(self, hidden: Sequence[bytes]) -> Visible:
        """What is seen now, without these rows; stays as it is."""

    def damaged(self) -> tuple[str, ...]:
        """Read all files; those that are not what was written."""

    def bare(self) -> tuple[tuple[bytes, str], ...]:
        """Rows that were indexed without terms since the last call, as nobody foresaw their documents, each
        with the class of what was raised. Quick, and at any time.
        """

    def rest(self) -> None:
        """There is nothing to change for a while: let go of what only changing needs."""

    def close(self) -> None:
        """Let go of files and memory; what is written stays."""


class Changeable(Visible, Protocol):
    """Segments of one table at one peer. Slow: called by jobs only.

    `fold` may go on beside `show`; otherwise what changes an index is done one after the other. `covers` is
    the offset of the local log up to which changes bring the index; after a crash `Segments.covers` says
    where to go on. Raises StoreError (core/errors.py) for what a disk does.
    """

    def add(self, changes: Sequence[Change]) -> None:
        """Prepare to commit these, most of the work of it: the next `commit` does. Nothing is shown or folded
        until then.
        """

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Make these changes, and all that was shown or added, durable and visible, or none of it."""

    def show(self, changes: Sequence[Change], covers: int) -> None:
        """Make these changes visible."""

    def fold(self) -> None:
        """Make durable what was shown by now."""

    def adopt(self) -> None:
        """See what `fold` wrote where it is now, and no longer where it was shown."""

    def expire(self, now_us: int) -> bool:
        """Take out whatever is gone by now, visibly and durably; whether there was any. Not beside `fold`."""

    def shown(self) -> tuple[int, int]:
        """How many rows, and bytes, were shown and are not adopted yet."""

    def damaged(self) -> tuple[str, ...]:
        """Read all files; those that are not what was written."""

    def bare(self) -> tuple[tuple[bytes, str], ...]:
        """As Durable.bare."""

    def refresh(self) -> None:
        """Let go of files that were merged into others since; not beside `fold`."""

    def rest(self) -> None:
        """There is nothing to change for a while: let go of what only changing needs. It refreshes, too."""

    def close(self) -> None:
        """Let go of files and memory; what is durable stays."""
