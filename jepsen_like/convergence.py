"""Whether the replicas of every row are equal, by looking at what their disks hold.

The rows and partition headers that the replicas of a token store must be the same bytes, and where every peer
holds everything, all logs must hold the same mutations; and no hint and no logged batch is left. Nothing here
helps anybody: it only looks.
"""

from __future__ import annotations

from jepsen_like.checkers import Problem
from lsm import keys
from lsm.lost import LOST_PREFIX
from sim.cluster import SimCluster
from sim.real import BATCHES, HINTS, node_of


def differences(cluster: SimCluster, problems_max: int = 20, *, logs: bool = True) -> list[Problem]:
    """What is not equal among the running machines, which must be all; `logs` compares these, too."""
    if len(cluster.running()) < len(cluster.machines):
        return [Problem("diverged", f"only {cluster.running()} run")]
    states = [node_of(cluster, index).metadata.state for index in cluster.running()]
    if len({(state.epoch, state.digest) for state in states}) > 1:
        return [Problem("diverged", f"epochs {[state.epoch for state in states]}")]
    problems = (_logs(cluster) if logs else []) + _hints(cluster) + _batches(cluster)
    problems += _damage(cluster)
    if problems and problems[-1].name == "damaged":
        return problems
    index_of = {machine.peer: machine.index for machine in cluster.machines}
    for table in states[0].tables:
        placement = states[0].placement(table)
        assert placement is not None
        held = [rows_of(cluster, machine.index, table) for machine in cluster.machines]
        for key in sorted({key for rows in held for key in rows}):
            replicas = [index_of[peer] for peer in placement.replicas(keys.token_of(key))]
            values = [held[index].get(key) for index in replicas]
            if any(value != values[0] for value in values):
                sizes = [None if value is None else value.hex()[-80:] for value in values]
                problems.append(
                    Problem(
                        "diverged", f"table {table} key {key!r}: {dict(zip(replicas, sizes, strict=True))}"
                    )
                )
                if len(problems) >= problems_max:
                    return problems
    return problems


def rows_of(cluster: SimCluster, index: int, table: int) -> dict[bytes, bytes]:
    """All rows and headers of a table as a machine stores them."""
    first = keys.table_prefix(table)
    return dict(cluster.machines[index].engine.scan(first, keys.successor(first)))


def _damage(cluster: SimCluster) -> list[Problem]:
    """What was damaged is found and given back by now, without anybody's help."""
    first = keys.system_key(LOST_PREFIX)
    bad = {m.index: m.engine.health()["background_errors"] for m in cluster.machines}
    lost = {m.index: len(m.engine.keys(first, keys.successor(first))) for m in cluster.machines}
    if any(bad.values()) or any(lost.values()):
        return [Problem("damaged", f"records still damaged: {bad}; ranges not given back: {lost}")]
    return []


def _hints(cluster: SimCluster) -> list[Problem]:
    """Everybody lives, so nobody owes anything any more."""
    end = keys.successor(HINTS)
    owed = [len(machine.engine.keys(HINTS, end)) for machine in cluster.machines]
    return [Problem("owed", f"hints are still kept, so many: {owed}")] if any(owed) else []


def _batches(cluster: SimCluster) -> list[Problem]:
    """Everybody lives, so all logged batches are where they belong."""
    end = keys.successor(BATCHES)
    kept = [len(machine.engine.keys(BATCHES, end)) for machine in cluster.machines]
    return [Problem("kept", f"logged batches are still kept, so many: {kept}")] if any(kept) else []


def _logs(cluster: SimCluster) -> list[Problem]:
    """Where everybody replicates everything, everybody has logged every mutation."""
    state = node_of(cluster, 0).metadata.state
    for table in state.tables:
        placement = state.placement(table)
        if placement is None or len(placement.replicas(0)) < len(cluster.machines):
            return []
    if any(machine.log_forgotten for machine in cluster.machines):
        return []  # then hash trees have made rows equal, and rows have no mutations
    end = keys.successor(keys.MUTATION_ID)
    held = [frozenset(m.engine.keys(keys.MUTATION_ID, end)) for m in cluster.machines]
    sizes = [len(ids) for ids in held]
    if all(ids == held[0] for ids in held):
        return []
    return [Problem("unfollowed", f"the logs of the replicas hold different mutations, so many: {sizes}")]
