"""Restoring: a snapshot's schema, rows, indexes and roles into a running cluster of any size.

Rows are sent with the versions that they have, so doing it twice, or going on after it was interrupted, is
the same as doing it once. Indexes come last and are built over the rows, unique ones with their reservations.
What belongs to the old cluster alone stays behind: traces, positions of consumer groups, who owns a sink.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final, NamedTuple

import msgspec

from cli.output import Failure
from cli.rest import Answer, Cluster, Peer, UnreachableError, expect, refusal
from cli.snapshots.reading import Opened, Record, mutations
from core.cell import ROW_MARKER_COLUMN, Cell
from core.metadata import Change, CreateIndex, CreateKeyspace, CreateTable, CreateType
from core.requests import Restored
from core.roles import CreateRole, Role
from core.row import OPERATION_SUFFIX, decode_row, encode_header, encode_row
from core.schema import CLUSTERING, PARTITION, SIMPLE, Keyspace, Replication, Table
from lsm import keys
from node.metadata_apply import in_family
from node.metadata_state import State

RESTORE: Final = "/v1/admin/restore"
BATCH_BYTES: Final = 256 * 1024
BATCH_PARTITIONS: Final = 500
THREADS: Final = 4
PATIENCE_S: Final = 120.0
"""So long a batch is tried again where peers are overloaded or away."""

NAMED_MAX: Final = 8
LEFT_BEHIND: Final = ("sullae_groups", "sullae_leases")
SYSTEM: Final = ("system", "system_schema", "system_traces", "system_auth", "system_distributed")
FAMILIES: Final = ("kv", "docs")

Progress = Callable[[int], None]
"""Is told how many rows are restored."""


class Plan(NamedTuple):
    """What is restored: the schema as changes, the tables as they were, and what comes after the rows."""

    schema: tuple[Change, ...]
    tables: tuple[Table, ...]
    afterwards: tuple[Change, ...]
    fewer: tuple[str, ...]
    """Keyspaces that get fewer replicas than they had, because there are fewer peers."""


def fitted(replication: Replication, sizes: Mapping[str, int]) -> Replication:
    """No more replicas than there are peers, by datacentre: else quorums would be out of reach. Datacentres
    that are not there are left out; if none of them is there, rows go to all that are.
    """
    if replication.strategy == SIMPLE:
        total = sum(sizes.values())
        return Replication(SIMPLE, tuple((name, min(factor, total)) for name, factor in replication.factors))
    there = tuple((name, min(factor, sizes[name])) for name, factor in replication.factors if name in sizes)
    most = max((factor for _, factor in replication.factors), default=1)
    anywhere = tuple((name, min(most, sizes[name])) for name in sorted(sizes))
    return Replication(replication.strategy, there or anywhere)


def plan_of(state: State, only: Sequence[str], sizes: Mapping[str, int]) -> Plan:
    """What of a cluster is restored; `only` names keyspaces or tables (keyspace.table), or nothing. `sizes`
    are the peers of each datacentre that it goes to.
    """

    def wanted(table: Table) -> bool:
        named = not only or table.keyspace in only or f"{table.keyspace}.{table.name}" in only
        left = table.keyspace in SYSTEM or table.name in LEFT_BEHIND or table.reserves
        return named and not left

    tables = tuple(table for table in state.tables.values() if wanted(table))
    names = {table.keyspace: True for table in tables}
    keyspaces = [
        keyspace
        for keyspace in state.keyspaces.values()
        if keyspace.name in names or (not only and keyspace.name not in SYSTEM)
    ]
    known = {*state.keyspaces, *(f"{table.keyspace}.{table.name}" for table in state.tables.values())}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise Failure(f"the snapshot has no keyspace or table {', '.join(unknown)}", code="no_such_table")
    schema: list[Change] = []
    for keyspace in keyspaces:
        schema += _keyspace(keyspace, fitted(keyspace.replication, sizes))
    for table in tables:
        keyspace = state.keyspaces[table.keyspace]
        schema.append(_table(table, keyspace.name, fitted(keyspace.replication, sizes)))
    indexes: list[Change] = [
        CreateIndex(
            table.keyspace,
            table.name,
            msgspec.structs.replace(index, id=0, reservations=0),
            if_not_exists=True,
        )
        for table in tables
        for index in table.indexes
    ]
    roles: list[Change] = (
        [] if only else [CreateRole(role, if_not_exists=True) for role in state.roles.values()]
    )
    fewer = [one.name for one in keyspaces if fitted(one.replication, sizes) != one.replication]
    return Plan(tuple(schema), tables, (*indexes, *roles), tuple(fewer))


def _keyspace(keyspace: Keyspace, replication: Replication) -> list[Change]:
    made: list[Change] = [
        CreateKeyspace(keyspace.name, replication, if_not_exists=True, durable_writes=keyspace.durable_writes)
    ]
    return made + [
        CreateType(keyspace.name, each.name, each.fields, if_not_exists=True) for each in keyspace.types
    ]


def _table(table: Table, keyspace: str, replication: Replication) -> CreateTable:
    family = next((name for name in FAMILIES if in_family(name, keyspace)), "")
    columns = tuple(msgspec.structs.replace(column, id=0) for column in table.columns)
    return CreateTable(
        table.keyspace,
        table.name,
        columns,
        table.options,
        if_not_exists=True,
        unique_across=family,
        replication=replication if family else None,
    )


class Target:
    """The cluster that rows go to."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = list(urls)

    def sizes(self) -> dict[str, int]:
        """How many peers each datacentre has."""
        status = expect(Cluster(self.urls).request("GET", "/v1/admin/status")).json()
        return dict(Counter(peer["datacentre"] for peer in status["peers"]))

    def tables(self) -> dict[tuple[str, str], Table]:
        """Its tables by (keyspace, name)."""
        body = expect(Cluster(self.urls).request("GET", f"{RESTORE}/schema")).body
        found = msgspec.msgpack.decode(body, type=tuple[Table, ...])
        return {(table.keyspace, table.name): table for table in found}

    def change(self, changes: Sequence[Change]) -> None:
        """Make changes of the schema; raises Failure for the first that cannot be made."""
        for at in range(0, len(changes), 50):
            some = tuple(changes[at : at + 50])
            body = msgspec.msgpack.encode(some)
            errors = expect(Cluster(self.urls, 300.0).request("POST", f"{RESTORE}/schema", body)).json()[
                "errors"
            ]
            for change, error in zip(some, errors, strict=True):
                if error:
                    raise Failure(f"{_name_of(change)} could not be made: {error}", code="schema")

    def put(self, number: int, partitions: tuple[Restored, ...]) -> int:
        """Write rows, through whichever peer; how many rows they were. Tries again while it may help."""
        body = msgspec.msgpack.encode(partitions)
        until_s = time.monotonic() + PATIENCE_S
        pause_s = 0.1
        while True:
            try:
                answer = self._posted(number, body)
                if answer.status < 400:
                    return sum(len(partition.rows) for partition in partitions)
                why, hopeless = refusal(answer), answer.status < 500
            except UnreachableError as error:
                why, hopeless = Failure(str(error), code="no_peer"), False
            if hopeless or time.monotonic() > until_s:
                raise why
            number += 1
            time.sleep(pause_s)
            pause_s = min(2.0, pause_s * 2)

    def _posted(self, number: int, body: bytes) -> Answer:
        peer = Peer(self.urls[number % len(self.urls)])
        try:
            return peer.request("POST", f"{RESTORE}/rows", body)
        finally:
            peer.close()


