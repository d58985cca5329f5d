"""Where rows live while their ranges move: the ring as it was and the ring as it will be, laid over each
other.

Every range of this ring lies within one range of the old ring and one of the new. Where both have the same
replicas it does not move, and nothing is different from any other day. Where it moves,

    phase      read                          written
    prepare    the old replicas              old and new
    hand_over  the new replicas              old and new

and whatever promises something (a write, a read at QUORUM and above, a repair, each phase of Paxos) is met
among the old replicas *and* among the new (`need`, see Need.sides). So it does not matter under which of the
two phases a peer works: what one of them has written or shown, the other's quorums contain. Reads at levels
that promise nothing, and reads by predicate, which follow siblings, use the read side alone.

Immutable, like ring.placement.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from core.consistency import Level, Need, joint, need
from core.ports import PeerId

if TYPE_CHECKING:
    from node.metadata_state import RingPlacement

PREPARE: Final = "prepare"
HAND_OVER: Final = "hand_over"
FINISH: Final = "finish"
ABORTED: Final = "aborted"

Replicas = tuple[PeerId, ...]
TokenPair = tuple[int, int]
Sides = tuple[Replicas, Replicas]
"""Old and new replicas of a range that moves."""


class MovingRing:
    """Two rings of the same members, as placements see one."""

    def __init__(self, old: RingPlacement, new: RingPlacement, phase: str) -> None:
        """`phase` is PREPARE or HAND_OVER."""
        self.old, self.new = old, new
        read = old if phase == PREPARE else new
        self.factors = read.factors
        self.lost = read.lost
        self.datacentres = {**new.datacentres, **old.datacentres}
        self.tokens = tuple(sorted({*old.tokens, *new.tokens}))
        lookup: list[Replicas] = []
        written: list[Replicas] = []
        sides: list[Sides | None] = []
        for token in self.tokens:
            before, after = _at(old, token), _at(new, token)
            same = sorted(before) == sorted(after) and old.factors == new.factors
            lookup.append(_at(read, token))
            written.append(before if same else tuple(dict.fromkeys((*before, *after))))
            sides.append(None if same else (before, after))
        self.lookup = (*lookup, lookup[0]) if lookup else ((),)
        self.written = (*written, written[0]) if written else ((),)
        self.sides: tuple[Sides | None, ...] = (*sides, sides[0]) if sides else (None,)
        self.pairs = _pairs(self.tokens)
        # Range by range, in the order of their last tokens; what follows the last one is the first one's.
        self.ranges = tuple(zip(self.pairs, self.lookup, strict=False))
        self._moving = tuple(
            (pair, both) for pair, both in zip(self.pairs, self.sides, strict=False) if both is not None
        )
        self._shared: dict[tuple[PeerId, PeerId, bool], tuple[TokenPair, ...]] = {}

    def datacentre(self, peer: PeerId) -> str:
        """Where a member stands; "" if it is none."""
        return self.datacentres.get(peer, "")

    def _index(self, token: int) -> int:
        return bisect_left(self.tokens, token)

    def sides_of(self, token: int) -> Sides | None:
        """The old and the new replicas of a token whose range moves, else None."""
        return self.sides[self._index(token)]

    def moving(self) -> tuple[tuple[TokenPair, Sides], ...]:
        """The ranges that move, ascending."""
        return self._moving

    def neighbours(self, peer: PeerId) -> tuple[PeerId, ...]:
        """All who share a range with this member, as it was or as it will be; ascending by id."""
        met = {p for replicas in self.written if peer in replicas for p in replicas if p != peer}
        return tuple(sorted(met))

    def shared_ranges(self, one: PeerId, other: PeerId) -> tuple[TokenPair, ...]:
        """What both serve to readers."""
        return self._common(one, other, False)

    def common_ranges(self, one: PeerId, other: PeerId) -> tuple[TokenPair, ...]:
        """What both are written to."""
        return self._common(one, other, True)

    def _common(self, one: PeerId, other: PeerId, written: bool) -> tuple[TokenPair, ...]:
        known = self._shared.get((one, other, written))
        if known is None:
            table = self.written if written else self.lookup
            joined: list[TokenPair] = []
            for (first, last), replicas in zip(self.pairs, table, strict=False):
                if one not in replicas or other not in replicas:
                    continue
                if joined and joined[-1][1] + 1 == first:
                    joined[-1] = (joined[-1][0], last)
                else:
                    joined.append((first, last))
            known = self._shared[one, other, written] = tuple(joined)
        return known

    def need(self, level: Level, token: int, local: str) -> Need:
        """What a level needs at this token of those who are written."""
        sides = self.sides_of(token)
        if sides is None:
            return need(level, self.old.factors, local)
        before = need(level, self.old.factors, local), sides[0]
        return joint(before, (need(level, self.new.factors, local), sides[1]))


def _at(ring: RingPlacement, token: int) -> Replicas:
    return ring.lookup[bisect_left(ring.tokens, token)]


def _pairs(tokens: tuple[int, ...]) -> tuple[TokenPair, ...]:
    """The ranges that end at these tokens, as inclusive pairs, ascending; the last wraps and is two."""
    first, last = -(2**63), 2**63 - 1
    pairs: list[TokenPair] = []
    for token in tokens:
        pairs.append((first, token))
        first = token + 1
    if first <= last:
        pairs.append((first, last))
    return tuple(pairs)
