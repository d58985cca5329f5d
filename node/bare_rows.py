"""Rows that an inverted index holds without terms, as nobody foresaw their documents: counted, and logged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.limits import SECOND_US
from node.inside import Inside

SILENT_US = 60 * SECOND_US
"""After a line, those that follow are only counted for so long; the next line says how many they were."""


class BareRows:
    """Those of one index. `name_of`: a row's key as operators know it."""

    def __init__(self, inside: Inside, name_of: Callable[[bytes], str]) -> None:
        self._inside = inside
        self._name_of = name_of
        self._untold = 0
        self._told_us: int | None = None

    def tell(self, bare: Sequence[tuple[bytes, str]]) -> None:
        """Some more: the key of each, and the class of what was raised."""
        if not bare:
            return
        self._untold += len(bare)
        self._inside.count("search_rows_without_terms", len(bare))
        now_us = self._inside.world.monotonic_us()
        if self._told_us is not None and now_us - self._told_us < SILENT_US:
            return
        key, why = bare[-1]
        text = f"no search finds {self._name_of(key)} by what it contains: it cannot be analyzed ({why})"
        more = f", nor {self._untold - 1} more" if self._untold > 1 else ""
        self._inside.log("warning", "row_without_terms", text + more)
        self._untold, self._told_us = 0, now_us
