"""What an operator asks about healing: the verbs repair, repair_run, accept_loss, scrub and scrub_status."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.requests import Answer, Invalid, Told
from core.schema import Table

if TYPE_CHECKING:
    from node.floors import Group
    from node.node import Node

SECOND_US = 1_000_000
RANGES_SHOWN_MAX = 16
"""So many of the ranges whose floor waits are told."""

SCRUB_BYTES_PER_S_MAX = 4 * 2**30


class RepairVerbs:
    """Functions of a node; `verbs` maps their names to (function, names of the arguments)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.verbs: dict[str, tuple[Callable[[dict[str, Any]], Answer], tuple[str, ...]]] = {
            "repair": (lambda _: Told(self.status()), ()),
            "repair_run": (self._run, ("table",)),
            "accept_loss": (self._accept_loss, ()),
            "scrub": (self._scrub, ("bytes_per_s",)),
            "scrub_status": (lambda _: Told(self._node.scrubbing.status()), ()),
        }

    def answer(self, verb: str, arguments: dict[str, Any]) -> Answer | None:
        """The answer of one of these verbs; None for any other."""
        known = self.verbs.get(verb)
        if known is None:
            return None
        function, names = known
        for name in arguments:
            if name not in names:
                allowed = f"the arguments {', '.join(names)}" if names else "no arguments"
                return Invalid("bad_argument", f"{verb} takes {allowed}")
        return function(arguments)

    # --- status

    def status(self) -> dict[str, Any]:
        """How equal replicas are known to be, what floors wait for, and what is being mended.

        `proven_equal_s`: per sibling and table for how many seconds all shared ranges are proven equal (null:
        not
        yet). `ranges`: the same for each range with each sibling. `floors`: of the groups that this peer
        leads.
        """
        node = self._node
        now_us = node.inside.world.monotonic_us()
        names = {member.peer: member.name for member in node.metadata.state.members}
        found: dict[str, dict[str, float | None]] = {}
        ages: dict[tuple[int, int, int], dict[str, float | None]] = {}
        for (peer, table_id), equal_us in node.anti_entropy.status().items():
            table = node.metadata.state.tables.get(table_id)
            if table is not None:
                found.setdefault(names[peer], {})[_name(table)] = _age(now_us, equal_us)
        for peer, table_id, first, end, equal_us in node.anti_entropy.proven():
            ages.setdefault((table_id, first, end), {})[names.get(peer, peer.hex())] = _age(now_us, equal_us)
        tables = node.metadata.state.tables
        return {
            "proven_equal_s": found,
            "ranges": [
                {"table": _name(tables[table]), "first_token": first, "last_token": last, "equal_s": equal}
                for (table, first, last), equal in sorted(ages.items())
                if table in tables
            ],
            "floors": [entry for group in node.floors.status() for entry in self._floors_of(group, names)],
            "mending": [
                {**entry, "table": _name(tables[table])}
                for table, entry in node.mending.status()
                if table in tables
            ],
        }

    def _floors_of(self, group: Group, names: dict[bytes, str]) -> list[dict[str, Any]]:
        node = self._node
        now_us, mono_us = node.inside.clock.now_us(), node.inside.world.monotonic_us()
        floor_us = group.heights[2]
        tables = node.metadata.state.tables
        return [
            {
                "table": _name(tables[table]),
                "replicas": [names.get(peer, peer.hex()) for peer in group.replicas],
                "ranges": len(pairs),
                "floor_age_s": round((now_us - floor_us) / SECOND_US, 3) if floor_us else None,
                "waiting": group.waiting,
                "waiting_s": round((mono_us - group.since_us) / SECOND_US, 3) if group.waiting else None,
                "tokens": [list(pair) for pair in pairs[:RANGES_SHOWN_MAX]] if group.waiting else [],
            }
            for table, pairs in group.ranges.items()
            if table in tables
        ]

    # --- orders

    def _run(self, arguments: dict[str, Any]) -> Answer:
        node = self._node
        wanted = arguments.get("table")
        if wanted is not None and not isinstance(wanted, str):
            return Invalid("bad_argument", "table is keyspace.table")
        tables = [table for table in node.metadata.state.tables.values() if wanted in (None, _name(table))]
        if wanted is not None and not tables:
            return Invalid("no_such_table", f"there is no table {wanted}")
        jobs = sum(node.anti_entropy.compare(table.id) for table in tables)
        return Told({"tables": [_name(table) for table in tables], "comparisons": jobs})

    def _accept_loss(self, _: dict[str, Any]) -> Answer:
        return Told({"given_up": self._node.mending.accept_loss()})

    def _scrub(self, arguments: dict[str, Any]) -> Answer:
        pace = arguments.get("bytes_per_s", 0)
        if type(pace) is not int or not 0 <= pace <= SCRUB_BYTES_PER_S_MAX:
            return Invalid("bad_argument", f"bytes_per_s is a whole number up to {SCRUB_BYTES_PER_S_MAX}")
        return Told(self._node.scrubbing.begin(pace))


def _name(table: Table) -> str:
    return f"{table.keyspace}.{table.name}"


def _age(now_us: int, equal_us: int | None) -> float | None:
    return None if equal_us is None else round((now_us - equal_us) / SECOND_US, 3)
