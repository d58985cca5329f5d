"""Expiry as events: what a store is asked, and answers (lsm/expiring.py)."""

from __future__ import annotations

import msgspec


class ExpireRows(msgspec.Struct, frozen=True):
    """Log what ran out by `now_us` in tables that keep changes, of at most `rows_max` rows."""

    now_us: int
    rows_max: int


class Expired(msgspec.Struct, frozen=True):
    """So many events were logged; `more` says that more has run out. All is told that did by `swept_us`."""

    events: int
    more: bool
    swept_us: int = 0
