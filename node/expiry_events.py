"""Has what ran out by its time to live logged, so that subscribers hear of it (lsm/expiring.py).

Every PAUSE_US, by this peer's clock. So an event of expiry comes at most that much, and what the clock is
behind, after the moment it tells of; later only while more runs out than can be logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import limits
from core.commands import Outcome
from core.expiring import Expired, ExpireRows

if TYPE_CHECKING:
    from node.following import Following
    from node.inside import Inside
    from node.metadata import Metadata

PAUSE_US = 1 * limits.SECOND_US
ON_US = 5_000
"""Between two steps, as long as there is more to log."""
PASSED_OVER_MAX = 60
"""So often nothing is looked at where no table keeps changes: of those that did, and do no more, or are no
more, there may be notes.
"""
ROWS_MAX = 200


class ExpiryEvents:
    """A timer and a command."""

    def __init__(self, inside: Inside, metadata: Metadata, following: Following) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._following = following
        self._passed_over = 0
        inside.on_timer("expiry_events", self._look)
        inside.on_stored("expiry_logged", self._on_expired)

    def start(self) -> None:
        """Begin."""
        self._inside.timer(PAUSE_US, "expiry_events")

    def _look(self) -> None:
        keeps = any(table.options.changes != "none" for table in self._metadata.state.tables.values())
        if keeps or self._passed_over == PASSED_OVER_MAX:
            self._inside.submit(("expiry_logged",), ExpireRows(self._inside.clock.now_us(), ROWS_MAX))
        else:
            self._passed_over += 1
            self._inside.timer(PAUSE_US, "expiry_events")

    def _on_expired(self, outcome: Outcome) -> None:
        """What fails (a full disk) is tried again."""
        is_more = isinstance(outcome, Expired) and outcome.more
        self._passed_over = self._passed_over if is_more else 0
        if isinstance(outcome, Expired):
            self._following.told_us = outcome.swept_us
        if isinstance(outcome, Expired) and outcome.events:
            self._inside.count("rows_expired", outcome.events)
        self._inside.timer(ON_US if is_more else PAUSE_US, "expiry_events")