def check_free(plan: Plan, target: Target) -> None:
    """Refuse to restore into tables that are there already."""
    there = target.tables()
    both = [
        f"{table.keyspace}.{table.name}" for table in plan.tables if (table.keyspace, table.name) in there
    ]
    if both:
        more = f" and {len(both) - NAMED_MAX} more" if len(both) > NAMED_MAX else ""
        raise Failure(
            f"the cluster has {', '.join(sorted(both)[:NAMED_MAX])}{more} already",
            hint="drop them, name others with --only, or give --into-existing (newer rows stay)",
            code="exists",
        )


def restore(plan: Plan, rows: Opened, target: Target, tell: Progress) -> int:
    """Everything that the plan names; how many rows that was."""
    target.change(plan.schema)
    there = target.tables()
    for old in plan.tables:  # nothing is restored where something cannot be
        columns_of(old, there[old.keyspace, old.name])
    done = 0
    for old in plan.tables:
        new = there[old.keyspace, old.name]
        before = done

        def told(rows: int, before: int = before) -> None:
            tell(before + rows)

        done += _send(target, batches(restored_of(rows.rows(old.id), old, new)), told)
    return done


def check_logs(base: Opened, later: Opened) -> None:
    """Refuse if the logs of the later snapshot do not go on where the earlier one ends."""
    logs = later.logs()
    for peer, log in base.logs().items():
        if peer not in logs or logs[peer].first > log.end + 1:
            raise Failure(
                "the change logs of the later snapshot do not reach back to the earlier one",
                hint="take snapshots more often than logs are kept (24 hours by default)",
                code="log_gap",
            )


class Between(NamedTuple):
    """A moment between two snapshots."""

    base: Opened
    later: Opened
    until_us: int


