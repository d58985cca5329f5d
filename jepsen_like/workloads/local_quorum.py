"""Registers of a datacentre each: written and read at LOCAL_QUORUM through its own peers.

A quorum of the datacentre holds an acknowledged write, so a read there sees it, and reads there never go
back. What the other datacentre sees, and when, is not promised before all is equal.
"""

from __future__ import annotations

from core.consistency import Level
from jepsen_like.workloads.register import RegisterWorkload


class LocalQuorumWorkload(RegisterWorkload):
    """See above. Key k lives in datacentre k modulo their number, as machines do."""

    def __init__(self) -> None:
        """The levels say it."""
        super().__init__((Level.LOCAL_QUORUM, Level.LOCAL_QUORUM))

    def peer_for(self, key: int) -> int:
        """Some machine of the key's datacentre."""
        cluster = self.session.cluster
        datacentres = cluster.options.datacentres
        near = range(key % datacentres, len(cluster.machines), datacentres)
        return near[self.session.random.randrange(len(near))]
