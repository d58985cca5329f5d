"""The wall clock, which a test may shift while the process runs.

Faking the clock of a whole process breaks the interpreter's waits; so there is a file instead: if the
environment names one in SULLAE_CLOCK_OFFSET_FILE, it holds microseconds to add, and is looked at again every
50 ms at most.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

OFFSET_FILE_VARIABLE = "SULLAE_CLOCK_OFFSET_FILE"
LOOK_AGAIN_NS = 50_000_000


def monotonic_us() -> int:
    """Microseconds that never go back."""
    return time.monotonic_ns() // 1000


class WallClock:
    """Microseconds since 1970, and so many more."""

    def __init__(self, offset_file: Path | None) -> None:
        self._file = offset_file
        self._offset_us = 0
        self._looked_ns = -LOOK_AGAIN_NS

    @classmethod
    def from_environment(cls) -> WallClock:
        """Shifted by the file that the environment names, if it names one."""
        name = os.environ.get(OFFSET_FILE_VARIABLE)
        return cls(Path(name) if name else None)

    def read_us(self) -> int:
        """The time."""
        if self._file is None:
            return time.time_ns() // 1000
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns >= LOOK_AGAIN_NS:
            self._looked_ns = now_ns
            with contextlib.suppress(OSError, ValueError):  # absent, or being rewritten: as before
                self._offset_us = int(self._file.read_text())
        return time.time_ns() // 1000 + self._offset_us
