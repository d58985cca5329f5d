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
from collections.abc import Iterable, Sequence

import msgspec

from core import limits
from core.families import (
    DEFAULT_FACTOR,
    Schema,
    check_changes,
    check_kept,
    check_ttl,
    factor_of,
    kept_fields,
    kept_options,
    keyspace_of,
    replication_of,
)
from core.metadata import AlterTable, CreateTable, DropTable
from core.requests import Invalid, MetadataRequest
from core.schema import (
    CLUSTERING,
    PARTITION,
    REGULAR,
    Column,
    Keyspace,
    Member,
    Table,
    TableOptions,
)

KEYSPACE = "kv"

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
_KEYSPACE = re.compile(r"kv(?:_rf([1-9][0-9]?))?")


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
    """What a bucket is to be. None: whatever it is; of a new one, the default."""

    name: str
    replication_factor: int | None = None
    default_ttl_s: int | None = None
    ordered: bool | None = None
    changes: str | None = None
    changes_kept_s: int | None = None
    changes_kept_bytes: int | None = None

    @property
    def kept(self) -> tuple[str | None, int | None, int | None]:
        """What is said about changes."""
        return self.changes, self.changes_kept_s, self.changes_kept_bytes

    def options(self, base: TableOptions) -> TableOptions:
        """`base` with what this says."""
        found = kept_options(base, *self.kept)
        if self.default_ttl_s is None:
            return found
        return msgspec.structs.replace(found, default_ttl_s=self.default_ttl_s)

    def check(self) -> Invalid | None:
        """Why a bucket's options cannot be so, or None."""
        problem = None if self.default_ttl_s is None else check_ttl(self.default_ttl_s)
        return problem or check_changes(self.changes) or check_kept(*self.kept[1:])


def check_name(name: str) -> Invalid | None:
    """Why `name` is no bucket name, or None."""
    if _NAME.fullmatch(name):
        return None
    rule = f"1 to {limits.NAME_CHARS_MAX} letters, digits, - or _, the first a letter or digit"
    return Invalid("bad_bucket_name", f"a bucket's name is {rule}; found {name[:60]!r}")


def create_bucket(
    spec: BucketSpec, members: Sequence[Member], default_factor: int = DEFAULT_FACTOR
) -> MetadataRequest | Invalid:
    """The schema change that makes this bucket if it is not there (whatever it then is: see `conflict`)."""
    problem = check_name(spec.name) or spec.check()
    if problem is not None:
        return problem
    factor = factor_of(spec.replication_factor, members, default_factor)
    if isinstance(factor, Invalid):
        return factor
    keys: tuple[Column, ...] = (Column(0, "key", "text", PARTITION),)
    if spec.ordered:
        keys = (Column(0, "bucket", "text", PARTITION), Column(0, "key", "text", CLUSTERING))
    columns = (*keys, Column(0, "value", "blob", REGULAR), Column(0, "content_type", "text", REGULAR))
    change = CreateTable(
        keyspace_of(KEYSPACE, spec.replication_factor, default_factor),
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
    if spec.ordered not in (None, bucket.ordered):
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
    problem = spec.check()
    if problem is not None:
        return problem
    only = (*(("default_ttl_s",) if spec.default_ttl_s is not None else ()), *kept_fields(*spec.kept))
    assert only, "something is said"
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
