"""All workloads at once at real peers, each on tables of its own; and what only real peers are asked by."""

from __future__ import annotations

from collections.abc import Callable

from jepsen_like.real.workloads.changes import RealChangesWorkload
from jepsen_like.real.workloads.counter import RealCounterWorkload, RealOnceCounterWorkload
from jepsen_like.real.workloads.index import RealIndexWorkload
from jepsen_like.real.workloads.schema import RealSchemaWorkload
from jepsen_like.real.workloads.search import RealSearchWorkload
from jepsen_like.real.workloads.session import RealSessionWorkload
from jepsen_like.workloads import Workload
from jepsen_like.workloads.composite import PARTS, CompositeWorkload

REAL_ONLY: dict[str, Callable[[], Workload]] = {
    "counter": RealCounterWorkload,
    "counter-once": RealOnceCounterWorkload,
    "index": RealIndexWorkload,
    "search": RealSearchWorkload,
    "changes": RealChangesWorkload,
    "session": RealSessionWorkload,
    "schema": RealSchemaWorkload,
}
"""Those that speak to real peers in words of their own."""

SHARES = 4


class RealCompositeWorkload(CompositeWorkload):
    """See the top of the file."""

    def __init__(self) -> None:
        super().__init__({**PARTS, **REAL_ONLY})
        self._probed: dict[int, int] = {}

    def probe(self, peer: int) -> None:
        """A write and a read of every part; of a peer that answers none of them, then of a share in turn.

        It may be that it has no time, and what makes that worse would be found out by nothing but itself.
        """
        turn = self._probed.get(peer, -1)
        self._probed[peer] = turn + 1
        for number, part in enumerate(self.parts.values()):
            if turn < 0 or number % SHARES == turn % SHARES:
                part.probe(peer)
