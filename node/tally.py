"""Counting a consistency level: who answered, whether that is enough, whether it still can become enough.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from core.consistency import Level, Need
from core.ports import PeerId


class Places(Protocol):
    """Where peers are."""

    def datacentre(self, peer: PeerId) -> str:
        """The datacentre of a peer."""


class Tally:
    """Good answers of replicas, counted per datacentre; a peer counts once."""

    __slots__ = ("_by_datacentre", "_is_plain", "_local", "_need", "_places", "_sides", "met", "peers")

    def __init__(self, need: Need, places: Places, local_datacentre: str) -> None:
        """Nobody has answered yet."""
        self._need = need
        self._places = places
        self._local = local_datacentre
        self._by_datacentre: dict[str, int] = {}
        self.peers: list[PeerId] = []
        self.met = need.total <= 0
        self._is_plain = not (need.local or need.each or need.sides)
        self._sides: list[tuple[Tally, tuple[PeerId, ...]]] = []
        """Of a range that moves: the same among its old and among its new replicas."""
        if need.sides:
            self._sides = [(Tally(side, places, local_datacentre), peers) for side, peers in need.sides]

    def add(self, peer: PeerId) -> bool:
        """Count a good answer; returns whether the level is met now."""
        if peer not in self.peers:
            self.peers.append(peer)
            if self._is_plain:  # wherever they are
                self.met = len(self.peers) >= self._need.total
                return self.met
            name = self._places.datacentre(peer)
            counts = self._by_datacentre
            counts[name] = counts.get(name, 0) + 1
            if self._sides:
                for side, replicas in self._sides:
                    if peer in replicas:
                        side.add(peer)
                self.met = all(side.met for side, _ in self._sides)
            else:
                self.met = self._need.met(counts, self._local)
        return self.met

    def helps(self, peer: PeerId) -> bool:
        """Whether a good answer of this peer brings the level nearer."""
        if self._sides:
            return any(peer in replicas and side.helps(peer) for side, replicas in self._sides)
        name = self._places.datacentre(peer)
        if self._need.each:
            return self._by_datacentre.get(name, 0) < dict(self._need.each).get(name, 0)
        return not self.met and self._need.counts(name, self._local)

    @property
    def received(self) -> int:
        """Answers that count."""
        if self._sides:
            return min(side.received for side, _ in self._sides)
        if self._need.local:
            return self._by_datacentre.get(self._local, 0)
        if self._need.each:
            return sum(min(self._by_datacentre.get(name, 0), n) for name, n in self._need.each)
        return len(self.peers)


Place = tuple[int, Level, tuple[PeerId, ...]]
"""A table, a level and the replicas of one range."""


class Needs:
    """What levels need of replicas that meet them when all of them live: counted once per epoch and range."""

    __slots__ = ("_known", "_state")

    def __init__(self) -> None:
        """Nothing is known."""
        self._state: object = None
        self._known: dict[Place, Need] = {}

    def of(self, state: object, place: Place) -> Need | None:
        """What was noted of this under the same state of the metadata, if it was."""
        if state is not self._state:
            self._state, self._known = state, {}
        return self._known.get(place)

    def note(self, place: Place, need: Need) -> None:
        """All replicas live, and so they meet it; of the state that was asked about last."""
        self._known[place] = need


def reachable(need: Need, places: Places, local_datacentre: str, peers: Iterable[PeerId]) -> Tally:
    """The tally if all of `peers` answered well: `.met` says whether the level can be reached with them."""
    tally = Tally(need, places, local_datacentre)
    for peer in peers:
        tally.add(peer)
    return tally
