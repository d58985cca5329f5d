"""Store commands of moving ranges: what a peer takes over with them, and forgets when it has given them
up; and what it forgets of tables that are no more.
"""

from __future__ import annotations

import msgspec


class TakeFloors(msgspec.Struct, frozen=True):
    """Keep to these floors, too: (table, ranges as lsm/floors.py encodes them). Answered with Done."""

    floors: tuple[tuple[int, bytes], ...]


class LogForget(msgspec.Struct, frozen=True):
    """Forget that mutations in these ranges (per table) were ever held: as LogRead, but their ids are
    deleted.

    For who has given up a range: should it get the range again, those mutations are news to it.
    """

    after: int
    entries_max: int
    ranges: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class DropRange(msgspec.Struct, frozen=True):
    """Delete rows with tokens from `first_token` to `last_token` (inclusive), at most so many, then their
    Paxos
    state: what a peer gave up. Answered with Swept; call again until its `after` is empty.
    """

    table: int
    first_token: int
    last_token: int
    rows_max: int


class ForgetTables(msgspec.Struct, frozen=True):
    """Delete what is stored of tables that are no more: of ids below `below`, all of which were given.

    Looks at a few tables behind the key `after`. Answered with Swept; call again until its `after` is empty.
    """

    below: int
    after: bytes = b""
