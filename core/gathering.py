"""Gathers: computing over the rows of a table where they are, and putting the parts together.

A *program* (bytes that only a door understands) is run by peers over the rows of token ranges, piece by
piece: each piece of work is bounded, and gives a *part* (bytes) and the place where it stopped. Whoever asked
folds the parts into one result and goes on from those places, at the same peers or at others. A fold must not
depend on how the rows were divided into parts.

Each range is served by one replica, after it has followed as many of its siblings as the level needs
(node/gathers.py), so what is folded is what a reader at that level may rely on.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from core.consistency import Level
from core.finding import Drive
from core.ports import PeerId


class Fold(Protocol):
    """What becomes of the parts of one gather. Called on the node's side, one part at a time."""

    def program(self, server: PeerId) -> bytes:
        """What this peer is to run next."""

    def absorb(self, server: PeerId, part: bytes) -> bool:
        """Take a part; False if that peer need not go on, whatever is left there."""

    def done(self) -> bool:
        """Whether no peer need go on."""


class GatherRequest(msgspec.Struct, frozen=True):
    """Run a program over the rows of a table with keys after `after` (b"": all), at a level.

    `drive` says which rows to look at by an index. `examined_max` is how many rows may be looked at in all
    (0: any number): beyond it the answer is Invalid("scan_refused"). `bytes_held` is about what the fold
    keeps. With `tokens`, ascending, only rows with one of these are looked at.
    """

    table: int
    level: Level
    fold: Fold
    drive: Drive | None = None
    after: bytes = b""
    examined_max: int = 0
    bytes_held: int = 0
    tokens: tuple[int, ...] = ()


class Served(msgspec.Struct, frozen=True):
    """What one peer did: rows it looked at, bytes it sent, pieces of work, and how long it took over them.

    `followed` are the siblings that it followed first.
    """

    peer: PeerId
    ranges: int
    followed: tuple[PeerId, ...]
    examined: int
    part_bytes: int
    pieces: int
    took_us: int


class Gathered(msgspec.Struct, frozen=True):
    """All is folded; rows were looked at as of `now_us`."""

    served: tuple[Served, ...]
    now_us: int
