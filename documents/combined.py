"""Indexes on several paths have an entry for each combination of what stands there: how many that would be.

A few arrays of a hundred elements make millions: a few kilobytes that took all memory of every replica.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from core import limits
from core.json_values import Value

Combined = tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
"""Indexes on several paths: their names, and the paths."""


def problem_of(combined: Combined, document: Value) -> str | None:
    """Why a document has too many entries, or None."""
    for name, paths in combined:
        count = math.prod(max(1, _count(document, path)) for path in paths)
        if count > limits.INDEX_TERMS_MAX:
            return (
                f"the index {name} would have {count} entries for it, and {limits.INDEX_TERMS_MAX} are the "
                "limit: arrays on several of its paths make the product of their lengths"
            )
    return None


def _count(value: Value, path: Sequence[str]) -> int:
    """How many values stand at a path, through arrays (index/entries_json.py)."""
    if not path:
        return len(value) if isinstance(value, list) else 1
    if isinstance(value, dict):
        return _count(value[path[0]], path[1:]) if path[0] in value else 0
    if not isinstance(value, list):
        return 0
    at = int(path[0]) if path[0].isdecimal() else len(value)
    here = _count(value[at], path[1:]) if at < len(value) else 0
    return here + sum(_count(item, path) for item in value if isinstance(item, dict))
