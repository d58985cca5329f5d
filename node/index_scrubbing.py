"""Inverted indexes compared with the rows, as hash trees and entries are: the second half of a scrub.

An index is fed by the log, beside the rows, so that its being right follows from nothing that one could look
at. So a pass looks: first at the checksums of its files, then, slice by slice of the table, whether it holds
exactly the documents of the rows. An index runs behind the rows by some moments, so a slice is read in three
steps, and what differs is looked at once more:

    rows       a slice of the table
    fresh      until the index has come as far as the log is now
    held       what it holds between the same tokens
    again      each row that differs: if it is still what it was before, the index should have had it

A document that is wrong is indexed anew from its row. An index whose files are damaged is built anew, from
the table; other replicas serve its ranges meanwhile (node/search_indexes.py `rebuild`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Failed, Outcome, Read, Rows, Slice
from index.changing import hash_of
from lsm.keys import TOKEN_MAX, TOKEN_MIN, successor, table_prefix, token_of

if TYPE_CHECKING:
    from node.inside import Inside
    from node.search_index import OneIndex
    from node.search_indexes import SearchIndexes

SLICE_ROWS = 200
SLICE_BYTES = 256 * limits.KIB
FRESH_US = 20 * limits.SECOND_US
"""How long an index may take to come as far as the log is; one that takes longer is compared the next time.
"""


class IndexScrubbing:
    """One pass at a time, over all inverted indexes of this peer."""

    def __init__(self, inside: Inside, host: SearchIndexes) -> None:
        """Register."""
        self._inside = inside
        self._host = host
        self._left: list[str] = []
        self._index: OneIndex | None = None
        self._after = b""
        self._rows: dict[bytes, bytes] = {}
        self._tokens = (TOKEN_MIN, TOKEN_MAX)
        self._more = False
        self._doubtful: dict[bytes, str] = {}
        self._bytes_per_s = 1
        self._found: Callable[[str], None] = lambda _: None
        self._ended: Callable[[], None] = lambda: None
        self.documents = 0
        """How many were compared in this pass."""
        inside.on_timer("index_scrub", self._read)
        inside.on_stored("index_scrub_rows", self._on_rows)
        inside.on_stored("index_scrub_again", self._on_again)

    def begin(self, bytes_per_s: int, found: Callable[[str], None], ended: Callable[[], None]) -> None:
        """Compare all: `found(problem)` for each difference, which is mended, and `ended()`."""
        self._bytes_per_s, self._found, self._ended = bytes_per_s, found, ended
        self.documents = 0
        self._left = [index.name for index in self._host.serving()]
        self._next()

    def _next(self) -> None:
        """The next index; those that are being built or opened are made of the rows just now."""
        self._index = None
        serving = {index.name: index for index in self._host.serving()}
        while self._left and self._left[0] not in serving:
            del self._left[0]
        if not self._left:
            self._ended()
            return
        self._index = serving[self._left.pop(0)]
        self._after, self._tokens, self._more = b"", (TOKEN_MIN, TOKEN_MIN), True
        self._ask(lambda segments: segments.damaged(), self._on_files)

    def _ask(self, work: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        index = self._index
        assert index is not None, "one is being compared"
        self._host.run(index.table, work, partial(self._answered, index, done), index.name)

    def _answered(self, index: OneIndex, done: Callable[[Any], None], result: Any) -> None:
        if not isinstance(result, Failed):
            done(result)
        elif index.can_search:  # else it is being built anew, or is wanted no more
            self._broken(index, f"cannot be read: {result.detail}")
        else:
            self._next()

    def _on_files(self, damaged: tuple[str, ...]) -> None:
        index = self._index
        assert index is not None, "one is being compared"
        if damaged:
            self._broken(index, f"had damaged files: {', '.join(damaged)}")
        else:
            self._read()

    def _broken(self, index: OneIndex, why: str) -> None:
        self._tell(f"{why}; it is built anew")
        self._inside.count("search_index_repairs")
        self._host.rebuild(index.table)
        self._next()

    def _tell(self, problem: str) -> None:
        assert self._index is not None, "one is being compared"
        self._found(f"the inverted index of {self._host.table_name(self._index.table)} {problem}")

    # --- a slice

    def _read(self) -> None:
        index = self._index
        assert index is not None, "one is being compared"
        if not self._more or not index.can_search:
            self._next()
            return
        prefix = table_prefix(index.table)
        first = self._after + b"\0" if self._after else prefix
        part = Slice(index.table, first, successor(prefix), b"", False, SLICE_ROWS, SLICE_BYTES)
        self._inside.submit(("index_scrub_rows",), Read(part, digest=False))

    def _on_rows(self, outcome: Outcome) -> None:
        index = self._index
        assert index is not None, "one is being compared"
        if not isinstance(outcome, Rows):
            self._next()  # what a peer cannot read is mended before its indexes are (node/mending.py)
            return
        self._rows = dict(outcome.rows)
        self._more = outcome.more
        first = token_of(self._after) + 1 if self._after else TOKEN_MIN
        last = TOKEN_MAX
        if outcome.more:
            self._after = outcome.rows[-1][0]
            last = token_of(self._after)
        self._tokens = first, last
        until_us = self._inside.world.monotonic_us() + FRESH_US
        self._host.when_fresh(index.table, until_us, self._on_fresh, index.name)

    def _on_fresh(self, why_not: str) -> None:
        if why_not:
            self._next()
            return
        first, last = self._tokens
        ranges = ((first, last),) if first <= last else ()
        self._ask(lambda segments: segments.held(ranges), self._on_held)

    def _on_held(self, held: dict[bytes, bytes]) -> None:
        index = self._index
        assert index is not None, "one is being compared"
        now_us = self._inside.clock.now_us()
        first, last = self._tokens
        self._doubtful = {}
        for key, data in self._rows.items():
            document = index.document_of(key, data, now_us).document
            wanted = None if document is None else hash_of(document)
            if wanted != held.get(key) and first <= token_of(key) <= last:
                kind = "lacked" if key not in held else "had another version of"
                self._doubtful[key] = "still had" if wanted is None else kind
        self._doubtful.update((key, "still had") for key in held if key not in self._rows)
        self.documents += len(self._rows)
        for key in self._doubtful:
            part = Slice(index.table, key, b"", b"", True, 1, SLICE_BYTES)
            self._inside.submit(("index_scrub_again", index.name, key), Read(part, digest=False))
        if not self._doubtful:
            self._rest()

    def _on_again(self, outcome: Outcome, name: str, key: bytes) -> None:
        """A row once more: if it did not change meanwhile, the index is wrong about it."""
        index, how = self._index, self._doubtful.pop(key, "")
        if index is None or index.name != name or not how:
            return
        if isinstance(outcome, Rows) and index.can_search:
            data = outcome.rows[0][1] if outcome.rows else None
            if data == self._rows.get(key):
                self._tell(f"{how} the document of row {key.hex()}")
                self._inside.count("search_index_repairs")
                index.mend(key, data)
        if not self._doubtful:
            self._rest()

    def _rest(self) -> None:
        size = sum(len(key) + len(data) for key, data in self._rows.items())
        self._rows = {}
        self._inside.timer(max(1, size * limits.SECOND_US // self._bytes_per_s), "index_scrub")
