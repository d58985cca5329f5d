"""What a traced request did, line by line.

A door that is asked to trace a request makes a `Trace` and puts it into the request (`trace` of the classes
in core/requests.py); whoever works on the request tells it what happens. A request without one pays a
comparison with None here and there, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.limits import TRACE_LINES_MAX
from core.ports import PeerId


class TraceLine(NamedTuple):
    """At `at_us` after the request came, `source` (b"" is the coordinator) did something.

    `elapsed_us` is by the source's own clock, since it heard of the request.
    """

    at_us: int
    source: PeerId
    elapsed_us: int
    activity: str


class Trace:
    """The lines of one request, at most TRACE_LINES_MAX; `ops` are the numbers of its operations.

    `owed` is what was asked of whom, (operation, peer), and not yet told of: empty, nothing more is to come.
    Once `has_ended` nothing is asked for it any more.
    """

    __slots__ = ("_begun_us", "_clock", "duration_us", "has_ended", "id", "lines", "ops", "owed")

    def __init__(self, trace_id: bytes, clock: Callable[[], int]) -> None:
        """`trace_id` has 16 bytes; `clock` is World.monotonic_us."""
        self.id = trace_id
        self.lines: list[TraceLine] = []
        self.ops: list[int] = []
        self.owed: set[tuple[int, PeerId]] = set()
        self.duration_us = 0
        self.has_ended = False
        self._clock = clock
        self._begun_us = clock()

    def tell(self, activity: str) -> None:
        """The coordinator does something now."""
        if len(self.lines) < TRACE_LINES_MAX:
            at_us = self._clock() - self._begun_us
            self.lines.append(TraceLine(at_us, b"", at_us, activity))

    def told(self, source: PeerId, elapsed_us: int, activity: str) -> None:
        """A replica has done something, and says so now."""
        if len(self.lines) < TRACE_LINES_MAX:
            self.lines.append(TraceLine(self._clock() - self._begun_us, source, elapsed_us, activity))

    def answered(self) -> None:
        """The client gets its answer now."""
        self.duration_us = max(1, self._clock() - self._begun_us)
