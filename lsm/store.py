"""The store of one peer: executes store commands on an engine, each of them atomic.

Applying a mutation reads the rows it touches (and, in tables with clustering columns, the partition's
tombstones), merges in normal form, and writes rows, log entry, mutation id and hash-tree sums in ONE batch of
the engine: after any crash either all of it is there or none. Because the old row is read anyway, what
changed is known exactly.

`plan` looks at a command without touching the engine: which records it is going to read one by one (so that
cold ones can be fetched beforehand without holding up others) and which commands it must not overtake. `run`
executes a plan and says, beside the outcome, on which sequence number of the engine it depends (see
lsm/commit.py).

Damage is never served and never read as absent: the outcome is `Failed`, and `damaged` remembers the slices
of the hash tree that have to be repaired from other replicas. DurabilityError is not caught: it ends all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from core.commands import (
    AT_END,
    Applied,
    Apply,
    Command,
    CounterAdd,
    CounterAdded,
    Digest,
    Done,
    EntriesDamaged,
    EntryCount,
    Failed,
    Find,
    IndexBuild,
    IndexDrop,
    LogChanges,
    LogFetch,
    LogMissing,
    LogRead,
    LogRows,
    MergeRows,
    Missing,
    Mutations,
    Outcome,
    PaxosAccept,
    PaxosCommit,
    PaxosFetch,
    PaxosPrepare,
    PaxosStep,
    Read,
    Records,
    Slice,
    Sweep,
    SystemScan,
    SystemWrite,
    Why,
)
from core.errors import CorruptionError, DiskFullError, StallError
from core.expiring import ExpireRows
from core.healing import PaxosMerge
from core.jobs import refusal
from core.lag import LogLag
from core.limits import MUTATION_BYTES_MAX
from core.mutation import Mutation, decode_mutation, encode_mutation
from core.ports import Engine, Entries
from core.row import Row, encode_row
from core.schema import Table
from core.trimming import LogTrim
from lsm import keys
from lsm.changes import changed_rows
from lsm.commit import Unsynced
from lsm.counters import resolve
from lsm.faults import mutation_fault, partition_fault, proposal_fault, slice_fault
from lsm.finding import EntryError, build, count, find
from lsm.floors import Floors
from lsm.hash_tree import HashTree, leaf_of
from lsm.healing import MENDING, Healing
from lsm.log import ChangeLog
from lsm.lost import LOST_PREFIX, Damage, LostRanges, where
from lsm.moved_log import log_moved
from lsm.moving import MovingCommands
from lsm.passing import Slices
from lsm.paxos import PaxosSteps, needs as paxos_needs
from lsm.plain import PlainReads, PlainWrites
from lsm.reading import digest_of
from lsm.scrub import Scrubber
from lsm.trimming import Trimming
from lsm.writing import Writer

DAMAGED_MAX = 1_000
"""Damaged slices remembered; beyond it the newest is dropped, since repairing begins with the oldest."""

GIVEN_UP = Failed(Why.NOT_A_REPLICA, "this peer does not hold that range (any more)")


class Plan(msgspec.Struct, frozen=True):
    """A command that was looked at. `failed` is its outcome if it cannot be executed at all.

    `order` is what it must not overtake (a partition's key prefix; None if it is free), `needs` the records
    it reads one by one. `size` is what it may write, in bytes, if it reads nothing else: then it may share a
    batch of the engine with others; 0 if not.
    """

    command: Command
    order: bytes | None
    needs: tuple[bytes, ...]
    mutation: Mutation | None = None
    failed: Failed | None = None
    size: int = 0
    lost: bool = False
    """It touches a range of which something may be missing: whatever is done must not be believed."""


class _Info:
    """What the store keeps in mind of a table."""

    __slots__ = ("changes", "has_clustering", "plain", "prefix", "schema")

    def __init__(self, schema: Table) -> None:
        self.schema = schema
        self.has_clustering = schema.has_clustering
        self.changes = schema.options.changes
        self.plain = not (self.has_clustering or schema.indexes)
        self.prefix = keys.table_prefix(schema.id)


class Store:
    """Commands in, outcomes out. `tables` gives the schema of a table id, None if there is no such table (any
    more).

    Raises CorruptionError on construction if the ends of the log cannot be read.
    """

    def __init__(
        self, engine: Engine, tables: Callable[[int], Table | None], entries: Entries | None = None
    ) -> None:
        self.engine = engine
        self.owns: Callable[[int, int], bool] | None = None
        """Whether this peer may hold rows of a table at a token: what is late for a range that it gave up
        must not come back into it.
        """
        self.unsynced = Unsynced()
        self.log = ChangeLog(engine)
        self.tree = HashTree(engine)
        self.damaged: OrderedDict[tuple[int | None, int, int], Damage] = OrderedDict()
        self.lost = LostRanges(engine)
        self._tables = tables
        self._infos: dict[int, _Info] = {}
        self._entries = entries
        self.floors = Floors(engine)
        self._trimming = Trimming(engine, self.log, self.floors, tables)
        self._writer = Writer(engine, self.log, self.tree, self.unsynced, entries, floors=self.floors)
        self._paxos = PaxosSteps(engine, self.unsynced, self._writer, self._newest_in)
        healing = Healing(
            engine,
            self.unsynced,
            self.tree,
            floors=self.floors,
            lost=self.lost,
            scrubber=Scrubber(engine, self.tree, entries, tables),
            writer=self._writer,
            info=self.info,
        )
        moving = MovingCommands(
            engine,
            self.unsynced,
            floors=self.floors,
            log=self.log,
            writer=self._writer,
            info=self.info,
        )
        self._run: dict[type, Callable[[Any], tuple[Outcome, int]]] = {
            MergeRows: self._merge_rows,
            Read: self._read,
            LogRead: self._log_read,
            LogMissing: self._log_missing,
            LogFetch: self._log_fetch,
            LogRows: self._log_rows,
            LogChanges: self._log_changes,
            LogTrim: self._trimming.run,
            LogLag: self._log_lag,
            ExpireRows: self._expire_rows,
            SystemWrite: self._system_write,
            SystemScan: self._system_scan,
            Sweep: self._sweep,
            Find: self._find,
            EntryCount: self._entry_count,
            IndexBuild: self._index_build,
            IndexDrop: self._index_drop,
            **healing.handlers,
            **moving.handlers,
        }
        self._slices = Slices(engine, self.floors)
        self.plain, self.plain_reads = PlainWrites(self), PlainReads(self)

    # --- planning

    def plan(self, command: Command) -> Plan:
        """Look at a command, without I/O (but for a scan at the first mutation of a coordinator's start)."""
        kind = type(command)
        if kind is Apply:
            plan = self._plan_apply(command)  # type: ignore[arg-type]
        elif kind is Read:
            plan = self._plan_read(command)  # type: ignore[arg-type]
        else:
            plan = self._plan(command)
        if not self.lost.ranges or plan.failed is not None or getattr(command, "lost_too", False):
            return plan
        if isinstance(command, MergeRows | PaxosMerge | Sweep) or not self.lost.hits(where(plan)):
            return plan
        if isinstance(command, Apply):
            return msgspec.structs.replace(plan, lost=True)
        return msgspec.structs.replace(plan, failed=MENDING)

    def _plan(self, command: Command) -> Plan:
        if isinstance(command, MergeRows):
            return self._plan_merge(command)
        if isinstance(command, Sweep):
            return Plan(command, command.partition, ())
        if isinstance(command, PaxosPrepare | PaxosAccept | PaxosCommit | PaxosFetch):
            return self._plan_paxos(command)
        if isinstance(command, CounterAdd):
            return msgspec.structs.replace(
                self._plan_apply(Apply(command.increments)), command=command, size=0
            )
        return Plan(command, None, ())

    def needs(self, command: Command) -> tuple[bytes, ...]:
        """The records a command reads one by one."""
        return self.plan(command).needs

    def _plan_apply(self, command: Apply) -> Plan:
        data = command.mutation
        if len(data) > MUTATION_BYTES_MAX:
            return Plan(command, None, (), failed=Failed(Why.TOO_LARGE, f"mutation of {len(data)} bytes"))
        try:
            mutation = decode_mutation(data)
            fault = mutation_fault(mutation)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            mutation, fault = None, f"mutation does not decode: {error}"
        if mutation is None or fault:
            return Plan(command, None, (), failed=Failed(Why.MALFORMED, fault))
        table, token = mutation.table, mutation.token
        info = self.info(table)
        if info is None:
            return Plan(command, None, (), failed=_no_table(table))
        if mutation.header is not None and not info.has_clustering:
            text = f"a partition header for table {table}, which has no clustering columns"
            return Plan(command, None, (), failed=Failed(Why.MALFORMED, text))
        if self.owns is not None and not self.owns(table, token):
            return Plan(command, None, (), failed=GIVEN_UP)
        prefix = keys.partition_prefix(table, token, mutation.partition)
        needs = self.tree.keys_needed(table, leaf_of(token))
        for suffix, _ in mutation.rows:
            needs = (prefix + suffix, *needs)
        if info.has_clustering:
            needs = (prefix + keys.HEADER_SUFFIX, *needs)
        try:
            is_new = self.log.is_beyond(mutation.start, mutation.sequence)
        except CorruptionError:  # executing the command will meet it again, and say it
            is_new = False
        if not is_new:
            needs = (keys.mutation_id_key(mutation.id), *needs)
        return Plan(command, prefix, needs, mutation, None, 0 if mutation.header is not None else len(data))

    def _plan_read(self, command: Read) -> Plan:
        wanted = command.slice
        info = self.info(wanted.table)
        if info is None:
            return Plan(command, None, (), failed=_no_table(wanted.table))
        text = slice_fault(wanted)
        if text:
            return Plan(command, None, (), failed=Failed(Why.MALFORMED, text))
        order = wanted.partition or None
        needs: tuple[bytes, ...] = ()
        if wanted.point:
            order = wanted.first[: keys.prefix_end(wanted.first)]
            needs = (wanted.first, order + keys.HEADER_SUFFIX) if info.has_clustering else (wanted.first,)
        elif wanted.partition and info.has_clustering:
            needs = (wanted.partition + keys.HEADER_SUFFIX,)
        return Plan(command, order, needs, size=int(wanted.point))

    def _plan_merge(self, command: MergeRows) -> Plan:
        info = self.info(command.table)
        if info is None:
            return Plan(command, None, (), failed=_no_table(command.table))
        needs: list[bytes] = []
        try:
            for key, _ in command.rows:
                table, token, _, suffix = keys.split_row_key(key)
                if table != command.table or not suffix or (suffix == b"\0" and not info.has_clustering):
                    raise ValueError(f"{key.hex()} is not a row of table {command.table}")
                needs.append(key)
                if info.has_clustering:
                    needs.append(key[: -len(suffix)] + keys.HEADER_SUFFIX)
                needs += self.tree.keys_needed(table, leaf_of(token))
        except ValueError as error:
            return Plan(command, None, (), failed=Failed(Why.MALFORMED, str(error)))
        return Plan(command, None, tuple(dict.fromkeys(needs)))

    def _plan_paxos(self, command: PaxosStep) -> Plan:
        info = self.info(command.table)
        if info is None:
            return Plan(command, None, (), failed=_no_table(command.table))
        fault = partition_fault(command.table, command.partition)
        parts = command.slices if isinstance(command, PaxosPrepare) else ()
        for part in parts:
            inside = part.table == command.table and part.first.startswith(command.partition)
            inside = inside and (part.point or part.end <= keys.successor(command.partition))
            fault = fault or slice_fault(part) or ("" if inside else "a slice of another partition")
        if isinstance(command, PaxosAccept) and len(command.proposal) > MUTATION_BYTES_MAX:
            fault = f"proposal of {len(command.proposal)} bytes"
        if isinstance(command, PaxosAccept) and command.proposal and not fault:
            fault = proposal_fault(command.proposal, info.has_clustering)
        if fault:
            return Plan(command, None, (), failed=Failed(Why.MALFORMED, fault))
        if self.owns is not None and not self.owns(command.table, keys.token_of(command.partition)):
            return Plan(command, None, (), failed=GIVEN_UP)
        needs = paxos_needs(command, info.has_clustering)
        if not isinstance(command, PaxosCommit) or not command.mutation:
            return Plan(command, command.partition, tuple(needs))
        plan = self._plan_apply(Apply(command.mutation))
        failed = plan.failed
        if failed is None and plan.order != command.partition:
            failed = Failed(Why.MALFORMED, "a commit of another partition's mutation")
        return Plan(command, command.partition, (*needs, *plan.needs), plan.mutation, failed)

    def info(self, table: int) -> _Info | None:
        """What is known of a table; None if there is none of this id."""
        schema = self._tables(table)
        if schema is None:
            return None
        info = self._infos.get(table)
        if info is None or info.schema is not schema:
            info = self._infos[table] = _Info(schema)
        return info

    # --- groups

    def begin_group(self) -> None:
        """Commands that follow share one batch of the engine; only such whose plans have a size."""
        self.engine.begin_group()

    def end_group(self) -> Failed | None:
        """Write that batch. If the engine refuses it nothing of the group is there, and this is what to tell
        those who wrote, or saw what was written.
        """
        before = self.engine.written()
        try:
            self.engine.end_group()
        except (CorruptionError, DiskFullError, StallError) as error:
            failed = refusal(error)
            if failed.why == Why.CORRUPT:  # a compaction met it: from then on the engine takes no writes
                self.damaged.setdefault((None, 0, 0), Damage(None, 0, 0, failed.detail))
        else:
            self.tree.trim()
            return None
        self.unsynced.taken_back(before - 1)
        self.tree.forget()
        self.log.reload()
        self._trimming.reload()
        self._writer.reload()
        return failed

    def rest(self) -> None:
        """Forget what is kept for speed alone; not within a group."""
        self.tree.forget()
        self.log.rest()

    # --- running

    def execute(self, command: Command) -> Outcome:
        """Execute a command now; what `run` says about durability is lost."""
        return self.run(self.plan(command))[0]

    def run(self, plan: Plan) -> tuple[Outcome, int]:
        """Execute a plan; returns its outcome and the sequence number on which that depends.

        Raises DurabilityError if the engine cannot say any more what is durable.
        """
        if plan.failed is not None:
            return plan.failed, 0
        try:
            command, mutation = plan.command, plan.mutation
            if mutation is not None and type(command) is Apply:
                info = self.info(mutation.table)
                if info is None:
                    return _no_table(mutation.table), 0
                assert plan.order is not None
                data, order = command.mutation, plan.order
                done = self._writer.apply(mutation, data, info, order, followed=command.followed)
                if command.moved and isinstance(done[0], Failed) and done[0].why == Why.BELOW_FLOOR:
                    done = log_moved(self._writer.expiring, self.log, mutation, data, where=(info, order))
                return (MENDING, done[1]) if plan.lost and isinstance(done[0], Applied) else done
            if isinstance(plan.command, PaxosPrepare | PaxosAccept | PaxosCommit | PaxosFetch):
                return self._paxos_step(plan.command, plan.mutation)
            if isinstance(plan.command, CounterAdd):
                return self._counter_add(plan)
            return self._run[type(plan.command)](plan.command)
        except (CorruptionError, DiskFullError, StallError) as error:
            self.log.abort()  # what was staged before a record that cannot be read
            if isinstance(error, CorruptionError):
                self._remember(plan, str(error))
            return refusal(error), 0

    def _read(self, command: Read) -> tuple[Outcome, int]:
        wanted = command.slice
        info = self.info(wanted.table)
        if info is None:
            return _no_table(wanted.table), 0
        rows = self._slices.read(wanted, info.has_clustering)
        if self.floors.tables and not command.digest:
            rows = self.floors.tagged(rows, where(Plan(command, None, ()))[0])
        depends_on = self._newest_in(wanted, info.has_clustering)
        return (Digest(digest_of(rows)) if command.digest else rows), depends_on

    def _newest_in(self, wanted: Slice, has_clustering: bool) -> int:
        """The last unsynced sequence number on which what is read of a slice may depend."""
        newest = self.unsynced.newest
        if not wanted.point:
            return newest(wanted.partition or keys.table_prefix(wanted.table))
        depends_on = newest(wanted.first)
        if has_clustering:
            header_key = wanted.first[: keys.prefix_end(wanted.first)] + keys.HEADER_SUFFIX
            depends_on = max(depends_on, newest(header_key))
        return depends_on

    def _paxos_step(self, step: PaxosStep, mutation: Mutation | None) -> tuple[Outcome, int]:
        info = self.info(step.table)
        if info is None:
            return _no_table(step.table), 0
        if isinstance(step, PaxosPrepare):
            return self._paxos.prepare(step, info.has_clustering)
        if isinstance(step, PaxosAccept):
            return self.floors.refusal(step) or self._paxos.accept(step)
        if isinstance(step, PaxosCommit):
            return self._paxos.commit(step, mutation, info)
        return self._paxos.fetch(step)

    def _counter_add(self, plan: Plan) -> tuple[Outcome, int]:
        increments, prefix = plan.mutation, plan.order
        assert increments is not None and prefix is not None
        info = self.info(increments.table)
        if info is None:
            return _no_table(increments.table), 0
        offset = self.log.offset_of(increments.id)
        if offset is not None:
            held = self.log.mutations((offset,), MUTATION_BYTES_MAX)
            if not held:
                return Failed(Why.UNKNOWN, "added before, and the log has forgotten what"), 0
            return CounterAdded(held[0][1]), self.engine.written()
        try:
            mutation = resolve(increments, partial(self._writer.stored, prefix, info.has_clustering))
        except ValueError as error:
            return Failed(Why.MALFORMED, str(error)), 0
        data = encode_mutation(mutation)
        outcome, sequence = self._writer.apply(mutation, data, info, prefix)
        return (CounterAdded(data) if isinstance(outcome, Applied) else outcome), sequence

    def _merge_rows(self, command: MergeRows) -> tuple[Outcome, int]:
        info = self.info(command.table)
        if info is None:
            return _no_table(command.table), 0
        rows, owns = command.rows, self.owns
        if owns is not None:
            rows = tuple(row for row in rows if owns(command.table, keys.token_of(row[0])))
        return self._writer.merge(command.table, rows, info, command.settled_us)

    def _log_read(self, command: LogRead) -> tuple[Outcome, int]:
        ids = self.log.ids(command.after, command.entries_max, command.ranges)
        return ids, self.engine.written()

    def _log_missing(self, command: LogMissing) -> tuple[Outcome, int]:
        return Missing(self.log.missing(command.ids)), self.engine.written()

    def _log_fetch(self, command: LogFetch) -> tuple[Outcome, int]:
        return Mutations(self.log.mutations(command.offsets, command.bytes_max)), self.engine.written()

    def _log_rows(self, command: LogRows) -> tuple[Outcome, int]:
        return changed_rows(self.engine, self.log, self.unsynced, command)

    def _log_changes(self, command: LogChanges) -> tuple[Outcome, int]:
        """Up to where the log is durable, so that no page waits for a sync of what is not in it."""
        durable = self.log.durable
        if durable is None or command.after == AT_END:
            return self.log.changes(command), self.engine.written()
        return self.log.changes(command, durable), 0

    def _expire_rows(self, command: ExpireRows) -> tuple[Outcome, int]:
        def stored(key: bytes) -> tuple[str, bytes, Row] | None:
            info = self.info(int.from_bytes(key[1:5], "big"))
            if info is None or info.changes == "none":
                return None
            end = keys.prefix_end(key)
            row, _ = self._writer.stored(key[:end], info.has_clustering, key[end:])
            return info.changes, encode_row(row), row

        outcome, sequence = self._writer.expiring.sweep(command, stored, self.engine.write)
        # Who is told how far it is told counts on finding it in pages, which hold what is durable.
        return outcome, sequence or self.engine.written()

    def _log_lag(self, command: LogLag) -> tuple[Outcome, int]:
        return self.log.lag(command), 0

    def _system_write(self, command: SystemWrite) -> tuple[Outcome, int]:
        puts = [(keys.system_key(key), value) for key, value in command.puts]
        sequence = self.engine.write(puts)
        self.unsynced.wrote((keys.SYSTEM,), sequence)
        if self.lost.ranges and any(key.startswith(LOST_PREFIX) for key, _ in command.puts):
            self.lost.reload()
        return Done(), sequence

    def _system_scan(self, command: SystemScan) -> tuple[Outcome, int]:
        prefix = keys.system_key(command.prefix)
        first = max(prefix, keys.system_key(command.after) + b"\0") if command.after else prefix
        depends_on = self.unsynced.newest(keys.SYSTEM)
        records: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in self.engine.scan(first, keys.successor(prefix)):
            size += len(key) + len(value)
            if records and (len(records) >= command.rows_max or size > command.bytes_max):
                return Records(tuple(records), True), depends_on
            records.append((key[1:], value))
        return Records(tuple(records), False), depends_on

    def boot(self, prefix: bytes) -> dict[bytes, bytes]:
        """All system records with this prefix, read at once: for the start, before anything else runs."""
        first = keys.system_key(prefix)
        return {key[1:]: value for key, value in self.engine.scan(first, keys.successor(first))}

    # --- indexes

    def _find(self, command: Find) -> tuple[Outcome, int]:
        info = self.info(command.table)
        if info is None:
            return _no_table(command.table), 0
        try:
            found = find(self.engine, command, info.has_clustering)
        except EntryError as error:
            self.damaged.setdefault((None, 0, 0), Damage(None, 0, 0, str(error)))
            return EntriesDamaged(Why.CORRUPT, str(error)), 0
        return found, self.unsynced.newest(keys.table_prefix(command.table))

    def _entry_count(self, command: EntryCount) -> tuple[Outcome, int]:
        return count(self.engine, command), 0

    def _index_build(self, command: IndexBuild) -> tuple[Outcome, int]:
        info = self.info(command.table)
        if info is None or self._entries is None:
            return _no_table(command.table), 0
        return build(self.engine, command, info.schema, self._entries), self.engine.written()

    def _index_drop(self, command: IndexDrop) -> tuple[Outcome, int]:
        head = keys.entry_prefix(command.table, command.index)
        self.engine.delete_range(head, keys.successor(head))
        return Done(), self.engine.write([(keys.system_key(command.record), None)])

    # --- sweeping

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """What is left to sweep, oldest first; an executor runs these when it has nothing better to do."""
        return self._writer.sweeps()

    def next_sweep(self) -> Sweep | None:
        """The oldest sweep still to be done."""
        return self._writer.next_sweep()

    def put_off_sweep(self, sweep: Sweep) -> None:
        """It failed: have others done first."""
        self._writer.put_off_sweep(sweep.partition)

    def _sweep(self, command: Sweep) -> tuple[Outcome, int]:
        info = self.info(command.table)
        if info is None:
            self._writer.forget_sweep(command.partition)
            return _no_table(command.table), 0
        return self._writer.sweep(command, info)

    # --- damage

    def _remember(self, plan: Plan, text: str) -> None:
        for table, first, end in where(plan):
            if len(self.damaged) < DAMAGED_MAX:
                self.damaged.setdefault((table, first, end), Damage(table, first, end, text))


def _no_table(table: int) -> Failed:
    return Failed(Why.NO_TABLE, f"there is no table {table}")
