"""The order of hits: by sort values, missing ones where asked, ties by key. The same everywhere it is needed:
in an index, where answers of peers are merged, and where a page ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cmp_to_key
from typing import Any

from index.floats import total_of
from index.query import SCORE, After, Hit, SortKey, SortValue


def rank_of(value: SortValue) -> int:
    """Booleans come before numbers (dates are numbers here), those before text."""
    return 0 if isinstance(value, bool) else 2 if isinstance(value, str) else 1


def compare(left: SortValue, right: SortValue, key: SortKey) -> int:
    """Negative, 0 or positive: how two values of one sort key stand to each other."""
    if left is None or right is None:
        if left is right:
            return 0
        return -1 if (left is None) == key.missing_first else 1
    ranks = rank_of(left), rank_of(right)
    if ranks[0] != ranks[1]:
        found = ranks[0] - ranks[1]
    else:
        a: Any = left
        b: Any = right
        found = (a > b) - (a < b)
    return -found if key.descending else found


def compare_values(left: Sequence[SortValue], right: Sequence[SortValue], keys: Sequence[SortKey]) -> int:
    """How two rows of sort values stand to each other."""
    for a, b, key in zip(left, right, keys, strict=True):
        found = compare(a, b, key)
        if found:
            return found
    return 0


def by_order(keys: Sequence[SortKey]) -> Any:
    """A key function for hits: by these, or by score if there are none; ties by key."""
    if not keys:
        return lambda hit: (-hit.score, hit.key)

    def order(left: Hit, right: Hit) -> int:
        return compare_values(left.sort, right.sort, keys) or (left.key > right.key) - (left.key < right.key)

    return cmp_to_key(order)


def sorted_hits(hits: Iterable[Hit], keys: Sequence[SortKey], limit: int) -> list[Hit]:
    """The first `limit` in order."""
    return sorted(hits, key=by_order(keys))[:limit]


def is_after(hit: Hit, after: After, keys: Sequence[SortKey]) -> bool:
    """Whether a hit comes after where a page ended. Without sort keys `after.sort` holds the score."""
    if not keys:
        score = after.sort[0]
        assert isinstance(score, int | float), "a page by score ends at a score"
        return (-hit.score, hit.key) > (-score, after.key)
    found = compare_values(hit.sort, after.sort, keys)
    return found > 0 or (found == 0 and hit.key > after.key)


def sort_values(keys: Sequence[SortKey], score: float, values: Any) -> tuple[SortValue, ...]:
    """What a document is sorted by; `values(field, view)` gives its values."""
    found: list[SortValue] = []
    for key in keys:
        if key.field == SCORE:
            found.append(score)
            continue
        held = values(key.field, key.view)
        best: SortValue = None
        if key.mode and len(held) > 1:
            best = _of_mode(key.mode, held)
        else:
            for value in held:
                if best is None or compare(value, best, key) < 0:
                    best = value
        found.append(key.missing if best is None else best)
    return tuple(found)


def _of_mode(mode: str, held: Sequence[Any]) -> SortValue:
    """The least or greatest value, or what the numbers among them come to."""
    if mode in ("min", "max"):
        order: Any = lambda value: (rank_of(value), value)  # noqa: E731
        least: SortValue = min(held, key=order) if mode == "min" else max(held, key=order)
        return least
    numbers: list[float] = sorted(value for value in held if rank_of(value) == 1)
    if not numbers:
        return None
    if mode == "median":
        middle = len(numbers) // 2
        return numbers[middle] if len(numbers) % 2 else (numbers[middle - 1] + numbers[middle]) / 2
    total = total_of(numbers)
    return total if mode == "sum" else total / len(numbers)
