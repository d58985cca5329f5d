"""Before others in line for a processor, where the kernel has groups for it and we are permitted.

With `sched_autogroup` Linux shares processors between sessions, not processes: on a machine with other work
a cluster gets the share of its sessions however `nice` its processes are. A session has a nice value of its
own (`/proc/PID/autogroup`). Each peer is in a session of its own, so that it can be signalled alone; what
starts it passes its own session's value on.
"""

from __future__ import annotations

from pathlib import Path

FIRST = -20
"""The nice value of who goes first."""


def of(process: int | str = "self") -> int:
    """The nice value of the session in which a process is; 0 where there is none."""
    try:
        return int(_file(process).read_text().rpartition(" ")[2])
    except (OSError, ValueError):
        return 0


def give(process: int | str, nice: int) -> bool:
    """Give the session of a process this nice value; False where that cannot be done."""
    try:
        _file(process).write_text(f"{nice}\n")
    except OSError:
        return False
    return True


def pass_on(process: int) -> None:
    """A process that we started in a session of its own stands in line where we do."""
    nice = of()
    if nice:
        give(process, nice)


def _file(process: int | str) -> Path:
    return Path(f"/proc/{process}/autogroup")
