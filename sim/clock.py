"""A machine's wall clock: wrong in the ways that clocks are wrong. Monotonic time is true virtual time."""

from __future__ import annotations

from sim.scheduler import Scheduler

EPOCH_US = 1_700_000_000_000_000
"""What an honest wall clock says when the simulation begins."""


class WallClock:
    """Skewed by an offset, drifting by parts per million, and jumping when a nemesis says so."""

    __slots__ = ("_drift_ppm", "_scheduler", "offset_us")

    def __init__(self, scheduler: Scheduler, offset_us: int = 0, drift_ppm: int = 0) -> None:
        self._scheduler = scheduler
        self._drift_ppm = drift_ppm
        self.offset_us = offset_us

    def read_us(self) -> int:
        """Microseconds since 1970 as this machine believes."""
        now_us = self._scheduler.now_us
        return EPOCH_US + now_us + self.offset_us + now_us * self._drift_ppm // 1_000_000

    def jump(self, by_us: int) -> None:
        """Jump forward or, with a negative number, back."""
        self.offset_us += by_us
