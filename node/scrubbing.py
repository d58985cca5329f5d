"""Scrubbing in the background: all that this peer stores is read now and then, at a pace that is not felt.

A pass reads everything once (lsm/scrub.py), then compares inverted indexes with the rows
(node/index_scrubbing.py), `scrub_bytes_per_s` at most, and rests until `scrub_every_us` after it began.
`sullae scrub` begins one at once, perhaps at another pace. What is found is put right where rows say what is
right; damage ends the process in order, and the store is mended when it opens again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Failed, Outcome
from core.healing import Scrub, Scrubbed

if TYPE_CHECKING:
    from node.index_scrubbing import IndexScrubbing
    from node.inside import Inside

RETRY_US = 5 * limits.SECOND_US
"""After a slice that could not be read."""

PROBLEMS_KEPT_MAX = 100


class Scrubbing:
    """Passes, one after the other."""

    def __init__(self, inside: Inside) -> None:
        """Register."""
        self._inside = inside
        self._after = b""
        self._running = False
        self._number = 0
        self._began_us = 0
        self._bytes_per_s = 0
        self._bytes = self._records = self._problem_count = 0
        self._problems: list[str] = []
        self._last: dict[str, Any] | None = None
        self.indexes: IndexScrubbing | None = None
        """What compares inverted indexes with the rows, once the rows are known to be sound."""
        inside.on_timer("scrub", self._on_timer)
        inside.on_stored("scrubbed", self._on_scrubbed)

    def start(self) -> None:
        """The first pass begins at a moment of this peer's own."""
        every_us = self._inside.settings.scrub_every_us
        if every_us:
            own = int.from_bytes(self._inside.identity.peer[:8], "big")
            self._inside.timer(1 + own % every_us, "scrub", self._number)

    def begin(self, bytes_per_s: int = 0) -> dict[str, Any]:
        """Begin a pass now, if none is under way; how far it is."""
        if not self._running:
            self._begin(bytes_per_s)
        elif bytes_per_s:
            self._bytes_per_s = bytes_per_s
        return self.status()

    def status(self) -> dict[str, Any]:
        """The pass under way, and the last one that ended."""
        now_us = self._inside.world.monotonic_us()
        return {
            "running": self._running,
            "bytes": self._bytes,
            "records": self._records,
            "documents": 0 if self.indexes is None else self.indexes.documents,
            "seconds": round((now_us - self._began_us) / 1e6, 3) if self._running else 0,
            "problems": self._problem_count,
            "found": self._problems,
            "last": self._last,
        }

    def _begin(self, bytes_per_s: int) -> None:
        self._running, self._after = True, b""
        self._began_us = self._inside.world.monotonic_us()
        self._bytes_per_s = bytes_per_s or self._inside.settings.scrub_bytes_per_s
        self._bytes = self._records = self._problem_count = 0
        self._problems = []
        self._number += 1
        self._read()

    def _on_timer(self, number: int) -> None:
        if number != self._number:
            return  # of an earlier pass
        if self._running:
            self._read()
        else:
            self._begin(0)

    def _read(self) -> None:
        command = Scrub(self._after, limits.SLICE_ROWS_MAX, limits.SLICE_BYTES_MAX)
        self._inside.submit(("scrubbed", self._number), command)

    def _on_scrubbed(self, outcome: Outcome, number: int) -> None:
        inside = self._inside
        if not isinstance(outcome, Scrubbed):
            assert isinstance(outcome, Failed), outcome
            inside.log("error", "scrub_failed", f"what is stored cannot be read: {outcome.detail}")
            inside.timer(RETRY_US, "scrub", number)
            return
        self._bytes += outcome.bytes
        self._records += outcome.records
        inside.count("scrubbed_bytes", outcome.bytes)
        for problem in outcome.problems:
            self._found(problem)
        self._after = outcome.after
        if outcome.after:
            inside.timer(max(1, outcome.bytes * limits.SECOND_US // self._bytes_per_s), "scrub", number)
        elif self.indexes is not None:
            self.indexes.begin(self._bytes_per_s, self._found, self._ended)
        else:
            self._ended()

    def _found(self, problem: str) -> None:
        """Something was wrong, and is put right."""
        self._problem_count += 1
        if len(self._problems) < PROBLEMS_KEPT_MAX:
            self._problems.append(problem)
        self._inside.count("scrub_repairs")
        self._inside.log("warning", "scrub_repaired", problem)

    def _ended(self) -> None:
        inside = self._inside
        took_us = inside.world.monotonic_us() - self._began_us
        self._running = False
        self._last = {
            "bytes": self._bytes,
            "records": self._records,
            "documents": 0 if self.indexes is None else self.indexes.documents,
            "problems": self._problem_count,
            "seconds": round(took_us / 1e6, 3),
            "found": self._problems,
        }
        inside.count("scrubs")
        every_us = inside.settings.scrub_every_us
        if every_us:
            inside.timer(max(every_us // 10, every_us - took_us), "scrub", self._number)
