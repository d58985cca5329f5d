"""Buckets: what a key-value bucket is among keyspaces and tables.

A bucket is a table whose rows are keys, so every other door (CQL, the change stream, an index) sees the same
data:

    kv.NAME         (key text PRIMARY KEY, value blob, content_type text)
    kv.NAME ordered (bucket text, key text, value blob, content_type text, PRIMARY KEY (bucket, key))

An ordered bucket is one partition, so it lists in key order and lives on one set of replicas. A bucket with
another replication factor than the cluster's default lives in the keyspace `kv_rfN`; its name is unique
across all of these. `unique_across` has the metadata log see to that, so two peers that create a bucket at
once make one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from core import limits
from core.metadata import AlterTable, CreateTable, DropTable
from core.requests import Invalid, MetadataRequest
from core.schema import (
    CHANGES,
    CLUSTERING,
    NETWORK_TOPOLOGY,
    PARTITION,
    REGULAR,
    Column,
    Keyspace,
    Member,
    Replication,
    Table,
    TableOptions,
)

KEYSPACE = "kv"
DEFAULT_FACTOR = 3
FACTOR_MAX = 16

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
_KEYSPACE = re.compile(r"kv(?:_rf([1-9][0-9]?))?")


class Schema(Protocol):
    """What is read of the metadata state."""

    @property
    def tables(self) -> Mapping[int, Table]:
        """All tables by id."""

    @property
    def keyspaces(self) -> Mapping[str, Keyspace]:
        """All keyspaces by name."""

    def table_across(self, family: str, name: str) -> Table | None:
        """The table of that name in any keyspace of a family."""


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """A bucket as operations need it: the table, the ids of its two columns, and how keys are laid out.

    `exact` says that the table has no other columns, so that a write of both replaces the row without a
    tombstone.
    """

    name: str
    keyspace: str
    table: int
    value_column: int
    content_type_column: int
    ordered: bool
    options: TableOptions
    factors: tuple[tuple[str, int], ...]
    exact: bool

    @property
    def default_ttl_s(self) -> int:
        """The TTL of a write that names none; 0 is for ever."""
        return self.options.default_ttl_s

    @property
    def replication_factor(self) -> int:
        """Replicas per row in the datacentre that has most."""
        return max((n for _, n in self.factors), default=0)


class BucketSpec(msgspec.Struct, frozen=True):
    """What a bucket is to be: `replication_factor` None means the cluster's default, `changes` None whatever
    it is.
    """

    name: str
    replication_factor: int | None = None
    default_ttl_s: int = 0
    ordered: bool = False
    changes: str | None = None

    def options(self, base: TableOptions) -> TableOptions:
        """`base` with what this says."""
        changes = base.changes if self.changes is None else self.changes
        return msgspec.structs.replace(base, default_ttl_s=self.default_ttl_s, changes=changes)


def check_name(name: str) -> Invalid | None:
    """Why `name` is no bucket name, or None."""
    if _NAME.fullmatch(name):
        return None
    rule = f"1 to {limits.NAME_CHARS_MAX} letters, digits, - or _, the first a letter or digit"
    return Invalid("bad_bucket_name", f"a bucket's name is {rule}; found {name[:60]!r}")


def check_ttl(ttl_s: int) -> Invalid | None:
    """Why `ttl_s` is no time to live, or None. 0 means for ever."""
    if 0 <= ttl_s <= limits.TTL_S_MAX:
        return None
    return Invalid("bad_ttl", f"a ttl is 0 (for ever) to {limits.TTL_S_MAX} seconds; found {ttl_s}")


def check_changes(changes: str | None) -> Invalid | None:
    """Why this is not what a table may keep for subscribers, or None. None leaves it as it is."""
    if changes is None or changes in CHANGES:
        return None
    return Invalid("bad_changes", f"changes is {', '.join(CHANGES)}; found {changes[:60]!r}")


def keyspace_of(spec: BucketSpec, default_factor: int) -> str:
    """The keyspace a bucket lives in."""
    if spec.replication_factor in (None, default_factor):
        return KEYSPACE
    return f"{KEYSPACE}_rf{spec.replication_factor}"


def replication_of(members: Sequence[Member], factor: int) -> Replication:
    """`factor` replicas in each datacentre, or as many as it has members."""
    sizes: dict[str, int] = {}
    for member in members:
        sizes[member.datacentre] = sizes.get(member.datacentre, 0) + 1
    return Replication(NETWORK_TOPOLOGY, tuple((name, min(factor, sizes[name])) for name in sorted(sizes)))


def create_bucket(
    spec: BucketSpec, members: Sequence[Member], default_factor: int = DEFAULT_FACTOR
) -> MetadataRequest | Invalid:
    """The schema change that makes this bucket if it is not there (whatever it then is: see `conflict`)."""
    problem = check_name(spec.name) or check_ttl(spec.default_ttl_s) or check_changes(spec.changes)
    if problem is not None:
        return problem
    factor = default_factor
    if spec.replication_factor is not None:
        factor = spec.replication_factor
        largest = max(replication_of(members, FACTOR_MAX).factors, key=lambda item: item[1], default=("", 0))[
            1
        ]
        if not 1 <= factor <= largest:
            detail = f"a replication factor is 1 to {largest}, the peers of a datacentre; found {factor}"
            return Invalid("bad_replication_factor", detail)
    keys: tuple[Column, ...] = (Column(0, "key", "text", PARTITION),)
    if spec.ordered:
        keys = (Column(0, "bucket", "text", PARTITION), Column(0, "key", "text", CLUSTERING))
    columns = (*keys, Column(0, "value", "blob", REGULAR), Column(0, "content_type", "text", REGULAR))
    change = CreateTable(
        keyspace_of(spec, default_factor),
        spec.name,
        columns,
        spec.options(TableOptions()),
        if_not_exists=True,
        unique_across=KEYSPACE,
        replication=replication_of(members, factor),
    )
    return MetadataRequest(change)


def conflict(bucket: Bucket, spec: BucketSpec) -> Invalid | None:
    """Why an existing bucket cannot become what `spec` says; None if at most its options differ."""
    if bucket.ordered != spec.ordered:
        kind = "ordered" if bucket.ordered else "not ordered"
        return Invalid(
            "bucket_exists", f"the bucket {bucket.name} exists and is {kind}; that cannot be changed"
        )
    if spec.replication_factor is not None and spec.replication_factor != bucket.replication_factor:
        detail = f"the bucket {bucket.name} exists with the replication factor {bucket.replication_factor}"
        return Invalid("bucket_exists", detail)
    return None


def alter_bucket(bucket: Bucket, spec: BucketSpec) -> MetadataRequest | Invalid:
    """The schema change that gives a bucket the options of `spec` (for later writes)."""
    problem = check_ttl(spec.default_ttl_s) or check_changes(spec.changes)
    if problem is not None:
        return problem
    only = ("default_ttl_s", *(() if spec.changes is None else ("changes",)))
    return MetadataRequest(AlterTable(bucket.keyspace, bucket.name, spec.options(bucket.options), only))


def drop_bucket(bucket: Bucket) -> MetadataRequest:
    """The schema change that removes a bucket and all that it holds."""
    return MetadataRequest(DropTable(bucket.keyspace, bucket.name, if_exists=True))


def bucket_of(table: Table, keyspace: Keyspace | None) -> Bucket | None:
    """The bucket that this table is, or None if it is something else (made by CQL in another shape)."""
    if _KEYSPACE.fullmatch(table.keyspace) is None or keyspace is None:
        return None
    keys = tuple((c.name, c.type, c.kind) for c in table.columns if c.kind in (PARTITION, CLUSTERING))
    ordered = keys == (("bucket", "text", PARTITION), ("key", "text", CLUSTERING))
    if not ordered and keys != (("key", "text", PARTITION),):
        return None
    value, content_type = table.column("value"), table.column("content_type")
    if value is None or value.type != "blob" or content_type is None or content_type.type != "text":
        return None
    return Bucket(
        table.name,
        table.keyspace,
        table.id,
        value.id,
        content_type.id,
        ordered,
        table.options,
        keyspace.replication.factors,
        len(table.columns) == len(keys) + 2,
    )


def find(schema: Schema, name: str) -> Bucket | None:
    """The bucket of that name, in whichever keyspace it lives."""
    table = schema.table_across(KEYSPACE, name)
    return None if table is None else bucket_of(table, schema.keyspaces.get(table.keyspace))


def every(schema: Schema) -> Iterable[Bucket]:
    """All buckets, by name."""
    found = (bucket_of(table, schema.keyspaces.get(table.keyspace)) for table in schema.tables.values())
    return sorted((bucket for bucket in found if bucket is not None), key=lambda bucket: bucket.name)
