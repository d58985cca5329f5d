"""Keep a flood of equal log lines from becoming the harm: so many of a name in a while, then a number."""

from __future__ import annotations

from collections.abc import Callable

LINES_MAX = 10
WINDOW_S = 10.0


class LogLimit:
    """Lets `LINES_MAX` lines of each name pass per window; the next window's first says how many did not."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._windows: dict[str, tuple[float, int]] = {}

    def allowed(self, name: str, text: str) -> str | None:
        """The line to write, or None if this one is one too many."""
        now_s = self._clock_s()
        since_s, count = self._windows.get(name, (now_s, 0))
        if now_s - since_s >= WINDOW_S:
            dropped = max(0, count - LINES_MAX)
            since_s, count = now_s, 0
            if dropped:
                text = f"{text} (and {dropped} more like it before)"
        self._windows[name] = (since_s, count + 1)
        return text if count < LINES_MAX else None
