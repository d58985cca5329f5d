"""Virtual time: one heap of events for a whole cluster.

An event is a tuple (time_us, sequence, call, arguments). The sequence makes the order total, so two events
of one microsecond happen in the order in which they were asked for and nothing ever compares two callables.
Nothing waits for real time: `run` jumps from event to event. There is no cancelling here: whoever may
change its mind keeps the thing to be done in a dict of its own and the event finds it gone (SimWorld's
timers), which costs one dict operation instead of a search of the heap.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Call = Callable[..., Any]


class Scheduler:
    """The heap. `now_us` is the virtual time since the beginning of the simulation, in microseconds."""

    __slots__ = ("_heap", "_sequence", "events", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._heap: list[tuple[int, int, Call, tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, time_us: int, call: Call, *arguments: Any) -> None:
        """Call at this time, which must not lie in the past."""
        assert time_us >= self.now_us, "an event in the past"
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (time_us, sequence, call, arguments))

    def after(self, delay_us: int, call: Call, *arguments: Any) -> None:
        """Call after this delay (negative ones count as none)."""
        self._sequence = sequence = self._sequence + 1
        time_us = self.now_us + delay_us if delay_us > 0 else self.now_us
        heappush(self._heap, (time_us, sequence, call, arguments))

    def run(self, end_us: int) -> None:
        """Let everything happen up to and including `end_us`; the clock stands there afterwards."""
        heap = self._heap
        count = 0
        while heap and heap[0][0] <= end_us:
            time_us, _, call, arguments = heappop(heap)
            self.now_us = time_us
            count += 1
            call(*arguments)
        self.events += count
        if self.now_us < end_us:
            self.now_us = end_us

    def run_until(self, predicate: Callable[[], bool], timeout_us: int) -> bool:
        """Let things happen until `predicate` holds (looked at after each event); False if it never does."""
        end_us = self.now_us + timeout_us
        heap = self._heap
        while not predicate():
            if not heap or heap[0][0] > end_us:
                self.now_us = end_us
                return predicate()
            time_us, _, call, arguments = heappop(heap)
            self.now_us = time_us
            self.events += 1
            call(*arguments)
        return True

    def pending(self) -> int:
        """How many events are still to happen."""
        return len(self._heap)
