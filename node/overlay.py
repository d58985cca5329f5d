"""Who pings whom: of n members each pings the same few others, so that each is also pinged by as many.

In SWIM everybody pings everybody in turn. That costs little traffic but a connection from each peer to each
other, and among 1,000 peers their handshakes would outweigh all pings. So member i pings members i + o (mod
n) for TARGETS offsets o, the same for all. Nobody is forgotten: exactly TARGETS others look after each
member, once per TARGETS periods each. Each such graph of pseudo-random offsets is an expander with high
probability (Alon, Roichman: Random Cayley Graphs and Expanders, 1994), so news spread through it as through
random choice. Up to TARGETS + 1 members it is all of them, as in the paper.

In place of a dead target the next living member after it is pinged, as on a ring. So whatever dies, those
who live go on to watch each other.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Sequence
from functools import lru_cache

from core.schema import Member

TARGETS = 24

Below = Callable[[int], int]


@lru_cache(maxsize=64)
def offsets(members: int) -> tuple[int, ...]:
    """How far from a member its targets stand on the circle of members: ascending, always with 1."""
    others = members - 1
    if others <= TARGETS:
        return tuple(range(1, members))
    chosen = {1}
    state = members
    while len(chosen) < TARGETS:
        state = (state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1  # Knuth's MMIX generator
        chosen.add(1 + (state >> 33) % others)
    return tuple(sorted(chosen))


class Overlay:
    """The targets of one member, in an order shuffled anew for each round. `below(n)` draws from [0, n)."""

    __slots__ = ("_below", "_index", "_members", "_offsets", "_position")

    def __init__(self, members: Sequence[Member], own_number: int, below: Below) -> None:
        """`members` by ascending number; who is not among them has no targets."""
        self._members = members
        self._below = below
        self._position = 0
        own = [index for index, member in enumerate(members) if member.number == own_number]
        self._index = own[0] if own else 0
        self._offsets = array("L", offsets(len(members)) if own else ())

    def __len__(self) -> int:
        return len(self._offsets)

    def next(self, dead: Container[int]) -> Member | None:
        """Whom to ping now: each target once per round; None if nobody else lives."""
        if not self._offsets:
            return None
        if self._position >= len(self._offsets):
            self._position = 0
        # One step of Fisher and Yates' shuffle.
        position = self._position
        other = position + self._below(len(self._offsets) - position)
        offset = self._offsets[other]
        self._offsets[other] = self._offsets[position]
        self._offsets[position] = offset
        self._position = position + 1
        return self._living(offset, dead)

    def pick(self, count: int, avoid: int, dead: Container[int]) -> list[Member]:
        """At most `count` different targets at random, neither dead nor `avoid`."""
        left = list(self._offsets)
        picked: list[Member] = []
        while left and len(picked) < count:
            member = self._living(left.pop(self._below(len(left))), dead)
            if member is not None and member.number != avoid and member not in picked:
                picked.append(member)
        return picked

    def _living(self, offset: int, dead: Container[int]) -> Member | None:
        """Who stands at this distance, or the first after it that lives."""
        members = self._members
        count = len(members)
        for step in range(offset, offset + count):
            member = members[(self._index + step) % count]
            if member.number not in dead and step % count:
                return member
        return None
