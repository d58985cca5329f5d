"""Who is asked: the fewest peers that cover the ranges of a search, and whom each follows first.

Greedy: the peer that can serve most of what is left, again and again. It is a function of the placement, of
who lives and of the level alone, not of who asks: so all coordinators ask the same replicas while these live,
and the same query gives the same order wherever it is asked. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import mmh3
import msgspec

from core.consistency import Need
from core.ports import PeerId
from index.query import TokenRanges
from lsm.keys import token_of
from node.tally import Places, Tally

Piece = tuple[int, int, tuple[PeerId, ...]]
"""First and last token, and the replicas of all between."""


class Part(msgspec.Struct, frozen=True):
    """What one peer is asked for: ranges it holds, after it has followed these siblings."""

    server: PeerId
    ranges: TokenRanges
    follow: tuple[PeerId, ...]

    def holds(self, key: bytes) -> bool:
        """Whether a row's key lies in the ranges."""
        token = token_of(key)
        return any(first <= token <= last for first, last in self.ranges)


class Liveness(msgspec.Struct, frozen=True):
    """Whom to ask: those alive and able to serve; pairs (server, sibling) that do not reach each other.

    Among equals the `salt` (the table) decides, so that different tables are served by different peers.
    """

    alive: Collection[PeerId]
    servers: Collection[PeerId]
    apart: Collection[tuple[PeerId, PeerId]] = ()
    salt: int = 0

    def turn(self, peer: PeerId) -> tuple[int, PeerId]:
        """Where a peer stands among equals."""
        return mmh3.hash(peer, self.salt & 0xFFFFFFFF, signed=False), peer


def pieces_within(pieces: Sequence[Piece], ranges: TokenRanges) -> list[Piece]:
    """The parts of pieces that lie in these ranges."""
    found = []
    for first, last, replicas in pieces:
        for low, high in ranges:
            if low <= last and first <= high:
                found.append((max(first, low), min(last, high), replicas))
    return found


def cover(
    pieces: Sequence[Piece], liveness: Liveness, wanted: Need, places: Places, local: str
) -> tuple[list[Part], list[Piece]]:
    """Parts that cover the pieces, and the pieces that nobody can serve at this level now."""
    options: list[dict[PeerId, tuple[PeerId, ...]]] = []
    for _, _, replicas in pieces:
        fits: dict[PeerId, tuple[PeerId, ...]] = {}
        for server in replicas:
            if server in liveness.servers:
                follow = _siblings(server, replicas, liveness, Tally(wanted, places, local))
                if follow is not None:
                    fits[server] = follow
        options.append(fits)
    left = [i for i, fits in enumerate(options) if fits]
    parts: list[Part] = []
    while left:
        counts: dict[PeerId, int] = {}
        for i in left:
            for server in options[i]:
                counts[server] = counts.get(server, 0) + 1
        best = min(
            counts, key=lambda peer: (places.datacentre(peer) != local, -counts[peer], liveness.turn(peer))
        )
        mine = [i for i in left if best in options[i]]
        left = [i for i in left if best not in options[i]]
        follow = tuple(dict.fromkeys(peer for i in mine for peer in options[i][best]))
        parts.append(Part(best, joined(pieces[i][:2] for i in mine), follow))
    return parts, [piece for piece, fits in zip(pieces, options, strict=True) if not fits]


def _siblings(
    server: PeerId, replicas: tuple[PeerId, ...], liveness: Liveness, tally: Tally
) -> tuple[PeerId, ...] | None:
    """Whom this server is to follow for the level; None if it cannot reach enough."""
    tally.add(server)
    found: list[PeerId] = []
    for peer in replicas:
        if tally.met:
            break
        if peer != server and peer in liveness.alive and (server, peer) not in liveness.apart:
            before = tally.received
            if tally.add(peer) or tally.received > before:
                found.append(peer)
    return tuple(found) if tally.met else None


def joined(ranges: Iterable[tuple[int, int]]) -> TokenRanges:
    """Ascending, neighbours joined."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and found[-1][1] + 1 >= first:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)
