"""Whether the machine had time for a real run at all.

Processes that the machine does not let run are late with everything, and what was not reached in time then
says nothing of the store. The kernel counts for how long a process was ready to run and did not
(`/proc/PID/schedstat`); the share of time for which the harness and the peers waited for their turn is that
of the machine. What is *wrong* is wrong however slow the machine is; so a starved run in which nothing but
time ran out is neither green nor red: it is invalid, and to be done again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jepsen_like.checkers import Problem

PROC = Path("/proc")
OURS = ""
"""The name of this process."""
WAITED_MAX = 0.15
"""A harness that waited for a processor for a larger share of a phase was starved in it. On a machine of two
processors with nothing but five peers under load it is 0.01 to 0.05.
"""
WAITED_MAX_PEER = 0.5
"""The same of a peer: five under load share two processors and wait for each other, too."""

LATE = ("unborn", "setup", "not_live", "unproven", "unknown", "stats")
"""Problems that say no more than that something was not reached in time."""


class Waiting:
    """For which share of the time processes waited for a processor, phase by phase: ours, and each peer's.

    Of a peer it is its main thread's, looked at by `sample`; between two looks it must be the same process.
    """

    def __init__(self, proc: Path = PROC) -> None:
        """The first phase begins."""
        self._proc = proc
        self._last: dict[str, tuple[int | str, float, float]] = {}
        self._sums: dict[str, list[float]] = {}
        self.shares: dict[str, float] = {}
        self.sample({})

    def sample(self, peers: Mapping[str, int]) -> None:
        """Look at ourselves and at these processes, by name."""
        now_s = time.monotonic()
        everybody: dict[str, int | str] = {OURS: "self", **peers}
        for name, process in everybody.items():
            try:
                waited_s = int((self._proc / str(process) / "schedstat").read_text().split()[1]) / 1e9
            except (OSError, ValueError, IndexError):
                self._last.pop(name, None)  # gone, or not Linux, or a kernel that does not count
                continue
            before = self._last.get(name)
            self._last[name] = (process, now_s, waited_s)
            if before is not None and before[0] == process:
                sums = self._sums.setdefault(name, [0.0, 0.0])
                sums[0] += now_s - before[1]
                sums[1] += waited_s - before[2]

    def end(self, phase: str, peers: Mapping[str, int]) -> None:
        """A phase is over; the next one begins."""
        self.sample(peers)
        for name, (lasted_s, waited_s) in self._sums.items():
            who = phase if name == OURS else f"{phase} of {name}"
            self.shares[who] = waited_s / max(lasted_s, 1e-3)
        self._sums.clear()

    def starved(self) -> str:
        """In which phases the machine had no time for us; "" for none."""
        return ", ".join(
            f"{phase} ({share:.0%})"
            for phase, share in self.shares.items()
            if share > (WAITED_MAX_PEER if " of " in phase else WAITED_MAX)
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
