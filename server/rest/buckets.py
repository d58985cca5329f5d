"""Buckets as REST has them: found by name, made on first use, described, altered, dropped."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from core.requests import Invalid, MetadataRequest
from core.schema import TableOptions
from kv import buckets as kv_buckets
from kv.buckets import Bucket, BucketSpec
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import decoded_body
from server.rest.families import RestFamily

BODY_BYTES_MAX: Final = 4096


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /v1/buckets/{bucket}. What is not said stays as it is."""

    replication_factor: int | None = None
    default_ttl_s: int | None = None
    ordered: bool | None = None
    changes: str | None = None
    changes_retention_s: int | None = None
    changes_retention_bytes: int | None = None


_decoder = msgspec.json.Decoder(_Body)


class Buckets(RestFamily[Bucket, BucketSpec]):
    """The buckets of the cluster."""

    made_by = "the first PUT"

    def __init__(self, node: Node, bridge: Bridge) -> None:
        super().__init__(node, bridge, kv_buckets.FAMILY)

    def spec(self, name: str) -> BucketSpec:
        """A bucket with the defaults."""
        return BucketSpec(name)

    def creation(self, spec: BucketSpec, default_factor: int) -> MetadataRequest | Invalid:
        """The schema change that makes a bucket."""
        return kv_buckets.create_bucket(spec, self._node.metadata.state.members, default_factor)

    def conflict(self, there: Bucket, spec: BucketSpec) -> Invalid | None:
        """Why a bucket that is there cannot become so."""
        return kv_buckets.conflict(there, spec)

    # --- /v1/buckets

    async def put(self, name: str, body: bytes) -> tuple[bool, dict[str, Any]]:
        """Have a bucket be so: whether it is new, and its description."""
        wanted = decoded_body(_decoder, body, "a bucket's description") if body.strip() else _Body()
        self.must_serve()
        spec = BucketSpec(
            name,
            replication_factor=wanted.replication_factor,
            default_ttl_s=wanted.default_ttl_s,
            ordered=wanted.ordered,
            changes=wanted.changes,
            changes_kept_s=wanted.changes_retention_s,
            changes_kept_bytes=wanted.changes_retention_bytes,
        )
        there = self.find(name)
        return there is None, describe(await self.be(there, spec))

    def listed(self) -> list[dict[str, Any]]:
        """All buckets."""
        return [describe(bucket) for bucket in self.every()]


def kept(options: TableOptions) -> dict[str, Any]:
    """How long changes are kept at least, and how many bytes of them, if the table says so itself."""
    kept_s, kept_bytes = options.changes_kept_s, options.changes_kept_bytes
    said = {"changes_retention_s": kept_s, "changes_retention_bytes": kept_bytes}
    return {name: value for name, value in said.items() if value}


def describe(bucket: Bucket) -> dict[str, Any]:
    """A bucket as JSON."""
    return {
        "bucket": bucket.name,
        "table": f"{bucket.keyspace}.{bucket.name}",
        "replication_factor": bucket.replication_factor,
        "default_ttl_s": bucket.default_ttl_s,
        "ordered": bucket.ordered,
        "changes": bucket.options.changes,
        **kept(bucket.options),
    }
