"""Consistency levels, and what each needs of the replicas of a partition: small mathematics, no state.

Levels mean what Cassandra means by them. A level counts against the replication factor, not against who is
alive.
"""

from __future__ import annotations

import enum
import functools

import msgspec


class Level(enum.StrEnum):
    """The consistency levels of a request."""

    ANY = "any"
    ONE = "one"
    TWO = "two"
    THREE = "three"
    QUORUM = "quorum"
    ALL = "all"
    LOCAL_ONE = "local_one"
    LOCAL_QUORUM = "local_quorum"
    EACH_QUORUM = "each_quorum"
    SERIAL = "serial"
    LOCAL_SERIAL = "local_serial"

    __hash__ = str.__hash__
    """Levels are in the keys of what is looked up per request, and Enum's own hash is a call in Python."""


FIXED = {Level.ANY: 1, Level.ONE: 1, Level.TWO: 2, Level.THREE: 3}


def quorum(n: int) -> int:
    """The smallest majority of n."""
    return n // 2 + 1


class Need(msgspec.Struct, frozen=True):
    """What a level needs: `total` answers that count; only the local datacentre's count if `local`.

    For EACH_QUORUM `each` names what every datacentre must reach on its own, `total` is their sum. While a
    range moves, `sides` say what is needed of its old and what of its new replicas (`joint`).
    """

    total: int
    local: bool = False
    each: tuple[tuple[str, int], ...] = ()
    sides: tuple[tuple[Need, tuple[bytes, ...]], ...] = ()

    def counts(self, datacentre: str, local_datacentre: str) -> bool:
        """Whether an answer of a replica in `datacentre` counts."""
        return not self.local or datacentre == local_datacentre

    def met(self, by_datacentre: dict[str, int], local_datacentre: str) -> bool:
        """Whether these answers, counted per datacentre, are enough."""
        if self.each:
            return all(by_datacentre.get(name, 0) >= n for name, n in self.each)
        if self.local:
            return by_datacentre.get(local_datacentre, 0) >= self.total
        return sum(by_datacentre.values()) >= self.total


@functools.lru_cache(maxsize=1024)
def need(level: Level, factors: tuple[tuple[str, int], ...], local_datacentre: str) -> Need:
    """What `level` needs, given the replication factor of each datacentre ("" names the one of
    SimpleStrategy).

    A LOCAL_ level in a datacentre that holds no replica needs one more than there are, so it is unavailable.
    SimpleStrategy knows no datacentres: its LOCAL_ levels and EACH_QUORUM count all replicas.
    """
    simple = len(factors) == 1 and factors[0][0] == ""
    total = sum(n for _, n in factors)
    if level in FIXED:
        return Need(FIXED[level])
    if level is Level.ALL:
        return Need(total)
    if level in (Level.LOCAL_ONE, Level.LOCAL_QUORUM, Level.LOCAL_SERIAL) and not simple:
        here = dict(factors).get(local_datacentre, 0)
        return Need(1 if level is Level.LOCAL_ONE else quorum(here), local=True)
    if level is Level.LOCAL_ONE:
        return Need(1)
    if level is Level.EACH_QUORUM and not simple:
        each = tuple((name, quorum(n)) for name, n in factors if n)
        return Need(sum(n for _, n in each), each=each)
    return Need(quorum(total))


WEAK = frozenset({Level.ANY, Level.ONE, Level.TWO, Level.THREE, Level.LOCAL_ONE})
"""Levels at which a read promises nothing about other reads and writes."""


def joint(old: tuple[Need, tuple[bytes, ...]], new: tuple[Need, tuple[bytes, ...]]) -> Need:
    """A level that is to be met among the old replicas and among the new; one answer may count in both."""
    return Need(max(old[0].total, new[0].total), local=old[0].local, sides=(old, new))


def valid_for_reads(level: Level) -> bool:
    """Whether a plain read may ask for it: a hint is no answer, so not ANY."""
    return level is not Level.ANY


def valid_for_writes(level: Level) -> bool:
    """Whether a plain write may ask for it: SERIAL levels are for reads and conditional updates."""
    return level not in (Level.SERIAL, Level.LOCAL_SERIAL)
