"""Whether the replicas of every row are equal, by looking at what their disks hold.

For each table the rows (and partition headers) of every replica of their token must be the same bytes, read
as a reader would see them; and a mutation id that one replica of a token has logged, all have. Nothing here
helps anybody.
"""

from __future__ import annotations

from core.commands import Read, Rows, Slice
from jepsen_like.checkers import Problem
from lsm import keys
from sim.cluster import SimCluster
from sim.real import node_of

ALL = 1 << 40


def differences(cluster: SimCluster, problems_max: int = 20) -> list[Problem]:
    """What is not equal among the running machines, which must be all."""
    if len(cluster.running()) < len(cluster.machines):
        return [Problem("diverged", f"only {cluster.running()} run")]
    states = [node_of(cluster, index).metadata.state for index in cluster.running()]
    if len({(state.epoch, state.digest) for state in states}) > 1:
        return [Problem("diverged", f"epochs {[state.epoch for state in states]}")]
    problems: list[Problem] = []
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
    """All rows and headers of a table that a machine holds, as readers see them."""
    process = cluster.machines[index].process
    assert process is not None
    store = process.disk.executor.store
    first = keys.table_prefix(table)
    wanted = Slice(table, first, keys.successor(first), b"", False, ALL, ALL)
    outcome, _ = store.run(store.plan(Read(wanted, False)))
    assert isinstance(outcome, Rows), outcome
    return dict(outcome.rows)
