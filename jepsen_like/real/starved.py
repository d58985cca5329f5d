"""Whether the machine had time for a real run at all.

Processes that the machine does not let run are late with everything, and what was not reached in time then
says nothing of the store. The kernel counts for how long a process was ready to run and did not
(`/proc/self/schedstat`): the harness does little and waits for its turn like the peers do, so the share of
time for which it waited is that of the machine. What is *wrong* is wrong however slow the machine is; so a
starved run in which nothing but time ran out is neither green nor red: it is invalid, and to be done again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from jepsen_like.checkers import Problem

SCHEDSTAT = Path("/proc/self/schedstat")
WAITED_MAX = 0.15
"""A harness that waited for a processor for a larger share of a phase was starved in it. On a machine of two
processors with nothing but five peers under load it is 0.01 to 0.05.
"""

LATE = ("unborn", "setup", "not_live", "unproven", "unknown", "stats")
"""Problems that say no more than that something was not reached in time."""


class Waiting:
    """For which share of the time this process waited for a processor, phase by phase."""

    def __init__(self, stat: Path = SCHEDSTAT) -> None:
        """The first phase begins."""
        self._stat = stat
        self._began = self._read()
        self.shares: dict[str, float] = {}

    def _read(self) -> tuple[float, float] | None:
        try:
            waited_ns = int(self._stat.read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None  # not Linux, or a kernel that does not count
        return time.monotonic(), waited_ns / 1e9

    def end(self, phase: str) -> None:
        """A phase is over; the next one begins."""
        before, self._began = self._began, self._read()
        if before is not None and self._began is not None:
            lasted_s = max(self._began[0] - before[0], 1e-3)
            self.shares[phase] = max(self.shares.get(phase, 0.0), (self._began[1] - before[1]) / lasted_s)

    def starved(self) -> str:
        """In which phases the machine had no time for us; "" for none."""
        return ", ".join(
            f"{phase} ({share:.0%})" for phase, share in self.shares.items() if share > WAITED_MAX
        )


def why_invalid(problems: Sequence[Problem], starved: str, healthy_rate: float, needed_rate: float) -> str:
    """Why a run says nothing, or "". Whatever is wrong beyond lateness is never excused."""
    if any(problem.name not in LATE for problem in problems):
        return ""
    if problems and starved:
        return f"the machine had no time for it: waited for a processor in {starved}"
    if not problems and healthy_rate < needed_rate:
        return (
            f"{healthy_rate:.0f} operations per second worked before the first fault, not {needed_rate:.0f}"
        )
    return ""
