"""When to try again: a table from what happened to what may follow. Pure, so that it can be read and tested.

The question is always whether the request may have been done. What was surely not done is tried again
whatever it is. What may have been done is tried again only if a second time does no harm: a read, a write
that has the same effect twice (PUT, DELETE, a merge patch, `$set`), or a write under an `Idempotency-Key`,
which the cluster does once. Once an attempt may have been done, no later refusal of another attempt can take
that back: the end is then `OutcomeUnknown`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from sullae.errors import SullaeError


class Repeat(enum.Enum):
    """What a second time does."""

    HARMLESS = "harmless"
    KEYED = "keyed"
    """The request carries an Idempotency-Key, the same in every attempt."""
    HARMFUL = "harmful"


class After(enum.Enum):
    """What may follow an attempt that failed."""

    ELSEWHERE = "elsewhere"
    """Another peer may do better, at once."""
    LATER = "later"
    """Any peer, after a pause."""
    NEVER = "never"


@dataclass(frozen=True)
class Verdict:
    """What an attempt's failure means."""

    after: After
    maybe_done: bool = False


NOT_SENT: Final = Verdict(After.ELSEWHERE)
_HERE: Final = frozenset(["not-ready", "overloaded"])
_NOW: Final = frozenset(
    [
        "unavailable",
        "replicas-failed",
        "bucket-not-created",
        "collection-not-created",
        "index-building",
        "unique-changed",
    ]
)


def lost(repeat: Repeat, *, writes: bool) -> Verdict:
    """Of a request that was sent and not answered."""
    return Verdict(After.NEVER if repeat is Repeat.HARMFUL else After.ELSEWHERE, maybe_done=writes)


def refused(error: SullaeError, repeat: Repeat, *, writes: bool) -> Verdict:
    """Of a request that was answered with a problem."""
    kind, status = error.kind, error.status
    if kind in _HERE or (not kind and status in (429, 503)):
        return Verdict(After.ELSEWHERE)
    if kind in _NOW:
        return Verdict(After.LATER)
    if kind == "idempotency-key-in-use":
        return Verdict(After.LATER, maybe_done=writes)
    if kind in ("outcome-unknown", "timeout"):
        after = After.NEVER if repeat is Repeat.HARMFUL else After.LATER
        return Verdict(after, maybe_done=writes and kind == "outcome-unknown")
    if not kind and status in (502, 504):
        return lost(repeat, writes=writes)
    return Verdict(After.NEVER, maybe_done=writes and status >= 500 and kind != "disk-full")


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts: full jitter below a bound that doubles."""

    first_s: float = 0.05
    most_s: float = 1.0

    def pause_s(self, failures: int, chance: float) -> float:
        """How long to wait after so many failures (from 1); `chance` is in [0, 1)."""
        bound = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return bound * (0.25 + 0.75 * chance)
