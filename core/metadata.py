"""The metadata log's vocabulary: what an epoch decides, and the state that follows from the epochs in order.

Epoch 1 is the birth of the cluster. Each later epoch is a batch of schema changes. Applying an epoch to a
state is pure (node/metadata_state.py), so all peers that know the same epochs have the same state.
"""

from __future__ import annotations

import msgspec

from core.roles import RoleChange
from core.schema import Column, Index, Member, Replication, TableOptions, TypeField

ChangeId = tuple[int, int]
"""(start number or, before birth, 0; sequence): a change that is proposed twice is applied once."""


class CreateKeyspace(msgspec.Struct, frozen=True, tag="create_keyspace"):
    """Create a keyspace."""

    name: str
    replication: Replication
    if_not_exists: bool = False
    durable_writes: bool = True


class AlterKeyspace(msgspec.Struct, frozen=True, tag="alter_keyspace"):
    """Give a keyspace another replication (as long as it has no tables) or durability; None leaves it."""

    name: str
    replication: Replication | None = None
    durable_writes: bool | None = None
    if_exists: bool = False


class DropKeyspace(msgspec.Struct, frozen=True, tag="drop_keyspace"):
    """Drop a keyspace with its tables, indexes and types."""

    name: str
    if_exists: bool = False


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
    """Give a table other options: those named in `only` (fields of `options`), or all if none is named."""

    keyspace: str
    name: str
    options: TableOptions
    only: tuple[str, ...] = ()
    if_exists: bool = False


class AddColumns(msgspec.Struct, frozen=True, tag="add_columns"):
    """Add static or regular columns; their ids are given when it is applied.

    `if_exists` is about the table, `if_not_exists` about each column.
    """

    keyspace: str
    name: str
    columns: tuple[Column, ...]
    if_exists: bool = False
    if_not_exists: bool = False


class DropColumns(msgspec.Struct, frozen=True, tag="drop_columns"):
    """Drop static or regular columns that have no index; `dropped_us` is the time of it by the asker's clock.

    `if_exists` is about the table, `if_column_exists` about each column.
    """

    keyspace: str
    name: str
    columns: tuple[str, ...]
    dropped_us: int = 0
    if_exists: bool = False
    if_column_exists: bool = False


class RenameColumns(msgspec.Struct, frozen=True, tag="rename_columns"):
    """Rename key columns: (old, new) pairs, done in order."""

    keyspace: str
    name: str
    renames: tuple[tuple[str, str], ...]
    if_exists: bool = False
    if_column_exists: bool = False


class DropTable(msgspec.Struct, frozen=True, tag="drop_table"):
    """Drop a table."""

    keyspace: str
    name: str
    if_exists: bool = False


class TruncateTable(msgspec.Struct, frozen=True, tag="truncate_table"):
    """Empty a table by giving it a new id: what is in flight to the old one is lost on purpose."""

    keyspace: str
    name: str


class CreateType(msgspec.Struct, frozen=True, tag="create_type"):
    """Create a user type."""

    keyspace: str
    name: str
    fields: tuple[TypeField, ...]
    if_not_exists: bool = False


class AlterType(msgspec.Struct, frozen=True, tag="alter_type"):
    """Add fields to a user type, then rename fields: (old, new) pairs, done in order.

    `if_exists` is about the type, the other two about each field.
    """

    keyspace: str
    name: str
    add: tuple[TypeField, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    if_exists: bool = False
    if_field_not_exists: bool = False
    if_field_exists: bool = False


class DropType(msgspec.Struct, frozen=True, tag="drop_type"):
    """Drop a user type that no table and no other type uses."""

    keyspace: str
    name: str
    if_exists: bool = False


class CreateIndex(msgspec.Struct, frozen=True, tag="create_index"):
    """Create an index. Its id is given when it is applied, and its name too if that is empty."""

    keyspace: str
    table: str
    index: Index
    if_not_exists: bool = False


class DropIndex(msgspec.Struct, frozen=True, tag="drop_index"):
    """Drop the index of that name in a keyspace."""

    keyspace: str
    name: str
    if_exists: bool = False


class BeginMove(msgspec.Struct, frozen=True, tag="begin_move"):
    """Begin to move ranges: the first of three epochs (see Move).

    `base` is the last epoch that changed where rows live when this was planned: if another has since, it is
    refused. Members in `admit` have no number yet (0) and no tokens. `tokens` are those that a peer has at
    the
    end, for each whose tokens change; `voters` (if any) who votes then.
    """

    kind: str
    base: int
    admit: tuple[Member, ...] = ()
    tokens: tuple[tuple[bytes, tuple[int, ...]], ...] = ()
    remove: tuple[bytes, ...] = ()
    keyspaces: tuple[tuple[str, Replication], ...] = ()
    voters: tuple[bytes, ...] = ()


class StepMove(msgspec.Struct, frozen=True, tag="step_move"):
    """Take the move that began in epoch `move` to its next phase: hand_over, finish, or aborted."""

    move: int
    phase: str


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """The majority of the voters is lost: from now on others vote. Decided by all who remain
    (node/recovery.py).

    `generation` counts such recoveries, from 1. `lost` are the members given up by it: they are members until
    they are replaced or removed, as their ranges are, and are refused should they come back.
    """

    generation: int
    lost: tuple[bytes, ...]
    voters: tuple[bytes, ...]


class ChangeAddress(msgspec.Struct, frozen=True, tag="change_address"):
    """A member is to be reached at another address: it was started there, with the directory that it had."""

    peer: bytes
    address: str


class Move(msgspec.Struct, frozen=True):
    """Ranges on their way: what BeginMove said, in which epoch (`id`), and how far it is.

    `phase` is prepare, hand_over, finish or aborted, since the epoch `since`. `added` are the peers it
    admitted.
    """

    id: int
    kind: str
    phase: str
    since: int
    added: tuple[bytes, ...]
    tokens: tuple[tuple[bytes, tuple[int, ...]], ...]
    remove: tuple[bytes, ...]
    keyspaces: tuple[tuple[str, Replication], ...]
    voters: tuple[bytes, ...]

    def members_after(self, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """All members with the tokens that they have at the end; who leaves has none."""
        tokens = {**dict(self.tokens), **dict.fromkeys(self.remove, ())}
        return tuple(
            msgspec.structs.replace(m, tokens=tokens[m.peer]) if m.peer in tokens else m for m in members
        )


OF_MEMBERS = (BeginMove, StepMove, Recover, ChangeAddress)
"""What changes the members, and not the schema."""

Change = (
    CreateKeyspace
    | CreateTable
    | AlterTable
    | DropTable
    | TruncateTable
    | AlterKeyspace
    | DropKeyspace
    | AddColumns
    | DropColumns
    | RenameColumns
    | CreateType
    | AlterType
    | DropType
    | CreateIndex
    | DropIndex
    | RoleChange
    | BeginMove
    | StepMove
    | Recover
    | ChangeAddress
)


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
