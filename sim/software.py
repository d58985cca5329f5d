"""What runs on the simulated machines: the real thing, or the toys of the simulator's own tests."""

from __future__ import annotations

from typing import Protocol

from core.ports import Identity, InitialPeer
from core.settings import Settings
from lsm.memory import MemoryEngine
from sim.disk import Executor
from sim.world import SimNode, SimWorld

CLUSTER_NAME = "simulated"


class Software(Protocol):
    """How to make a store on a disk, read what a node needs of it at its start, and make the node."""

    def store(self, engine: MemoryEngine) -> Executor:
        """Open the store; raises StoreError if that cannot be."""

    def boot(self, engine: MemoryEngine) -> dict[bytes, bytes]:
        """All system records."""

    def node(
        self,
        world: SimWorld,
        identity: Identity,
        initial: tuple[InitialPeer, ...],
        settings: Settings,
        boot: dict[bytes, bytes],
    ) -> SimNode:
        """Make the node, of a cluster named CLUSTER_NAME; it does nothing before on_start."""
