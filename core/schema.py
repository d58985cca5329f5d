"""Keyspaces, tables and columns as the metadata log has them. Ids are given by the log and never reused."""

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
    """A column: `id` addresses its cells (regular and static count from 1, key columns have none: 0)."""

    id: int
    name: str
    type: str
    kind: str


class TableOptions(msgspec.Struct, frozen=True):
    """What may change in the life of a table. `changes` is none, keys, new, old or new_and_old."""

    default_ttl_s: int = 0
    changes: str = "none"
    comment: str = ""


class Table(msgspec.Struct, frozen=True):
    """A table. `changed_epoch` is the epoch that last touched it: requests planned before it are stale."""

    id: int
    keyspace: str
    name: str
    columns: tuple[Column, ...]
    options: TableOptions
    changed_epoch: int

    @property
    def has_clustering(self) -> bool:
        """Whether a partition may hold several rows (then it may have a header)."""
        return any(column.kind == CLUSTERING for column in self.columns)

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)


class Keyspace(msgspec.Struct, frozen=True):
    """A keyspace: a name and where its rows live."""

    name: str
    replication: Replication
    changed_epoch: int
    durable_writes: bool = True


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
