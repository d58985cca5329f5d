"""What clients do. A workload knows nothing of faults; it says at the end what was wrong."""

from __future__ import annotations

from typing import Protocol

from jepsen_like.checkers import Problem
from jepsen_like.session import Session


class Workload(Protocol):
    """One kind of load with its judge."""

    kinds: tuple[str, ...]
    """The kinds of operations of which each must have worked at least once."""

    def setup(self, session: Session) -> bool:
        """Make what is needed (on a healthy cluster); False if that cannot be done."""

    def step(self) -> None:
        """Begin one operation."""

    def probe(self, peer: int) -> None:
        """Begin one write and one read at this peer, of kinds probe_write and probe_read."""

    def final(self) -> None:
        """Begin the final reads; each is repeated until it works."""

    def finished(self) -> bool:
        """Whether all final reads are there."""

    def problems(self) -> list[Problem]:
        """What was wrong."""
