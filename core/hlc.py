"""The hybrid logical clock: timestamps that never go back, whatever the wall clock does.

A stamp is wall-clock microseconds if those are ahead of all stamps before, else the last stamp plus one. The
clock stays at or below a *ceiling* that its owner has made durable, so a peer that restarts with a clock set
back begins above everything that it ever stamped. `wanted_ceiling_us` says when to make a higher one durable;
above the ceiling there are no stamps (`None`): who needs one waits until `raised` was called.

(Kulkarni et al., Logical Physical Clocks, 2014; the logical part is folded into the microseconds.)
"""

from __future__ import annotations

from collections.abc import Callable

from core import limits


class HybridClock:
    """Stamps for one peer.

    `wall_us` is the wall clock, `ceiling_us` what was durable when the peer started.
    """

    def __init__(self, wall_us: Callable[[], int], ceiling_us: int) -> None:
        """Begin above `ceiling_us`; no stamp is given before `raised` has been called."""
        self._wall_us = wall_us
        self._last_us = ceiling_us
        self._ceiling_us = ceiling_us

    @property
    def ceiling_us(self) -> int:
        """No stamp is above this."""
        return self._ceiling_us

    def bound_us(self) -> int:
        """What a client's timestamp is measured against: the wall clock alone.

        Stamps follow what they meet: measured against them, timestamps a minute ahead of them would push each
        other ahead without end.
        """
        return self._wall_us()

    def now_us(self) -> int:
        """A reading for `now` of reads and of hints: at least the last stamp; takes no stamp."""
        return max(self._wall_us(), self._last_us)

    def stamp(self) -> int | None:
        """A timestamp above all before it; None if that is above the durable ceiling."""
        stamp_us = max(self._wall_us(), self._last_us + 1)
        if stamp_us > self._ceiling_us:
            return None
        self._last_us = stamp_us
        return stamp_us

    def observe(self, timestamp_us: int) -> None:
        """Stamp above this from now on. It may lie above the ceiling: then stamps wait for a higher one."""
        self._last_us = max(self._last_us, timestamp_us)

    def is_near(self, stamp_us: int) -> bool:
        """Whether the ceiling is less than half of its reach ahead of the last stamp."""
        return self._ceiling_us - stamp_us < limits.CLOCK_CEILING_AHEAD_US // 2

    def wanted_ceiling_us(self) -> int | None:
        """The ceiling to make durable next, if the present one is less than half of its reach ahead."""
        now_us = self.now_us()
        if not self.is_near(now_us):
            return None
        return now_us + limits.CLOCK_CEILING_AHEAD_US

    def raised(self, ceiling_us: int) -> None:
        """This ceiling is durable."""
        self._ceiling_us = max(self._ceiling_us, ceiling_us)
