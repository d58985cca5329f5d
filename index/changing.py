"""The other half of segments: how an index is changed. See index/asking.py for the half that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from index.asking import Segments


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A row as it is now: its key (lsm/keys.py) and its document as JSON text, None if it is gone."""

    key: bytes
    document: bytes | None


class Changeable(Segments, Protocol):
    """Segments of one table at one peer. Slow: called by jobs only, one after the other.

    Raises StoreError (core/errors.py) for what a disk does.
    """

    def commit(self, changes: Sequence[Change], covers: int) -> None:
        """Make all these changes durable and visible, together with `covers`, or none of it.

        Later ones of a key win. `covers` is the offset of the local log up to which they bring the index;
        after a crash `Segments.covers` says where to go on.
        """

    def documents(self) -> int:
        """How many documents there are."""

    def close(self) -> None:
        """Let go of files and memory; what is committed stays."""
