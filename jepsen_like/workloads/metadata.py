"""Metadata: many clients create buckets whose names clash and whose shapes differ; one of each name may win.

Every peer must end with the same log, every name with the shape that its one successful CREATE asked for,
and no name with two successes.
"""

from __future__ import annotations

import msgspec

from core.metadata import CreateTable
from core.requests import MetadataRequest
from core.schema import Table, TableOptions
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import Session
from kv.buckets import BucketSpec, create_bucket
from sim.real import node_of

SHAPES = 1_000_000
"""Each attempt has a TTL of its own, by which the winner is known."""


class MetadataWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("create",)

    def __init__(self, attempts_per_name: int = 4, creates_max: int = 1_000) -> None:
        """`creates_max` attempts are made, then no more."""
        self._per_name = attempts_per_name
        self._left = creates_max
        self._attempts = 0

    def setup(self, session: Session) -> bool:
        """Nothing is needed."""
        self.session = session
        return True

    def step(self) -> None:
        """One attempt to create some name in some shape."""
        if self._left > 0:
            self._left -= 1
            name = f"b{self._attempts // self._per_name}"
            self._create("create", name, -1)

    def probe(self, peer: int) -> None:
        """A name that nobody else wants; there is nothing to read, so the same counts as reading."""
        self._create("probe_write", f"probe{self._attempts}", peer)
        self._create("probe_read", f"probe{self._attempts}", peer)

    def _create(self, kind: str, name: str, peer: int) -> None:
        session = self.session
        self._attempts += 1
        shape = self._attempts
        operation = session.begin(kind, name, shape, peer)
        running = session.cluster.running()
        members = node_of(session.cluster, running[0]).metadata.state.members if running else ()
        if not members:
            session.end(operation, End(FAIL, None, "nobody runs"))
            return
        spec = BucketSpec(name, ordered=shape % 2 == 0)
        request = create_bucket(spec, members)
        assert isinstance(request, MetadataRequest) and isinstance(request.change, CreateTable)
        options = TableOptions(default_ttl_s=SHAPES + shape)
        change = msgspec.structs.replace(request.change, options=options, if_not_exists=False)
        session.door.ask(operation.peer, MetadataRequest(change), lambda end: session.end(operation, end))

    def final(self) -> None:
        """There is nothing to read but the state, which `finished` watches."""

    def finished(self) -> bool:
        """Everybody has adopted the same epochs."""
        cluster = self.session.cluster
        running = cluster.running()
        states = [node_of(cluster, index).metadata.state for index in running]
        return len(states) == len(cluster.machines) and len({(s.epoch, s.digest) for s in states}) == 1

    def problems(self) -> list[Problem]:
        """Each name against what its creators were told."""
        cluster = self.session.cluster
        state = node_of(cluster, cluster.running()[0]).metadata.state
        by_name: dict[str, list[Operation]] = {}
        for operation in self.session.history.operations:
            by_name.setdefault(operation.key, []).append(operation)
        problems: list[Problem] = []
        for name, operations in by_name.items():
            problems += _judge(name, operations, state.table_across("kv", name))
        return problems


def _judge(name: str, operations: list[Operation], table: Table | None) -> list[Problem]:
    won = [op for op in operations if op.status == OK]
    shape = None if table is None else table.options.default_ttl_s - SHAPES
    source = next((op for op in operations if op.value == shape), None)
    problems = []
    if len(won) > 1:
        problems.append(Problem("two_won", f"{name}: {won}"))
    if won and won[0].value != shape:
        problems.append(Problem("lost", f"{name}: {won[0]!r} was acknowledged, there is {shape}"))
    if shape is not None and (source is None or source.status == FAIL):
        problems.append(
            Problem("phantom", f"{name} has shape {shape}, which failed or nobody asked for: {source!r}")
        )
    return problems