def replay(plan: Plan, between: Between, target: Target, tell: Progress) -> int:
    """What was written after the base snapshot up to the moment, from the later one's logs; how many rows."""
    ends = {peer: log.end for peer, log in between.base.logs().items()}
    logs = between.later.logs()
    there = target.tables()
    pairs = {old.id: (old, there[old.keyspace, old.name]) for old in plan.tables}

    def logged() -> Iterator[Restored]:
        for peer, log in logs.items():
            for mutation in mutations(log, ends.get(peer, 0), between.until_us):
                if mutation.table not in pairs:
                    continue
                old, new = pairs[mutation.table]
                header = b"" if mutation.header is None else encode_header(mutation.header)
                rows = [item for item in mutation.rows if not item[0].startswith(OPERATION_SUFFIX)]
                found = tuple((suffix, encode_row(row)) for suffix, row in rows)
                yield _mapped(Restored(new.id, mutation.partition, header, found), columns_of(old, new))

    return _send(target, batches(logged()), tell)


def columns_of(old: Table, new: Table) -> Mapping[int, int]:
    """The ids of columns then and now; empty if they are the same. Columns that are no more are left out; a
    Failure where what was kept would mean something else.
    """
    now = {column.name: column for column in new.columns}
    if _keys_of(old) != _keys_of(new):
        raise _other(old, "another primary key")
    for column in old.columns:
        there = now.get(column.name, column)
        if (there.type, there.kind) != (column.type, column.kind):
            raise _other(old, f"{column.name} as {there.kind} {there.type}, not {column.kind} {column.type}")
    found = {column.id: now[column.name].id for column in old.columns if column.name in now}
    is_same = len(found) == len(old.columns) and all(was == is_now for was, is_now in found.items())
    return {} if is_same and not old.dropped else found


def _keys_of(table: Table) -> list[tuple[str, str, str, bool]]:
    keyed = (column for column in table.columns if column.kind in (PARTITION, CLUSTERING))
    return [(column.name, column.type, column.kind, column.descending) for column in keyed]


def _other(old: Table, what: str) -> Failure:
    text = f"{old.keyspace}.{old.name} is there with {what}"
    return Failure(text, hint="drop it, or restore what else there is with --only", code="schema")


def restored_of(records: Iterable[Record], old: Table, new: Table) -> Iterator[Restored]:
    """Rows of a table, those of a partition together as far as they fit one message."""
    columns = columns_of(old, new)
    key: bytes | None = None
    header, size = b"", 0
    rows: list[Record] = []
    for record_key, value in records:
        _, _, partition, suffix = keys.split_row_key(record_key)
        if key is not None and (partition != key or size > BATCH_BYTES or len(rows) >= BATCH_PARTITIONS):
            yield _mapped(Restored(new.id, key, header, tuple(rows)), columns)
            header, rows, size = b"", [], 0
        key = partition
        size += len(value)
        if suffix == keys.HEADER_SUFFIX:
            header = value
        else:
            rows.append((suffix, value))
    if key is not None:
        yield _mapped(Restored(new.id, key, header, tuple(rows)), columns)


def _mapped(restored: Restored, columns: Mapping[int, int]) -> Restored:
    """With the column ids of now; cells of columns that are no more are left out."""
    if not columns:
        return restored
    rows = []
    for suffix, data in restored.rows:
        row = decode_row(data)
        cells = [_cell(cell, columns) for cell in row.cells]
        kept = sorted((cell for cell in cells if cell is not None), key=lambda cell: cell.address)
        rows.append((suffix, encode_row(msgspec.structs.replace(row, cells=tuple(kept)))))
    return msgspec.structs.replace(restored, rows=tuple(rows))


def _cell(cell: Cell, columns: Mapping[int, int]) -> Cell | None:
    if cell.column == ROW_MARKER_COLUMN:
        return cell
    column = columns.get(cell.column)
    return None if column is None else msgspec.structs.replace(cell, column=column)


def batches(restored: Iterable[Restored]) -> Iterator[tuple[Restored, ...]]:
    """Several partitions at a time, as many as make a message of a good size."""
    held: list[Restored] = []
    size = 0
    for partition in restored:
        held.append(partition)
        size += len(partition.partition) + sum(len(data) for _, data in partition.rows)
        if size >= BATCH_BYTES or len(held) >= BATCH_PARTITIONS:
            yield tuple(held)
            held, size = [], 0
    if held:
        yield tuple(held)


def _send(target: Target, messages: Iterable[tuple[Restored, ...]], tell: Progress) -> int:
    """Send them, some at a time; how many rows they were."""
    done = 0
    with ThreadPoolExecutor(THREADS) as threads:
        under_way: set[Future[int]] = set()
        for number, message in enumerate(messages):
            if len(under_way) >= 2 * THREADS:
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                done += sum(future.result() for future in finished)
                tell(done)
            under_way.add(threads.submit(target.put, number, message))
        for future in under_way:
            done += future.result()
    tell(done)
    return done


def _name_of(change: Change) -> str:
    place = [getattr(change, name, "") for name in ("keyspace", "name", "table")]
    role = getattr(change, "role", None)
    named = role.name if isinstance(role, Role) else ".".join(str(part) for part in place if part)
    return f"{type(change).__name__} {named}"
