"""A machine's directory of inverted indexes, simulated: the naive twin on what the machine keeps."""

from __future__ import annotations

from index.mapping import Rules
from index.naive_segments import Kept, NaiveSegments
from index.tiers import Tiers
from sim.machine import Machine


class SimPlace:
    """Implements node.search_place.SearchPlace."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def open(self, name: str, rules: Rules) -> Tiers:
        """What was written last, with a young tier before it."""
        return Tiers(rules, NaiveSegments(rules, self._machine.search.setdefault(name, Kept({}, 0, {}))))

    def remove(self, name: str) -> None:
        """Forget it."""
        self._machine.search.pop(name, None)

    def names(self) -> tuple[str, ...]:
        """What is there."""
        return tuple(sorted(self._machine.search))
