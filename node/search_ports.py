"""What searching needs of whoever keeps a peer's inverted indexes (fed from its change log, run by jobs).

Narrow on purpose, so that a test's few lines fit it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from core.row import Row
from index.asking import Segments
from index.mapping import Rules


class IndexHost(Protocol):
    """The inverted indexes of one peer. `mapping` names one of a table, "" the one that serves now."""

    def when_fresh(self, table: int, until_us: int, done: Callable[[str], None], mapping: str = "") -> None:
        """Call `done("")` once all that is durable in the local log at this call is visible to a search of
        the table's index; or `done(why not)`, in a few words for the user, at `until_us` (monotonic) at the
        latest.

        All who wait share one commit. `done` may be called at once.
        """

    def when_open(self, table: int, until_us: int, done: Callable[[str], None], mapping: str = "") -> None:
        """The same for a search that does not wait for what was written lately: once the table's index can be
        searched at all.
        """

    def run(
        self, table: int, work: Callable[[Segments], Any], done: Callable[[Any], None], mapping: str = ""
    ) -> None:
        """Have `work` done on the table's index beside the event loop; `done(its result)` on it.

        A StoreError that `work` raises becomes the result: a core.commands.Failed.
        """

    def mapping(self, table: int) -> str:
        """The name of the index that searches of the table are planned for now, by `rules`."""

    def rules(self, table: int) -> Rules:
        """The mapping by which the table's index is searched now."""

    def behind(self, table: int) -> int:
        """How many entries of the local log the table's index has still to read, as far as is known."""

    def document(self, table: int, key: bytes, row: Row, now_us: int) -> bytes | None:
        """The document (JSON text) that is indexed of a row of the table; None if there is none."""
