"""Counting a consistency level: who answered, whether that is enough, whether it still can become enough.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from core.consistency import Need
from core.ports import PeerId


class Places(Protocol):
    """Where peers are."""

    def datacentre(self, peer: PeerId) -> str:
        """The datacentre of a peer."""


class Tally:
    """Good answers of replicas, counted per datacentre; a peer counts once."""

    __slots__ = ("_by_datacentre", "_local", "_need", "_places", "met", "peers")

    def __init__(self, need: Need, places: Places, local_datacentre: str) -> None:
        """Nobody has answered yet."""
        self._need = need
        self._places = places
        self._local = local_datacentre
        self._by_datacentre: dict[str, int] = {}
        self.peers: list[PeerId] = []
        self.met = need.total <= 0

    def add(self, peer: PeerId) -> bool:
        """Count a good answer; returns whether the level is met now."""
        if peer not in self.peers:
            self.peers.append(peer)
            name = self._places.datacentre(peer)
            counts = self._by_datacentre
            counts[name] = counts.get(name, 0) + 1
            self.met = self._need.met(counts, self._local)
        return self.met

    @property
    def received(self) -> int:
        """Answers that count."""
        if self._need.local:
            return self._by_datacentre.get(self._local, 0)
        if self._need.each:
            return sum(min(self._by_datacentre.get(name, 0), n) for name, n in self._need.each)
        return len(self.peers)


def reachable(need: Need, places: Places, local_datacentre: str, peers: Iterable[PeerId]) -> Tally:
    """The tally if all of `peers` answered well: `.met` says whether the level can be reached with them."""
    tally = Tally(need, places, local_datacentre)
    for peer in peers:
        tally.add(peer)
    return tally
