"""The other half of segments: how an index is changed. See index/asking.py for the half that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from index.asking import Segments


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A row as it is now: its key (lsm/keys.py) and its document as JSON text, None if it is gone.

    `due_us` is when a part of it expires, so that the row should be looked at again; 0 for never.
    """

    key: bytes
    document: bytes | None
    due_us: int = 0


class Changeable(Segments, Protocol):
    """Segments of one table at one peer. Slow: called by jobs only, one after the other.

    Raises StoreError (core/errors.py) for what a disk does.
    """

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Make all these changes durable and visible, together with `covers`, or none of it.

        Later ones of a key win. `covers` is the offset of the local log up to which they bring the index;
        after a crash `Segments.covers` says where to go on.
        """

    def due(self, now_us: int, limit: int) -> tuple[bytes, ...]:
        """Rows of which something has expired by now, the first ones."""

    def next_due_us(self) -> int:
        """When the first row is due; 0 for never."""

    def documents(self) -> int:
        """How many documents there are."""

    def rest(self) -> None:
        """There is nothing to change for a while: let go of what only changing needs."""

    def close(self) -> None:
        """Let go of files and memory; what is committed stays."""
