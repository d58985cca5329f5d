"""Threads that libraries make for work that can wait: others go first.

tantivy writes postings and merges segments in threads of its own. After a load they take whole cores for
seconds, of every peer of a machine, while what answers a search wakes a dozen times for some microseconds
each, and waits for a core each time. On Linux a thread's nice value is its own, and raising it takes no
rights. So these threads are looked for by name, after jobs that may have made some, and are made to step
back; where there is nothing else to do they are as fast as ever. Python's own threads are left alone: one
that holds the interpreter's lock and has to wait for a core holds up all others.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

NICE: Final = {"merge_thread": 10, "thrd-tantivy": 5, "docstore": 5}
"""How far threads step back, by what their names begin with. New segments are waited for now and then, merged
ones never.
"""

_TASKS: Final = Path("/proc/self/task")


class BackgroundThreads:
    """Those of this process."""

    def __init__(self, tasks: Path = _TASKS) -> None:
        self._tasks = tasks
        self._known: frozenset[str] = frozenset()

    def step_back(self) -> int:
        """Lower the priority of those that are new since the last time; how many these were."""
        try:
            there = frozenset(task.name for task in self._tasks.iterdir())
        except OSError:  # not Linux
            return 0
        new, self._known = there - self._known, there
        return sum(map(self._lower, sorted(new)))

    def _lower(self, task: str) -> bool:
        try:
            name = (self._tasks / task / "comm").read_text()
            nice = next((nice for start, nice in NICE.items() if name.startswith(start)), 0)
            if nice > os.getpriority(os.PRIO_PROCESS, int(task)):
                os.setpriority(os.PRIO_PROCESS, int(task), nice)
                return True
        except OSError:  # it has ended
            pass
        return False
