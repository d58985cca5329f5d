"""Where a peer's inverted indexes are kept: given to a node by whoever constructs it."""

from __future__ import annotations

from typing import Protocol

from index.changing import Changeable
from index.mapping import Rules


class SearchPlace(Protocol):
    """Segments by name. All of it is slow: called by jobs only. Raises StoreError for what a disk does."""

    def open(self, name: str, rules: Rules) -> Changeable:
        """The segments of this name: those that are there, or new ones. Raises CorruptionError."""

    def remove(self, name: str) -> None:
        """Remove what is there under this name; nobody has it open."""

    def names(self) -> tuple[str, ...]:
        """What is there, in order."""
