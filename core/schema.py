"""Keyspaces, types, tables, columns and indexes as the metadata log has them.

Ids are given by the log and never reused. All this is stored: a new field goes to the end and has a default.
"""

from __future__ import annotations

import msgspec

PARTITION, CLUSTERING, STATIC, REGULAR = "partition", "clustering", "static", "regular"


class Replication(msgspec.Struct, frozen=True):
    """Where the rows of a keyspace live.

    A strategy and a factor per datacentre ("" for SimpleStrategy's one).
    """

    strategy: str
    factors: tuple[tuple[str, int], ...]


SIMPLE, NETWORK_TOPOLOGY = "SimpleStrategy", "NetworkTopologyStrategy"


class Column(msgspec.Struct, frozen=True):
    """A column: `id` addresses its cells (regular and static count from 1, key columns have none: 0).

    `type` is CQL text. `descending` is the order of a clustering column.
    """

    id: int
    name: str
    type: str
    kind: str
    descending: bool = False


class DroppedColumn(msgspec.Struct, frozen=True):
    """A column that was dropped at `dropped_us`: its cells may still lie around, under an id of their own."""

    id: int
    name: str
    type: str
    kind: str
    dropped_us: int


CHANGES = ("none", "keys", "new", "old", "new_and_old")
"""What a table keeps of each change for subscribers: nothing, what was written, or rows as well."""

Pairs = tuple[tuple[str, str], ...]
"""A map of text, in the order given."""


class TableOptions(msgspec.Struct, frozen=True):
    """What may change in the life of a table. `changes` is none, keys, new, old or new_and_old;
    `changes_kept_s` is how long at least its changes are kept (0: as long as the peers' logs reach),
    `changes_kept_bytes` how many bytes of them each peer keeps, no fewer and no more (0: as the logs reach).

    `gc_grace_s`, the maps (empty: Cassandra's defaults) and `other` (Cassandra's remaining options by name,
    as text) are kept for tools that read them back; nothing here depends on them. `documents` is what a
    collection of documents is set to beyond these, as JSON text (documents/collections.py).
    `documents_expire`: some of them may have a time to live of their own.
    """

    default_ttl_s: int = 0
    changes: str = "none"
    comment: str = ""
    gc_grace_s: int = 864_000
    compaction: Pairs = ()
    compression: Pairs = ()
    caching: Pairs = ()
    other: Pairs = ()
    documents: str = ""
    changes_kept_s: int = 0
    changes_kept_bytes: int = 0
    documents_expire: bool = False


SIMPLE_INDEX, KEYS_INDEX, VALUES_INDEX, ENTRIES_INDEX, FULL_INDEX, DATE_INDEX = (
    "simple",
    "keys",
    "values",
    "entries",
    "full",
    "date",
)


class IndexTarget(msgspec.Struct, frozen=True, array_like=True):
    """What of a row an index (or a check of a read) looks at: index/entries.py makes terms of it.

    `path` leads into a json column. `descending` turns the order over. `fold` takes text without its case,
    `normalize` composed, `ascii` in letters of ASCII where there are any (core/plain_text.py).
    """

    column: str
    kind: str = SIMPLE_INDEX
    path: tuple[str, ...] = ()
    descending: bool = False
    fold: bool = False
    normalize: bool = False
    ascii: bool = False


class Index(msgspec.Struct, frozen=True):
    """A secondary index on a column, or on the keys, values or entries of a collection, or on a frozen one.

    Its name is unique in the keyspace. Its id is one of a table: never given twice, renewed by TRUNCATE.

    Indexes of documents have `targets`: each term is then one value of each of them, in their order (an array
    gives one per element). `condition` restricts such an index to rows for which all of these hold: (target,
    operator of index/entries_json.py, value as JSON text). `unique` asks that no two rows share a term;
    `reservations` is then the id of the table whose rows say who has which (node/uniques.py). A row whose
    earliest date at the (one) target lies more than `expire_after_s` back is deleted; -1 is never.
    """

    id: int
    name: str
    column: str
    kind: str = SIMPLE_INDEX
    using: str = ""
    options: Pairs = ()
    targets: tuple[IndexTarget, ...] = ()
    condition: tuple[tuple[IndexTarget, str, str], ...] = ()
    unique: bool = False
    reservations: int = 0
    expire_after_s: int = -1

    @property
    def looks_at(self) -> tuple[IndexTarget, ...]:
        """What its terms are made of."""
        fold = ("case_sensitive", "false") in self.options
        normalize, ascii_ = (("normalize", "true") in self.options, ("ascii", "true") in self.options)
        one = IndexTarget(self.column, self.kind, fold=fold, normalize=normalize, ascii=ascii_)
        return self.targets or (one,)


class Table(msgspec.Struct, frozen=True):
    """A table. `changed_epoch` is the epoch that last touched it: requests planned before it are stale.

    Of dropped columns there is at most one of a name, the latest. `next_column_id` 0 means: one more than
    the greatest id of `columns`. `reserves` is the unique index whose reservations the rows are (0: none):
    such a table comes and goes with its index, and nobody else changes it.
    """

    id: int
    keyspace: str
    name: str
    columns: tuple[Column, ...]
    options: TableOptions
    changed_epoch: int
    next_column_id: int = 0
    dropped: tuple[DroppedColumn, ...] = ()
    indexes: tuple[Index, ...] = ()
    reserves: int = 0

    @property
    def uniques(self) -> tuple[int, ...]:
        """The ids of its unique indexes."""
        return tuple(index.id for index in self.indexes if index.unique)

    @property
    def has_clustering(self) -> bool:
        """Whether a partition may hold several rows (then it may have a header)."""
        return any(column.kind == CLUSTERING for column in self.columns)

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def index(self, name: str) -> Index | None:
        """The index of that name."""
        return next((index for index in self.indexes if index.name == name), None)


class TypeField(msgspec.Struct, frozen=True):
    """A field of a user type; `type` is CQL text."""

    name: str
    type: str


class UserType(msgspec.Struct, frozen=True):
    """A user type of a keyspace. Fields are only ever added, and renamed."""

    name: str
    fields: tuple[TypeField, ...]
    changed_epoch: int


class Keyspace(msgspec.Struct, frozen=True):
    """A keyspace: a name, where its rows live, and its types in the order they were made.

    `durable_writes` is kept for tools that read it back: every write is durable.
    """

    name: str
    replication: Replication
    changed_epoch: int
    durable_writes: bool = True
    types: tuple[UserType, ...] = ()

    def type(self, name: str) -> UserType | None:
        """The user type of that name."""
        return next((each for each in self.types if each.name == name), None)


class Member(msgspec.Struct, frozen=True):
    """A peer that an epoch admitted.

    `peer` is its random id, `number` is given by the epoch and never reused.
    """

    peer: bytes
    number: int
    name: str
    address: str
    datacentre: str
    rack: str
    tokens: tuple[int, ...]
    initial_start: int = 0
