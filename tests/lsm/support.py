"""What the store's tests write with: two tables, mutations made short, and a store on an engine in memory."""

from __future__ import annotations

from core.cell import VALUE, Cell
from core.commands import Apply, Hashes, Outcome, Read, Rows, Slice, TreeHashes
from core.mutation import INSERT, Mutation, encode_mutation
from core.ports import Engine
from core.row import Header, RangeTombstone, Row, Tombstone, normal
from core.schema import CLUSTERING, PARTITION, REGULAR, Column, Table, TableOptions
from lsm import keys
from lsm.hash_tree import LEAVES, leaf_of, record_hash
from lsm.memory import MemoryEngine
from lsm.store import Store

KEY, CLUSTER = Column(0, "k", "text", PARTITION), Column(0, "c", "text", CLUSTERING)
VALUES = (Column(1, "v", "blob", REGULAR), Column(2, "w", "blob", REGULAR))
PLAIN = Table(1, "kv", "plain", (KEY, *VALUES), TableOptions(), 1)
WIDE = Table(2, "ks", "wide", (KEY, CLUSTER, *VALUES), TableOptions(), 1)
IMAGED = Table(3, "ks", "imaged", (KEY, CLUSTER, *VALUES), TableOptions(changes="new_and_old"), 1)
TABLES = {table.id: table for table in (PLAIN, WIDE, IMAGED)}

EVERYTHING = tuple((table, ((keys.TOKEN_MIN, keys.TOKEN_MAX),)) for table in TABLES)


def check_tree(store: Store) -> None:
    """The leaves are the sums of what is stored, and parts are the sums of leaves."""
    for table in TABLES:
        expected: dict[int, int] = {}
        for key, value in stored(store).items():
            if keys.split_row_key(key)[0] == table:
                leaf = leaf_of(keys.token_of(key))
                expected[leaf] = (expected.get(leaf, 0) + record_hash(key, value)) % 2**64
        assert store.tree.leaves(table) == {leaf: total for leaf, total in expected.items() if total}
        for first, end, parts in ((0, LEAVES, 16), (3, LEAVES - 5, 7), (LEAVES // 2, LEAVES // 2 + 3, 3)):
            outcome = store.execute(TreeHashes(table, ((first, end),), parts))
            assert isinstance(outcome, Hashes)
            inside = sum(total for leaf, total in expected.items() if first <= leaf < end) % 2**64
            assert sum(outcome.hashes) % 2**64 == inside


def store_on(engine: Engine | None = None) -> Store:
    """A store that knows the tables above."""
    return Store(MemoryEngine() if engine is None else engine, TABLES.get)


def cell(at: int, value: bytes | None, column: int = 1, writer: int = 7) -> Cell:
    """A scalar cell @at."""
    return Cell(column, (), VALUE, at, writer, at if value is None else 0, value)


def row(*cells: Cell, deleted: int | None = None) -> Row:
    """A row, perhaps with a tombstone @deleted."""
    return normal(None if deleted is None else Tombstone(deleted, 7, deleted), cells)


def suffix(name: str) -> bytes:
    """The key suffix of a row of a table with one clustering column of type text."""
    return keys.ROW_SUFFIX + keys.clustering_text(name)


class Client:
    """Makes mutations with fresh ids, for one table."""

    def __init__(self, table: Table = WIDE, start: int = 9) -> None:
        self.table = table
        self.start = start
        self.sequence = 0

    def mutation(
        self, rows: dict[bytes, Row], header: Header | None = None, partition: bytes = b"p", token: int = 5
    ) -> Apply:
        """A mutation of one partition, as a command."""
        self.sequence += 1
        pairs = tuple(sorted(rows.items()))
        made = Mutation(
            self.start, self.sequence, 0, 100, True, INSERT, self.table.id, token, partition, header, pairs
        )
        return Apply(encode_mutation(made))

    def put(self, name: str, *cells: Cell, deleted: int | None = None) -> Apply:
        """Cells of one row of the partition, and perhaps a row tombstone."""
        return self.mutation({self.suffix(name): row(*cells, deleted=deleted)})

    def suffix(self, name: str) -> bytes:
        """The key suffix of a row by name."""
        return suffix(name) if self.table.has_clustering else keys.ROW_SUFFIX

    def delete_partition(self, at: int) -> Apply:
        """A partition tombstone @at."""
        return self.mutation({}, Header(Tombstone(at, 7, at)))

    def delete_range(self, first: str, end: str, at: int) -> Apply:
        """A range tombstone @at on rows named from `first` to before `end`."""
        return self.mutation({}, Header(None, (RangeTombstone(suffix(first), suffix(end), at, 7, at),)))


def partition_slice(table: Table = WIDE, rows_max: int = 100, reverse: bool = False) -> Slice:
    """All rows of the partition that `Client` writes by default."""
    prefix = keys.partition_prefix(table.id, 5, b"p")
    return Slice(table.id, prefix, keys.successor(prefix), prefix, False, rows_max, 10**6, reverse)


def token_slice(table: Table = WIDE, rows_max: int = 100, reverse: bool = False) -> Slice:
    """All rows and headers of a table."""
    first, end = keys.token_range_bounds(table.id, keys.TOKEN_MIN, keys.TOKEN_MAX)
    return Slice(table.id, first, end, b"", False, rows_max, 10**6, reverse)


def point_slice(name: str, table: Table = WIDE) -> Slice:
    """One row."""
    prefix = keys.partition_prefix(table.id, 5, b"p")
    key = prefix + (suffix(name) if table.has_clustering else keys.ROW_SUFFIX)
    return Slice(table.id, key, b"", prefix, True, 1, 10**6)


def rows_of(outcome: Outcome) -> Rows:
    """The outcome of a Read that must have succeeded."""
    assert isinstance(outcome, Rows), outcome
    return outcome


def read(store: Store, wanted: Slice) -> Rows:
    """The rows of a slice."""
    return rows_of(store.execute(Read(wanted, False)))


def sweep_all(store: Store) -> None:
    """Finish all sweeps."""
    while (sweep := store.next_sweep()) is not None:
        store.execute(sweep)


def stored(store: Store, region: bytes = keys.ROW) -> dict[bytes, bytes]:
    """The records of a region as the engine has them."""
    return dict(store.engine.scan(region, keys.successor(region)))
