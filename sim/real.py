"""The real node on the real store, as server/ constructs them too."""

from __future__ import annotations

from core.ports import Identity, InitialPeer
from core.schema import Table
from core.settings import Settings
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.salvage import salvage
from lsm.store import Store
from node.index_scrubbing import IndexScrubbing
from node.node import Node
from node.search_indexes import SearchIndexes
from sim.cluster import SimCluster
from sim.search import SimPlace
from sim.software import CLUSTER_NAME, Launched
from sim.world import SimWorld

HINTS = keys.system_key(b"hint/")
BATCHES = keys.system_key(b"batch/")
"""What a node reads for itself when it replays them, and so is not given at its start."""


class RealSoftware:
    """What server/ constructs too."""

    def launch(
        self, world: SimWorld, identity: Identity, initial: tuple[InitialPeer, ...], settings: Settings
    ) -> Launched:
        """Open the store, mended if damage was met in it, and make the node."""
        machine = world.machine
        if machine.damage_met:
            whole = MemoryEngine()
            salvaged = salvage(machine.engine, whole)
            machine.log_forgotten = machine.log_forgotten or salvaged.log_forgotten
            whole.sync()
            machine.engine, machine.damage_met = whole, False
        engine = machine.engine
        node = Node(
            world,
            identity,
            initial=initial,
            cluster_name=CLUSTER_NAME,
            settings=settings,
            boot=boot_records(engine),
        )

        indexes = SearchIndexes(node.inside, node.metadata, SimPlace(world.machine))
        node.search_by(indexes, indexes.start)
        node.scrubbing.indexes = IndexScrubbing(node.inside, indexes)

        def table(number: int) -> Table | None:
            return node.metadata.state.tables.get(number)

        store = Store(engine, table, node.indexed.entries)
        store.owns = node.owns
        indexes.durable_end = lambda: store.log.durable
        return Launched(node, Executor(store, Commit()))


def boot_records(engine: MemoryEngine) -> dict[bytes, bytes]:
    """All system records but hints and batches; raises CorruptionError for a damaged one."""
    head = len(keys.SYSTEM)
    return {
        key[head:]: value
        for key, value in engine.scan(keys.SYSTEM, keys.successor(keys.SYSTEM))
        if not key.startswith((HINTS, BATCHES))
    }


def node_of(cluster: SimCluster, index: int) -> Node:
    """The real node on a machine, for auditors."""
    node = cluster.node(index)
    assert isinstance(node, Node)
    return node
