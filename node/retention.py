"""Retention: the change log is trimmed by age and by size, a bounded piece at a time.

What is trimmed was followed by whoever was there to follow it; who was away longer finds a gap and is made
equal by hash trees (node/following.py). Ids of mutations outlive their entries, so nothing is ever applied
twice. Rows that a partition's tombstones cover are removed by the store itself, in its idle moments
(lsm/executor.py).
"""

from __future__ import annotations

from core import limits
from core.commands import Done, LogTrim, Outcome
from node.inside import Inside

TRIM_PAUSE_US = 60 * limits.SECOND_US
"""Between two looks at the log's old end; a trim forgets a bounded number of entries (lsm/log.py)."""


class Retention:
    """Has the log trimmed."""

    def __init__(self, inside: Inside) -> None:
        """Register."""
        self._inside = inside
        self._failing = False
        inside.on_timer("retention", self._trim)
        inside.on_stored("log_trimmed", self._on_trimmed)

    def start(self) -> None:
        """Begin."""
        self._inside.timer(TRIM_PAUSE_US, "retention")

    def _trim(self) -> None:
        settings = self._inside.settings
        before_us = self._inside.clock.now_us() - settings.log_retention_us
        self._inside.submit(("log_trimmed",), LogTrim(before_us, settings.log_bytes_max))

    def _on_trimmed(self, outcome: Outcome) -> None:
        failed = not isinstance(outcome, Done)
        if failed and not self._failing:
            self._inside.log(
                "warning", "log_not_trimmed", f"the change log cannot be trimmed for now: {outcome}"
            )
        self._failing = failed
        self._inside.timer(TRIM_PAUSE_US, "retention")
