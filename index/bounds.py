"""What a query may cost, and how one that cannot be taken is told: a value that says where and what to do."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from index.query import Query, walk

CLAUSES_MAX: Final = 1_000
DEPTH_MAX: Final = 50
TEXT_CHARS_MAX: Final = 32_768
FIELD_CHARS_MAX: Final = 1_024
TERMS_MAX: Final = 10_000
"""Values in one terms or ids query."""
WINDOW_MAX: Final = 10_000
"""`from` and `size` in sum; beyond goes `search_after`."""
SORT_KEYS_MAX: Final = 16
AGGREGATIONS_MAX: Final = 100
AGGREGATION_DEPTH_MAX: Final = 6
BOOST_MAX: Final = 1e6


class QueryError(msgspec.Struct, frozen=True):
    """Why a query is not taken: at `path` in its JSON, at this position (characters from 0) of its text, if
    there is one (-1: not in a text).
    """

    detail: str
    path: str = ""
    position: int = -1

    def told(self) -> str:
        """One sentence for the user."""
        where = f"{self.path}: " if self.path else ""
        at = f" (at character {self.position})" if self.position >= 0 else ""
        return f"{where}{self.detail}{at}"


class RefusedError(Exception):
    """Leaves a parser of this package with what its public function returns."""

    def __init__(self, detail: str, path: str = "", position: int = -1) -> None:
        super().__init__(detail)
        self.error = QueryError(detail, path, position)


def check_size(query: Query) -> None:
    """Raise RefusedError for more clauses than CLAUSES_MAX."""
    count = sum(1 for _ in walk(query))
    if count > CLAUSES_MAX:
        raise RefusedError(f"a query has at most {CLAUSES_MAX} clauses, this has {count}: use `terms`")


def is_boost(value: float) -> bool:
    """Whether this can multiply scores."""
    return math.isfinite(value) and 0 <= value <= BOOST_MAX
