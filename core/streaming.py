"""Subscribing to the changes of a table: what is asked of a node, and the parts that it streams.

A stream's place in a range of tokens is a *vector*: of each replica, how far its log is delivered. One
replica is followed at a time; the others' offsets say where it could go on there (node/subscriptions.py).
"""

from __future__ import annotations

import msgspec

from core.commands import LoggedChange
from core.row import Row

NOW, START, CURSOR, SNAPSHOT = "now", "start", "cursor", "snapshot"

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


class Join(msgspec.Struct, frozen=True):
    """Read as a member of a consumer group (streams/groups.py): which parts is decided by the group.

    `table` is keyspace.table, `session` this membership, never used before. A new group has `parts` parts.
    The member has to be heard of every `session_us`, if that is not 0. `auto`: what was delivered counts as
    acknowledged when the lines after it were taken.
    """

    table: str
    group: str
    member: str
    session: str
    parts: int
    session_us: int = 0
    auto: bool = False


class GroupRequest(msgspec.Struct, frozen=True):
    """Something about a consumer group, answered by a `Told`.

    `verb`: MAKE (`start`, `since_us`, `parts`), SHOW, LIST, FORGET, and as a member's `session` ACK (`acks`:
    parts and the fences they were read at; `cursor`, as text, where they stand), HEARTBEAT, LEAVE.
    """

    verb: str
    table: str = ""
    group: str = ""
    session: str = ""
    acks: tuple[tuple[int, int], ...] = ()
    cursor: str = ""
    start: str = NOW
    since_us: int = 0
    parts: int = 0


MAKE, SHOW, LIST, FORGET = "make", "show", "list", "forget"
ACK, HEARTBEAT, LEAVE = "ack", "heartbeat", "leave"


class ChangesRequest(msgspec.Struct, frozen=True):
    """Stream what happens to the rows of a table, in parts (`ChangesPart`) for which `want` gives credit.

    `start` is NOW, START (as far as logs reach) or CURSOR (`places`, which cover all of `ranges`, of a stream
    that began NOW at `began_us`, if that is not 0). What was admitted before `since_us` is passed over. Only
    tokens in `ranges` count (inclusive, ascending, disjoint). With `join` the group says what is read from
    where; `start`, which then may be SNAPSHOT (all rows first), and `since_us` are for a group that is new.
    """

    table: int
    start: str = NOW
    places: tuple[Place, ...] = ()
    since_us: int = 0
    ranges: tuple[TokenRange, ...] = ((-(2**63), 2**63 - 1),)
    began_us: int = 0
    join: Join | None = None


RESTART, GAP, TRUNCATED = "restart", "gap", "truncated"


class Notice(msgspec.Struct, frozen=True):
    """Something to know before the entries that follow.

    RESTART: images of these ranges need not continue those before, and ids may be repeated. GAP: something
    in these ranges may be missing for good: read them again. TRUNCATED: all rows of the table are gone.
    """

    kind: str
    ranges: tuple[TokenRange, ...]
    why: str


class Assigned(msgspec.Struct, frozen=True):
    """Which parts of how many a member of a group reads from here on."""

    generation: int
    of: int
    parts: tuple[int, ...]


class ChangesPart(msgspec.Struct, frozen=True):
    """Notices, then entries of one replica's log, in its order; `places`: where their ranges then stand.

    `whole`: `places` are all ranges of the stream; they cover what was sent before. `table` is the id that
    the entries are of: TRUNCATE renews it. `unserved` are ranges that no replica serves at the moment.

    To a member of a group: `acks` are the parts (with their fences) of which `places` may be acknowledged. Of
    a group that began with a snapshot come `rows` first, as of `rows_us`, and `scanned` as cursors have it.
    """

    table: int
    since_us: int
    places: tuple[Place, ...]
    whole: bool = False
    notices: tuple[Notice, ...] = ()
    entries: tuple[LoggedChange, ...] = ()
    unserved: tuple[TokenRange, ...] = ()
    began_us: int = 0
    assigned: Assigned | None = None
    acks: tuple[tuple[int, int], ...] = ()
    rows: tuple[tuple[bytes, Row], ...] = ()
    rows_us: int = 0
    scanned: bytes | None = None
