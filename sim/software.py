"""What runs on the simulated machines: the real thing (sim/real.py), or the toys of tests."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from core.ports import Identity, InitialPeer
from core.settings import Settings
from lsm.executor import Executor
from sim.world import SimNode, SimWorld

CLUSTER_NAME = "simulated"


class Launched(NamedTuple):
    """A node that was made and not yet started, and the executor of its store."""

    node: SimNode
    executor: Executor


class Software(Protocol):
    """How a process comes to be on a machine's disk."""

    def launch(
        self, world: SimWorld, identity: Identity, initial: tuple[InitialPeer, ...], settings: Settings
    ) -> Launched:
        """Open the store and make the node; raises StoreError if the store cannot be opened."""
