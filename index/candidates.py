"""The first hits by exact score, from candidates that come by falling estimates.

An estimate times `bounds.high` is never below the exact score, and times `bounds.low` never above it. So when
as many hits are known as are asked for, and the next estimate cannot reach the last of them, nothing that
follows can come before it. Where many documents score nearly the same this would go on for long: after
JUDGED_STRICT documents a difference of TOLERANCE is let pass, after JUDGED_MAX it ends. So the order is exact
among all that was judged, and what was not can be better than the last hit by no more than that.

Documents with one estimate come in the order of the ring, so crowds of equals are paged through in the order
of their keys; what lies certainly before the page is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappush, heapreplace
from typing import Final, NamedTuple

from index.query import After, Hit

JUDGED_STRICT: Final = 150
JUDGED_MAX: Final = 2_000
TOLERANCE: Final = 0.01


class Bounds(NamedTuple):
    """Between which factors exact scores lie around their estimates."""

    low: float
    high: float


class Candidate(NamedTuple):
    """A document that matches: what it is estimated to score, its token, where it is."""

    estimate: float
    token: int
    place: object


def first_hits(
    candidates: Iterable[Candidate],
    judge: Callable[[Candidate], Hit | None],
    limit: int,
    bounds: Bounds,
    after: After | None = None,
) -> list[Hit]:
    """At most `limit` hits, best first, ties by key. `judge` gives None for what does not count."""
    kept: list[tuple[float, tuple[int, ...], Hit]] = []
    judged = 0
    top = None if after is None else after.sort[0]
    for candidate in candidates:
        estimate = candidate.estimate
        if isinstance(top, int | float) and estimate * bounds.low > top:
            continue
        if len(kept) == limit:
            slack = 1.0 if judged < JUDGED_STRICT else 1 + TOLERANCE
            if estimate * bounds.high < kept[0][0] * slack or judged >= JUDGED_MAX:
                break
        judged += 1
        hit = judge(candidate)
        if hit is not None:
            item = (hit.score, _falling(hit.key), hit)
            if len(kept) < limit:
                heappush(kept, item)
            elif item[:2] > kept[0][:2]:
                heapreplace(kept, item)
    return [hit for _, _, hit in sorted(kept, key=lambda item: (-item[0], item[2].key))]


def _falling(key: bytes) -> tuple[int, ...]:
    """Something that compares the other way round than keys do."""
    return (*(255 - byte for byte in key), 256)
