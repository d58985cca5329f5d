"""The metadata log's vocabulary: what an epoch decides, and the state that follows from the epochs in order.

Epoch 1 is the birth of the cluster. Each later epoch is a batch of schema changes. Applying an epoch to a
state is pure (node/metadata_state.py), so all peers that know the same epochs have the same state.
"""

from __future__ import annotations

import msgspec

from core.schema import Column, Member, Replication, TableOptions

ChangeId = tuple[int, int]
"""(start number or, before birth, 0; sequence): a change that is proposed twice is applied once."""


class CreateKeyspace(msgspec.Struct, frozen=True, tag="create_keyspace"):
    """Create a keyspace."""

    name: str
    replication: Replication
    if_not_exists: bool = False


class CreateTable(msgspec.Struct, frozen=True, tag="create_table"):
    """Create a table; its id and column ids are given when it is applied.

    `unique_across` names a prefix of keyspaces ("kv") among which the table's name must be unique; with it
    the keyspace is created too if it is not there, with this `replication`.
    """

    keyspace: str
    name: str
    columns: tuple[Column, ...]
    options: TableOptions
    if_not_exists: bool = False
    unique_across: str = ""
    replication: Replication | None = None


class AlterTable(msgspec.Struct, frozen=True, tag="alter_table"):
    """Give a table other options."""

    keyspace: str
    name: str
    options: TableOptions


class DropTable(msgspec.Struct, frozen=True, tag="drop_table"):
    """Drop a table."""

    keyspace: str
    name: str
    if_exists: bool = False


class TruncateTable(msgspec.Struct, frozen=True, tag="truncate_table"):
    """Empty a table by giving it a new id: what is in flight to the old one is lost on purpose."""

    keyspace: str
    name: str


Change = CreateKeyspace | CreateTable | AlterTable | DropTable | TruncateTable


class Birth(msgspec.Struct, frozen=True, tag="birth"):
    """Epoch 1: the cluster's id and name, its members with their tokens, and who votes on the next epoch.

    `replication_factor` is that of the keyspaces made with the cluster, per datacentre (its peers if fewer).
    """

    cluster: bytes
    name: str
    members: tuple[Member, ...]
    voters: tuple[bytes, ...]
    replication_factor: int = 3


class Proposal(msgspec.Struct, frozen=True, array_like=True):
    """A change with its id."""

    id: ChangeId
    change: Change


class Changes(msgspec.Struct, frozen=True, tag="changes"):
    """An ordinary epoch: changes applied in order; one that cannot be applied is answered with an error."""

    proposals: tuple[Proposal, ...]


Entry = Birth | Changes


class Epoch(msgspec.Struct, frozen=True, array_like=True):
    """A decided entry."""

    number: int
    entry: Entry
