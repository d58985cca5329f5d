"""Buckets: what a key-value bucket is among keyspaces and tables.

A bucket is a table whose rows are keys, so every other door (CQL, the change stream, an index) sees the same
data:

    kv.NAME         (key text PRIMARY KEY, value blob, content_type text)
    kv.NAME ordered (bucket text, key text, value blob, content_type text, PRIMARY KEY (bucket, key))

An ordered bucket is one partition, so it lists in key order and lives on one set of replicas. A bucket with
another replication factor than the cluster's default lives in the keyspace `kv_rfN`. What buckets and
collections have in common is in core/families.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.families import DEFAULT_FACTOR, Family, FamilyTable, TableSpec
from core.requests import Invalid, MetadataRequest
from core.schema import CLUSTERING, PARTITION, REGULAR, Column, Keyspace, Member, Table

KEYSPACE = "kv"


class Bucket(FamilyTable, frozen=True, gc=False, kw_only=True):
    """A bucket as operations need it: the table, the ids of its two columns, and how keys are laid out.

    `exact` says that the table has no other columns, so that a write of both replaces the row without a
    tombstone.
    """

    value_column: int
    content_type_column: int
    ordered: bool
    exact: bool


class BucketSpec(TableSpec, frozen=True):
    """What a bucket is to be. None: whatever it is; of a new one, the default."""

    ordered: bool | None = None


def create_bucket(
    spec: BucketSpec, members: Sequence[Member], default_factor: int = DEFAULT_FACTOR
) -> MetadataRequest | Invalid:
    """The schema change that makes this bucket if it is not there (whatever it then is: see `conflict`)."""
    keys: tuple[Column, ...] = (Column(0, "key", "text", PARTITION),)
    if spec.ordered:
        keys = (Column(0, "bucket", "text", PARTITION), Column(0, "key", "text", CLUSTERING))
    columns = (*keys, Column(0, "value", "blob", REGULAR), Column(0, "content_type", "text", REGULAR))
    return FAMILY.create(spec, columns, members, default_factor)


def conflict(bucket: Bucket, spec: BucketSpec) -> Invalid | None:
    """Why an existing bucket cannot become what `spec` says; None if at most its options differ."""
    if spec.ordered not in (None, bucket.ordered):
        kind = "ordered" if bucket.ordered else "not ordered"
        return Invalid(
            "bucket_exists", f"the bucket {bucket.name} exists and is {kind}; that cannot be changed"
        )
    return FAMILY.conflict(bucket, spec)


def _recognised(table: Table, keyspace: Keyspace) -> Bucket | None:
    keys = tuple((c.name, c.type, c.kind) for c in table.columns if c.kind in (PARTITION, CLUSTERING))
    if any(c.descending for c in table.columns):
        return None
    ordered = keys == (("bucket", "text", PARTITION), ("key", "text", CLUSTERING))
    if not ordered and keys != (("key", "text", PARTITION),):
        return None
    value, content_type = table.column("value"), table.column("content_type")
    if value is None or (value.type, value.kind) != ("blob", REGULAR):
        return None
    if content_type is None or (content_type.type, content_type.kind) != ("text", REGULAR):
        return None
    return Bucket(
        name=table.name,
        keyspace=table.keyspace,
        table=table.id,
        options=table.options,
        factors=keyspace.replication.factors,
        value_column=value.id,
        content_type_column=content_type.id,
        ordered=ordered,
        exact=len(table.columns) == len(keys) + 2,
    )


FAMILY = Family(KEYSPACE, "bucket", _recognised)
check_name, alter_bucket, drop_bucket = FAMILY.check_name, FAMILY.alter, FAMILY.drop
bucket_of, find, every = FAMILY.of, FAMILY.find, FAMILY.every
