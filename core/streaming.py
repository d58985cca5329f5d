"""Subscribing to the changes of a table: what is asked of a node, and the parts that it streams.

A stream's place in a range of tokens is a *vector*: of each replica, how far its log is delivered. One
replica is followed at a time; the others' offsets say where it could go on there (node/subscriptions.py).
"""

from __future__ import annotations

import msgspec

from core.commands import LoggedChange

NOW, START, CURSOR = "now", "start", "cursor"

TokenRange = tuple[int, int]
"""Inclusive."""

Offsets = tuple[tuple[int, int], ...]
"""(number of a peer, offset in its log up to which all is delivered), ascending by number."""


class Place(msgspec.Struct, frozen=True, array_like=True, order=True):
    """How far a range of tokens is delivered; `server` is the number of the peer that was followed last."""

    first: int
    last: int
    server: int
    offsets: Offsets


class ChangesRequest(msgspec.Struct, frozen=True):
    """Stream what happens to the rows of a table, in parts (`ChangesPart`) for which `want` gives credit.

    `start` is NOW, START (as far as logs reach) or CURSOR (`places`, which cover all of `ranges`, of a stream
    that began NOW at `began_us`, if that is not 0). What was admitted before `since_us` is passed over. Only
    tokens in `ranges` count (inclusive, ascending, disjoint).
    """

    table: int
    start: str = NOW
    places: tuple[Place, ...] = ()
    since_us: int = 0
    ranges: tuple[TokenRange, ...] = ((-(2**63), 2**63 - 1),)
    began_us: int = 0


RESTART, GAP, TRUNCATED = "restart", "gap", "truncated"


class Notice(msgspec.Struct, frozen=True):
    """Something to know before the entries that follow.

    RESTART: images of these ranges need not continue those before, and ids may be repeated. GAP: something
    in these ranges may be missing for good: read them again. TRUNCATED: all rows of the table are gone.
    """

    kind: str
    ranges: tuple[TokenRange, ...]
    why: str


class ChangesPart(msgspec.Struct, frozen=True):
    """Notices, then entries of one replica's log, in its order; `places`: where their ranges then stand.

    `whole`: `places` are all ranges of the stream; they cover what was sent before. `table` is the id that
    the entries are of: TRUNCATE renews it. `unserved` are ranges that no replica serves at the moment.
    """

    table: int
    since_us: int
    places: tuple[Place, ...]
    whole: bool = False
    notices: tuple[Notice, ...] = ()
    entries: tuple[LoggedChange, ...] = ()
    unserved: tuple[TokenRange, ...] = ()
    began_us: int = 0
