"""Forgetting of a change log: the words for asking a store."""

from __future__ import annotations

import msgspec


class Share(msgspec.Struct, frozen=True):
    """How many bytes of a table's entries are kept: what is older is nobody's to read any more, but for
    entries above `held`, which somebody has still to read (-1: all of them).
    """

    table: int
    bytes_max: int
    held: int = 2**63 - 1


class LogTrim(msgspec.Struct, frozen=True):
    """Forget log entries admitted before `before_us` or beyond `bytes_max`, oldest first, and ids of what is
    over for good.

    `tables` are tables whose entries are kept longer: (id, before when). Entries above `held` (-1: all) are
    somebody's to read yet: they are only forgotten if admitted before `held_before_us` or beyond
    `held_bytes_max`. What lies within the `shares` of tables is forgotten for its age alone. Answered with
    Trimmed.
    """

    before_us: int
    bytes_max: int
    tables: tuple[tuple[int, int], ...] = ()
    held: int = 2**63 - 1
    held_before_us: int = 0
    held_bytes_max: int = 0
    shares: tuple[Share, ...] = ()


class Trimmed(msgspec.Struct, frozen=True):
    """So many entries were forgotten; `more`: there is more to do, of which a step does a bounded piece."""

    forgotten: int
    more: bool
