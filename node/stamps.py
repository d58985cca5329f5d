"""Timestamps for writes: the hybrid logical clock, and its ceiling that is made durable before it is used.

A write that needs a stamp above the durable ceiling waits for the next group commit, which is what its own
durability costs anyway. Under load the ceiling is raised ahead of need, twice a second; an idle peer writes
nothing. On a disk so slow that a ceiling is past before it is durable, the next one is put further ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from core import limits
from core.commands import Done, Failed, Outcome, SystemWrite
from node.inside import Inside

CEILING_RECORD = b"clock/ceiling"
FURTHER_US_MAX = 16 * limits.SECOND_US


def ceiling_of(boot: dict[bytes, bytes]) -> int:
    """The ceiling that was durable when the store was opened, in microseconds."""
    return int.from_bytes(boot.get(CEILING_RECORD, b""), "big")


class Stamps:
    """Gives stamps in the order asked, at once or after the ceiling is durable."""

    def __init__(self, inside: Inside) -> None:
        """Nothing is written before the first stamp is asked for."""
        self._inside = inside
        self._clock = inside.clock
        self._waiting: deque[tuple[Callable[[int], None], Callable[[str], None]]] = deque()
        self._raising = False
        self._asked_us = 0
        self._further_us = 0
        self._told = ""
        inside.on_stored("ceiling", self._on_durable)

    def take(self, then: Callable[[int], None], refused: Callable[[str], None]) -> None:
        """Call `then(timestamp_us)` with a stamp above all before it; or `refused(why)` if there is none."""
        if not self._waiting:
            stamp_us = self._clock.stamp()
            if stamp_us is not None:
                then(stamp_us)
                if self._clock.is_near(stamp_us):
                    self.keep_ahead()
                return
        self._waiting.append((then, refused))
        self.keep_ahead()

    def keep_ahead(self) -> None:
        """Begin to raise the ceiling if it is near."""
        if self._raising:
            return
        ceiling_us = self._clock.wanted_ceiling_us()
        if ceiling_us is not None:
            self._raising = True
            self._asked_us = self._inside.world.monotonic_us()
            ceiling_us += self._further_us
            record = (CEILING_RECORD, ceiling_us.to_bytes(8, "big"))
            self._inside.submit(("ceiling", ceiling_us), SystemWrite((record,)))

    def _on_durable(self, outcome: Outcome, ceiling_us: int) -> None:
        self._raising = False
        took_us = self._inside.world.monotonic_us() - self._asked_us
        is_slow = took_us > limits.CLOCK_CEILING_AHEAD_US // 4
        self._further_us = min(FURTHER_US_MAX, 2 * took_us) if is_slow else 0
        if not isinstance(outcome, Done):
            why = outcome.detail if isinstance(outcome, Failed) else str(outcome)
            text = f"this peer can write nothing, so it stamps no writes: {why}"
            if why != self._told:  # each write tries again
                self._inside.log("error", "ceiling_not_raised", text)
            self._told = why
            waiting, self._waiting = self._waiting, deque()
            for _, refused in waiting:  # the next write tries again
                refused(text)
            return
        if self._told:
            self._inside.log("info", "ceiling_raised", "this peer can write again")
            self._told = ""
        self._clock.raised(ceiling_us)
        while self._waiting:
            stamp_us = self._clock.stamp()
            if stamp_us is None:
                break
            then, _ = self._waiting.popleft()
            then(stamp_us)
        self.keep_ahead()
